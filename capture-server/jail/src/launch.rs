//! Makes one jail: prepares, clones, waits for the child's reports, and owns the result until it is dead and reaped.
//!
//! In: the jailer's settings and a valid request. Out: a [`Jail`] with the descriptors for the server, or the failed step.
//! It must not leave anything behind on failure: process reaped, profile removed, descriptors closed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, waitpid};

use crate::child::{self, Layers, Plan};
use crate::facts::{LandlockFacts, SecretFacts};
use crate::inside::Trial;
use crate::inspect;
use crate::last_words;
use crate::profile::Profile;
use crate::protocol::{EARLY_DEATH_MS, Exit, ExitCause, JailError, Mode, SandboxReason, SpawnSpec, Step};
use crate::report::{self, Report};
use crate::sys::{self, Side};

/// The child has this long from clone to exec (some milliseconds in the measurements). With [`REAP`] it is less than the
/// peer waits, which hears of a child that is stuck, and does not take the jailer for dead.
const SETUP: Duration = Duration::from_secs(4);
/// A killed jail has this long until it is reaped (tens of milliseconds in the measurements); then it is kept as [`Late`].
const REAP: Duration = Duration::from_secs(5);

/// What is the same for every jail.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The browser's binary.
    pub browser: PathBuf,
    /// Where profile directories are made.
    pub profile_root: PathBuf,
    /// Where Secrets lie, besides where a pod has them: each jail tries whether it can open them.
    pub secrets: Vec<PathBuf>,
    /// Whether the browser's log goes to the jailer's standard error, and not to a pipe of which nothing is kept.
    pub keep_stderr: bool,
    /// Bytes that all jails together may hold, where no container bounds them.
    pub memory_limit: Option<u64>,
    /// Which layers are on: all, outside of tests.
    pub layers: Layers,
    /// Names of switches that the browser does not get: none, outside of tests.
    pub withheld: Vec<String>,
}

/// A jail that was started.
#[derive(Debug)]
pub struct Jail {
    /// Its pid 1, seen from here.
    pub pid: Pid,
    /// Becomes readable when it has ended.
    pub pidfd: OwnedFd,
    /// Whether it has no namespaces.
    pub degraded: bool,
    /// What Landlock enforces on it.
    pub landlock: LandlockFacts,
    /// What it could open from inside.
    pub secrets: SecretFacts,
    /// Its proxy's ports.
    pub ports: Vec<u16>,
    /// A socket of its network, to ask what else answers there; none if it has no network of its own.
    pub inward: Option<OwnedFd>,
    /// Bytes of anonymous and shared memory at which the watchdog ends it.
    pub memory_budget: u64,
    /// When it was cloned.
    pub started: Instant,
    log: Option<OwnedFd>,
    _profile: Profile,
}

/// The server's ends.
#[derive(Debug)]
pub struct Ends {
    /// CDP from the browser.
    pub cdp_read: OwnedFd,
    /// CDP to the browser.
    pub cdp_write: OwnedFd,
    /// One listening socket per port.
    pub listeners: Vec<OwnedFd>,
    /// Ports in the jail.
    pub ports: Vec<u16>,
}

/// Jails that were killed and had not ended in time: the kernel was busy with them. They are reaped when they have.
#[derive(Debug, Default)]
pub struct Late(Vec<Jail>);

impl Late {
    /// Reaps those that have ended by now, and removes their profiles.
    pub fn look(&mut self) {
        self.0.retain(|jail| matches!(jail.reap(Duration::ZERO), Ok(None)));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Starts a jail. Where user namespaces are refused, and only then, [`Mode::Degraded`] gets one without. One that fails and
/// does not end goes to `late`.
///
/// # Errors
/// The failed step and what it means.
pub fn launch(settings: &Settings, spec: &SpawnSpec, late: &mut Late) -> Result<(Jail, Ends), JailError> {
    if !spec.is_valid() {
        return Err(JailError {
            step: Step::Request,
            errno: None,
            reason: SandboxReason::BadRequest,
        });
    }
    match attempt(settings, spec, settings.layers, late) {
        Err(JailError {
            reason: SandboxReason::UserNamespacesBlocked(_),
            ..
        }) if spec.mode == Mode::Degraded => attempt(
            settings,
            spec,
            Layers {
                namespaces: false,
                ..settings.layers
            },
            late,
        ),
        other => other,
    }
}

fn attempt(settings: &Settings, spec: &SpawnSpec, layers: Layers, late: &mut Late) -> Result<(Jail, Ends), JailError> {
    let fail = |step: Step| move |error: io::Error| child::classify(step, &error);
    let profile = Profile::create(&settings.profile_root).map_err(fail(Step::ProfileDirectory))?;
    let pipe = || {
        pipe_with(PipeFlags::CLOEXEC)
            .map_err(io::Error::from)
            .map_err(fail(Step::Pipes))
    };
    let (browser_in, cdp_write) = pipe()?;
    let (cdp_read, browser_out) = pipe()?;
    let (ours, theirs) = report::channel().map_err(fail(Step::Pipes))?;
    let log = (!settings.keep_stderr).then(last_words::pipe).transpose();
    let (log, said) = log.map_err(fail(Step::Pipes))?.unzip();
    let trial = Trial::new(&settings.secrets);
    let plan = Plan {
        program: &settings.browser,
        profile: profile.path(),
        spec,
        layers,
        withheld: &settings.withheld,
        trial: &trial,
        log: said.as_ref(),
        ids: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    let namespaces = if layers.namespaces { sys::JAIL_NAMESPACES } else { 0 };
    let started = Instant::now();
    let pid = match sys::clone_process(namespaces).map_err(fail(Step::Clone))? {
        Side::Child => child::run(&plan, (browser_in, browser_out), theirs),
        Side::Parent(pid) => pid,
    };
    drop((browser_in, browser_out, theirs, said));
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            end_unwatched(pid);
            return Err(fail(Step::Pipes)(error.into()));
        }
    };
    let memory_budget = u64::from(spec.memory_budget_mb) << 20;
    let degraded = !layers.namespaces;
    let mut jail = Jail {
        pid,
        pidfd,
        degraded,
        landlock: LandlockFacts::default(),
        secrets: SecretFacts::default(),
        ports: Vec::new(),
        inward: None,
        memory_budget,
        started,
        log,
        _profile: profile,
    };
    match follow(&ours, started + SETUP) {
        Ok(followed) => {
            (jail.landlock, jail.secrets) = followed.confined;
            jail.ports.clone_from(&followed.ports);
            jail.inward = followed.inward.filter(|_| !degraded);
            let Followed { listeners, ports, .. } = followed;
            Ok((
                jail,
                Ends {
                    cdp_read,
                    cdp_write,
                    listeners,
                    ports,
                },
            ))
        }
        Err(error) => {
            jail.end(ExitCause::Killed, late);
            Err(error)
        }
    }
}

/// Without a pidfd (no descriptors left) there is only the pid, which is ours until it is waited for.
fn end_unwatched(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

/// What a child has reported by the time that its browser runs.
struct Followed {
    confined: (LandlockFacts, SecretFacts),
    listeners: Vec<OwnedFd>,
    inward: Option<OwnedFd>,
    ports: Vec<u16>,
}

/// Reads the child's reports until exec closes the channel.
fn follow(channel: &OwnedFd, deadline: Instant) -> Result<Followed, JailError> {
    let lost = JailError {
        step: Step::Report,
        errno: None,
        reason: SandboxReason::ChildLost,
    };
    let (mut confined, mut listeners, mut inward, mut ports) = (None, Vec::new(), None, Vec::new());
    for _ in 0..4 {
        match report::receive(channel, timespec(deadline.saturating_duration_since(Instant::now()))) {
            Ok(Some((Report::Listening(reported), fds))) => {
                (listeners, ports) = (fds, reported);
                inward = listeners.pop();
            }
            Ok(Some((Report::Confined(landlock, secrets), _))) => confined = Some((landlock, secrets)),
            Ok(Some((Report::Failed(error), _))) => return Err(error),
            Ok(None) => {
                let complete = listeners.len() == ports.len() && !ports.is_empty();
                let confined = confined.filter(|_| complete).ok_or(lost)?;
                return Ok(Followed {
                    confined,
                    listeners,
                    inward,
                    ports,
                });
            }
            Err(error) => {
                return Err(JailError {
                    errno: error.raw_os_error(),
                    ..lost
                });
            }
        }
    }
    Err(lost)
}

/// A duration for poll.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

impl Jail {
    /// Whether its pid 1 has ended by itself.
    pub fn has_ended(&self) -> bool {
        let mut ready = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut ready, Some(&timespec(Duration::ZERO))), Ok(1))
    }

    /// Ends it for good: everything killed, reaped, the profile removed, or left to `late`. `cause` is why, if it still lived.
    pub fn end(mut self, cause: ExitCause, late: &mut Late) -> Exit {
        let lived_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let cause = match (self.has_ended(), lived_ms < EARLY_DEATH_MS) {
            (false, _) => cause,
            (true, true) => ExitCause::DiedEarly,
            (true, false) => ExitCause::Died,
        };
        // The kernel kills a pid namespace with its pid 1; without one every process has to be found.
        if self.degraded {
            inspect::descendants(self.pid.as_raw_pid()).into_iter().for_each(kill);
        }
        let _ = kill_process(self.pid, Signal::KILL);
        let reaped = self.reap(REAP);
        let status = reaped.ok().flatten();
        let exit = Exit {
            cause,
            code: status.and_then(WaitStatus::exit_status),
            signal: status.and_then(WaitStatus::terminating_signal),
            lived_ms,
            starved: self.log.take().is_some_and(last_words::lacked_room),
        };
        if matches!(reaped, Ok(None)) {
            late.0.push(self);
        }
        exit
    }

    /// Waits for its end at most so long. `None`: it goes on; an error: somebody else has reaped it.
    fn reap(&self, patience: Duration) -> Result<Option<WaitStatus>, Errno> {
        let mut ready = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = poll(&mut ready, Some(&timespec(patience)));
        // waitpid by pid: exactly this child, so that no other jail's exit is swallowed.
        let waited = waitpid(Some(self.pid), WaitOptions::NOHANG)?;
        Ok(waited.map(|(_, status)| status))
    }
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Ends what a dead degraded jail left behind: the jailer is the subreaper, so every child of it that is not the pid 1 of a
/// living jail is a stray. Bounded rounds, because a hostile one forks while it is hunted.
pub fn end_strays(living: &[i32]) {
    for _ in 0..50 {
        let strays = inspect::strays(living);
        if strays.is_empty() {
            return;
        }
        for pid in strays {
            kill(pid);
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
