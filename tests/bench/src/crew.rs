//! The arms' processes, seen from the orchestrator.
//!
//! In: which arm. Out: a [`Member`] that takes orders. Each has a process of its own, and a control group where this
//! user may make one, so that its CPU is known. Must not: wait without end for an arm.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use clap::ValueEnum as _;

use crate::Failure;
use crate::arm::{Isolation, Kind, Setup};
use crate::meter;
use crate::protocol::{Hello, Order, Report};
use crate::worker::group_argument;

/// No order takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an arm may take to end once its input has.
const END: Duration = Duration::from_secs(10);

/// Which arm, with its isolation if it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArmName {
    /// What is driven.
    pub kind: Kind,
    /// How the service keeps captures apart. `raw` has nothing to choose.
    pub isolation: Option<Isolation>,
    /// Who it is, if it is a service of another make.
    pub peer: Option<Peer>,
}

/// A service of another make: `NAME=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// What it is called in the tables.
    pub name: String,
    /// The shell's command that starts the program which speaks [`crate::protocol`].
    pub command: String,
}

impl std::str::FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !command.is_empty() => Ok(Self {
                name: name.to_owned(),
                command: command.to_owned(),
            }),
            _ => Err("must be NAME=COMMAND"),
        }
    }
}

impl ArmName {
    /// An arm without a service.
    pub const RAW: Self = Self {
        kind: Kind::Raw,
        isolation: None,
        peer: None,
    };

    /// All arms of a build that knows these isolations, and the peers.
    pub fn all(isolations: &[Isolation], peers: &[Peer]) -> Vec<Self> {
        let mut all = vec![
            Self::RAW,
            Self {
                kind: Kind::RawWarm,
                isolation: None,
                peer: None,
            },
        ];
        for isolation in isolations {
            for kind in [Kind::Engine, Kind::Http] {
                all.push(Self {
                    kind,
                    isolation: Some(*isolation),
                    peer: None,
                });
            }
        }
        all.extend(peers.iter().map(|peer| Self {
            kind: Kind::Peer,
            isolation: None,
            peer: Some(peer.clone()),
        }));
        all
    }

    /// The word for reports.
    pub fn word(&self) -> String {
        if let Some(peer) = &self.peer {
            return format!("peer {}", peer.name);
        }
        let kind = kind_word(self.kind);
        self.isolation
            .map_or_else(|| kind.clone(), |isolation| format!("{kind} {}", isolation.word()))
    }
}

fn kind_word(kind: Kind) -> String {
    kind.to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// A running arm.
pub struct Member {
    /// What it said first.
    pub hello: Hello,
    process: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    group: Option<PathBuf>,
}

impl Member {
    /// Starts an arm of this program; returns once it takes orders.
    pub fn start(name: &ArmName, setup: &Setup) -> Result<Self, Failure> {
        let word = name.word();
        let group = meter::make_group(&word.replace(' ', "-"));
        if let Some(peer) = &name.peer {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec {}", peer.command)]);
            if let Some(group) = &group {
                command.env("BENCH_CGROUP", group);
            }
            return Self::speak_to(command, group).map_err(|error| format!("{word}: {error}").into());
        }
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["arm", &kind_word(name.kind)])
            .args(["--site", &setup.site.to_string()])
            .args(["--deadline-ms", &setup.deadline_ms.to_string()])
            .arg("--browser")
            .arg(&setup.browser)
            .arg("--programs")
            .arg(&setup.programs);
        if let Some(isolation) = name.isolation.and_then(|isolation| isolation.to_possible_value()) {
            command.args(["--isolation", isolation.get_name()]);
        }
        command.args(group.as_deref().map(group_argument).into_iter().flatten());
        Self::speak_to(command, group).map_err(|error| format!("{word}: {error}").into())
    }

    fn speak_to(mut command: Command, group: Option<PathBuf>) -> Result<Self, Failure> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, output) = (process.stdin.take(), process.stdout.take());
        let output = output.ok_or("no output")?;
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut member = Self {
            hello: Hello {
                browser: String::new(),
                ready_ms: 0.0,
                service: process.id(),
            },
            process,
            orders,
            answers,
            group,
        };
        member.hello = serde_json::from_str(&member.answer()?)?;
        Ok(member)
    }

    fn answer(&self) -> Result<String, Failure> {
        Ok(self
            .answers
            .recv_timeout(PATIENCE)
            .map_err(|_| "the arm does not answer")?)
    }

    /// Has an order carried out.
    pub fn carry_out(&mut self, order: &Order) -> Result<Report, Failure> {
        self.send(order)?;
        self.report()
    }

    /// Gives an order without waiting for its report.
    pub fn send(&mut self, order: &Order) -> Result<(), Failure> {
        let orders = self.orders.as_mut().ok_or("the arm has ended")?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        Ok(orders.write_all(&line).and_then(|()| orders.flush())?)
    }

    /// Waits for the report of an order.
    pub fn report(&self) -> Result<Report, Failure> {
        Ok(serde_json::from_str(&self.answer()?)?)
    }

    /// The most memory in bytes that its control group has held; `None` if nobody counts it.
    pub fn highest_memory(&self) -> Option<f64> {
        meter::highest_memory(self.group.as_deref()?)
    }

    /// Whether its report is there.
    pub fn try_report(&self) -> Option<Result<Report, Failure>> {
        let line = self.answers.try_recv().ok()?;
        Some(serde_json::from_str(&line).map_err(Failure::from))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The end of its input is the end of its work.
        drop(self.orders.take());
        let until = Instant::now() + END;
        while Instant::now() < until && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(group) = &self.group {
            meter::remove_group(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_a_command_and_takes_part_after_our_own_arms() {
        let peer: Peer = "other=./speak --port=1".parse().unwrap();
        assert_eq!(
            (peer.name.as_str(), peer.command.as_str()),
            ("other", "./speak --port=1")
        );
        for wrong in ["", "other", "=x", "other="] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
        let all = ArmName::all(&[], &[peer]);
        assert_eq!(all.last().map(ArmName::word).as_deref(), Some("peer other"));
    }

    #[test]
    fn a_peer_is_heard_over_the_protocol() {
        let hello = r#"{"browser":"Other/1","ready_ms":5.0,"service":1}"#;
        let name = ArmName {
            kind: Kind::Peer,
            isolation: None,
            peer: Some(Peer {
                name: "other".into(),
                command: format!("printf '%s\\n' '{hello}'"),
            }),
        };
        let setup = Setup {
            browser: PathBuf::new(),
            programs: PathBuf::new(),
            site: "127.0.0.1:1".parse().unwrap(),
            deadline_ms: 1,
            isolation: Isolation::PerCapture,
        };
        let member = Member::start(&name, &setup).unwrap();
        assert_eq!(member.hello.browser, "Other/1");
        assert!(member.report().is_err());
    }
}
