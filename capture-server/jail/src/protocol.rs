//! What the server and the jailer say to each other.
//!
//! In and out: one frame per message, a big-endian `u32` length and that many bytes of JSON (at most [`MAX_FRAME`]).
//! Every message carries [`VERSION`] and the number of its request; unknown fields are refused on both sides. File
//! descriptors travel beside the first byte of the answer to `spawn` (SCM_RIGHTS).
//! It must not carry a program path or a free-form argument: what is executed is the jailer's own decision.

use std::fmt;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use crate::error::{Blocker, JailError, SandboxReason, Step};
pub use crate::facts::{JailFacts, JailerFacts, LandlockFacts, PortFacts, ProcessFacts, Role, SecretFacts};

/// The protocol's version; a peer that speaks another is refused.
pub const VERSION: u32 = 6;
/// The longest frame, in bytes, without its four bytes of length.
pub const MAX_FRAME: usize = 64 * 1024;
/// The most listeners (browser contexts) a jail can have.
pub const MAX_CONTEXTS: u16 = 16;
/// The most jails one jailer holds at a time.
pub const MAX_JAILS: usize = 64;

/// Names a jail for the life of one connection; never used twice by one jailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JailId(pub u64);

impl fmt::Display for JailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What to do where user namespaces are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No namespaces, no browser.
    #[default]
    Required,
    /// Falls back to Landlock alone and a browser without its own sandbox, but only if the clone is refused.
    Degraded,
}

/// A wish for one jail. The program and its flags are the jailer's; only these numbers are the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnSpec {
    /// Listening sockets to make inside the jail, `1..=MAX_CONTEXTS`. The first is the browser's own proxy, which
    /// should refuse everything; the others are for one browser context each.
    pub contexts: u16,
    /// What to do where user namespaces are refused.
    pub mode: Mode,
    /// V8's old-space limit per renderer in MiB, `64..=4096`; V8's own default if absent.
    pub max_old_space_mb: Option<u16>,
    /// RLIMIT_DATA of each process in MiB, `200..=8192`.
    pub data_limit_mb: u32,
    /// SHA-256 of the one key (SubjectPublicKeyInfo) whose certificates the browser takes whatever they say: the proxy's,
    /// behind which the real ones are checked. None if absent.
    pub accepted_key: Option<[u8; 32]>,
    /// Anonymous and shared memory of the whole jail in MiB at which the watchdog kills it, `256..=65536`.
    pub memory_budget_mb: u32,
}

impl SpawnSpec {
    /// A jail with the tested limits and `contexts` listeners.
    pub fn new(contexts: u16, mode: Mode) -> Self {
        Self {
            contexts,
            mode,
            max_old_space_mb: None,
            accepted_key: None,
            data_limit_mb: 700,
            memory_budget_mb: 1024,
        }
    }

    /// Whether every number lies in its range.
    pub fn is_valid(&self) -> bool {
        (1..=MAX_CONTEXTS).contains(&self.contexts)
            && self.max_old_space_mb.is_none_or(|mb| (64..=4096).contains(&mb))
            && (200..=8192).contains(&self.data_limit_mb)
            && (256..=65_536).contains(&self.memory_budget_mb)
    }
}

/// One question of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Must be [`VERSION`].
    pub version: u32,
    /// Comes back in the answer.
    pub number: u64,
    /// What is asked.
    pub call: Call,
}

/// The four things that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Build a jail and start the browser in it.
    Spawn(SpawnSpec),
    /// Kill a jail with everything in it; answers once it is reaped. A dead jail's exit can be asked for this way too.
    Kill {
        /// Which.
        jail: JailId,
    },
    /// What a jail uses.
    Stats {
        /// Which.
        jail: JailId,
    },
    /// What confines a jail, or with no jail only the jailer itself.
    Facts {
        /// Which.
        jail: Option<JailId>,
    },
}

/// One answer of the jailer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Must be [`VERSION`].
    pub version: u32,
    /// The request's number.
    pub number: u64,
    /// The answer.
    pub outcome: Outcome,
}

/// An answer or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Started. Beside it: the CDP read end, the CDP write end, then one listening socket per port, in order.
    Spawned {
        /// The new jail.
        jail: JailId,
        /// Ports on the jail's own 127.0.0.1.
        ports: Vec<u16>,
        /// Whether the fallback of [`Mode::Degraded`] was taken.
        degraded: bool,
    },
    /// Dead and reaped, its profile directory removed.
    Killed(Exit),
    /// What it uses.
    Stats(JailStats),
    /// What confines it.
    Facts(JailFacts),
    /// Not done.
    Failed(JailError),
}

/// How a jail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// Why.
    pub cause: ExitCause,
    /// The browser's exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Milliseconds it lived.
    pub lived_ms: u64,
    /// Whether it said that it could not have another thread or process. Its own word.
    pub starved: bool,
}

impl Exit {
    /// Why a browser that was wanted did not come up, if its end tells.
    pub fn failed_start(&self) -> Option<&'static str> {
        match self.cause {
            _ if self.starved => Some(SandboxReason::PidLimit.reason()),
            ExitCause::Killed => None,
            cause => Some(cause.reason()),
        }
    }
}

/// Why a jail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// It was asked for.
    Killed,
    /// The browser ended by itself within [`EARLY_DEATH_MS`]: a pid limit, a missing library, a refused sandbox.
    DiedEarly,
    /// The browser ended by itself later.
    Died,
    /// The watchdog: the jail's memory went over its budget, or it held most when the container's ran out.
    MemoryBudget,
    /// The watchdog: the jail had more processes and threads than it may.
    TaskBudget,
}

/// A browser that dies younger than this (milliseconds) never really started.
pub const EARLY_DEATH_MS: u64 = 5_000;

impl ExitCause {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Killed,
        Self::DiedEarly,
        Self::Died,
        Self::MemoryBudget,
        Self::TaskBudget,
    ];

    /// A bounded word for logs, events and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Killed => "Killed",
            Self::DiedEarly => "BrowserDiedEarly",
            Self::Died => "BrowserDied",
            Self::MemoryBudget => "MemoryBudget",
            Self::TaskBudget => "TaskBudget",
        }
    }
}

/// What a jail uses at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailStats {
    /// Milliseconds since its start.
    pub age_ms: u64,
    /// Processes.
    pub processes: u32,
    /// Threads of all processes (what podPidsLimit counts).
    pub tasks: u32,
    /// Anonymous memory in bytes, summed over the processes.
    pub anonymous_bytes: u64,
    /// Shared memory in bytes: of the process that has most of it. The budget is of both.
    pub shared_bytes: u64,
    /// CPU time in milliseconds of the processes that live now.
    pub cpu_ms: u64,
    /// Set if the jail is dead.
    pub exit: Option<Exit>,
}

/// A frame's bytes: length, then JSON.
///
/// # Errors
/// `InvalidData` if the message would be longer than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "frame too long"))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The length of the body that follows a header.
///
/// # Errors
/// `InvalidData` if it is longer than [`MAX_FRAME`].
pub fn body_length(header: [u8; 4]) -> io::Result<usize> {
    usize::try_from(u32::from_be_bytes(header))
        .ok()
        .filter(|length| *length <= MAX_FRAME)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "frame too long"))
}

/// Reads one frame.
///
/// # Errors
/// The reader's; `InvalidData` for a frame that is too long or does not parse.
pub fn read_frame<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<T> {
    let mut header = [0; 4];
    reader.read_exact(&mut header)?;
    let mut body = vec![0; body_length(header)?];
    reader.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Writes one frame.
///
/// # Errors
/// The writer's; `InvalidData` for a message that is too long.
pub fn write_frame<T: Serialize>(writer: &mut impl Write, message: &T) -> io::Result<()> {
    writer.write_all(&encode(message)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(call: Call) -> Request {
        Request {
            version: VERSION,
            number: 7,
            call,
        }
    }

    #[test]
    fn a_frame_comes_back_as_it_was() {
        for call in [
            Call::Spawn(SpawnSpec::new(4, Mode::Required)),
            Call::Spawn(SpawnSpec {
                accepted_key: Some([0xab; 32]),
                ..SpawnSpec::new(4, Mode::Required)
            }),
            Call::Kill { jail: JailId(3) },
            Call::Stats { jail: JailId(3) },
            Call::Facts { jail: None },
        ] {
            let sent = request(call);
            let mut bytes = Vec::new();
            write_frame(&mut bytes, &sent).unwrap();
            assert_eq!(read_frame::<Request>(&mut bytes.as_slice()).unwrap(), sent);
        }
    }

    #[test]
    fn an_unknown_field_is_refused_at_every_level() {
        for text in [
            r#"{"version":5,"number":1,"call":{"kill":{"jail":1}},"more":1}"#,
            r#"{"version":5,"number":1,"call":{"kill":{"jail":1,"more":1}}}"#,
            r#"{"version":5,"number":1,"call":{"spawn":{"contexts":1,"mode":"required","max_old_space_mb":null,"data_limit_mb":700,"memory_budget_mb":1024,"program":"/bin/sh"}}}"#,
            r#"{"version":5,"number":1,"call":{"exec":{}}}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_32_numbers_and_nothing_else() {
        let text = |key: &str| {
            format!(
                r#"{{"version":5,"number":1,"call":{{"spawn":{{"contexts":1,"mode":"required","max_old_space_mb":null,"accepted_key":{key},"data_limit_mb":700,"memory_budget_mb":1024}}}}}}"#
            )
        };
        let numbers = |count: usize, number: u32| serde_json::to_string(&vec![number; count]).unwrap();
        assert!(serde_json::from_str::<Request>(&text(&numbers(32, 255))).is_ok());
        for bad in [
            numbers(31, 255),
            numbers(33, 255),
            numbers(32, 256),
            "\"--no-sandbox\"".to_owned(),
            "{}".to_owned(),
        ] {
            assert!(serde_json::from_str::<Request>(&text(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_frame_longer_than_the_limit_is_refused_before_it_is_read() {
        let mut bytes = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let error = read_frame::<Request>(&mut bytes.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(encode(&"x".repeat(MAX_FRAME)).is_err());
    }

    #[test]
    fn a_start_that_failed_is_named_by_its_end_unless_that_was_asked_for() {
        let exit = |cause, starved| Exit {
            cause,
            starved,
            code: None,
            signal: None,
            lived_ms: 1,
        };
        for (cause, starved, reason) in [
            (ExitCause::DiedEarly, true, Some("PidLimit")),
            (ExitCause::Killed, true, Some("PidLimit")),
            (ExitCause::DiedEarly, false, Some("BrowserDiedEarly")),
            (ExitCause::MemoryBudget, false, Some("MemoryBudget")),
            (ExitCause::TaskBudget, false, Some("TaskBudget")),
            (ExitCause::Killed, false, None),
        ] {
            assert_eq!(exit(cause, starved).failed_start(), reason);
        }
    }

    #[test]
    fn a_spec_is_valid_only_inside_its_ranges() {
        let good = SpawnSpec::new(MAX_CONTEXTS, Mode::Required);
        assert!(good.is_valid());
        let contexts = |contexts| SpawnSpec {
            contexts,
            ..good.clone()
        };
        let heap = |mb| SpawnSpec {
            max_old_space_mb: Some(mb),
            ..good.clone()
        };
        let data = |data_limit_mb| SpawnSpec {
            data_limit_mb,
            ..good.clone()
        };
        let budget = |memory_budget_mb| SpawnSpec {
            memory_budget_mb,
            ..good.clone()
        };
        for bound in [
            contexts(1),
            contexts(MAX_CONTEXTS),
            heap(64),
            heap(4096),
            data(200),
            data(8192),
            budget(256),
            budget(65_536),
        ] {
            assert!(bound.is_valid(), "{bound:?}");
        }
        for bad in [
            contexts(0),
            contexts(MAX_CONTEXTS + 1),
            heap(1),
            heap(63),
            heap(4097),
            data(120),
            data(199),
            data(8193),
            budget(0),
            budget(255),
            budget(65_537),
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
