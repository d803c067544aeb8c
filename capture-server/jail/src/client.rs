//! The server's side of the jailer's socket.
//!
//! In: the socket's path and typed requests. Out: descriptors of a started browser, exits, statistics, facts.
//! Blocking, one request at a time, every wait bounded: an async caller gives it a thread of its own.
//! It must not start a process, and after a timeout the connection is never used again (answers could be mixed up).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::protocol::{
    self, Call, Exit, JailError, JailFacts, JailId, JailStats, MAX_CONTEXTS, Outcome, Request, Response, SpawnSpec,
    VERSION,
};

/// How long the short requests (kill, stats, facts) may take.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a jail may take to be built. The jailer gives up before that, and says so.
pub const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_FDS: usize = 2 + MAX_CONTEXTS as usize;

/// A started jail. Dropping the descriptors ends the browser (its CDP pipe closes), but only `kill` removes the jail.
#[derive(Debug)]
pub struct Spawned {
    /// Its name.
    pub id: JailId,
    /// What the browser says: NUL-separated JSON.
    pub cdp_read: OwnedFd,
    /// What the browser is told: NUL-separated JSON.
    pub cdp_write: OwnedFd,
    /// Listening TCP sockets inside the jail, each with its port on the jail's 127.0.0.1.
    pub listeners: Vec<(OwnedFd, u16)>,
    /// Whether this jail has no namespaces and its browser no sandbox.
    pub degraded: bool,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket's path does not exist: the jailer has not started, or serves somebody.
    #[error("the jailer's socket is not there")]
    Absent,
    /// Something is at the path but takes no connection.
    #[error("the jailer refused the connection")]
    Refused,
    /// The jailer is gone or did not answer in time; connect anew.
    #[error("the connection to the jailer has ended")]
    Closed,
    /// The jailer said something that is not an answer.
    #[error("the jailer broke the protocol")]
    Protocol,
    /// The jailer's own answer.
    #[error(transparent)]
    Jail(#[from] JailError),
}

impl ClientError {
    /// A bounded word for logs, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Absent => "JailerAbsent",
            Self::Refused => "JailerRefused",
            Self::Closed => "JailerClosed",
            Self::Protocol => "JailerProtocol",
            Self::Jail(error) => error.reason(),
        }
    }
}

/// The one connection to the jailer. Dropping it kills every jail.
#[derive(Debug)]
pub struct Jailer {
    stream: UnixStream,
    next: u64,
    broken: bool,
}

impl Jailer {
    /// Connects.
    ///
    /// # Errors
    /// `Absent` while the path is not there, `Refused` for any other failure.
    #[expect(clippy::disallowed_methods, reason = "the jailer's socket")]
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Self {
                stream,
                next: 1,
                broken: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ClientError::Absent),
            Err(_) => Err(ClientError::Refused),
        }
    }

    /// Builds a jail and starts its browser; answers as soon as the browser's binary runs.
    ///
    /// # Errors
    /// `Jail` with the failed step; the connection's.
    pub fn spawn(&mut self, spec: &SpawnSpec, timeout: Duration) -> Result<Spawned, ClientError> {
        let (outcome, fds) = self.ask(Call::Spawn(spec.clone()), timeout)?;
        let Outcome::Spawned { jail, ports, degraded } = outcome else {
            return Err(self.fail(ClientError::Protocol));
        };
        let mut fds = fds.into_iter();
        let (Some(cdp_read), Some(cdp_write)) = (fds.next(), fds.next()) else {
            return Err(self.fail(ClientError::Protocol));
        };
        let listeners: Vec<_> = fds.zip(ports.iter().copied()).collect();
        if listeners.len() != ports.len() || ports.len() != usize::from(spec.contexts) {
            return Err(self.fail(ClientError::Protocol));
        }
        Ok(Spawned {
            id: jail,
            cdp_read,
            cdp_write,
            listeners,
            degraded,
        })
    }

    /// Kills a jail; returns when it is reaped and its profile removed. Of a jail that died by itself it tells how.
    ///
    /// # Errors
    /// `Jail(UnknownJail)`; the connection's.
    pub fn kill(&mut self, id: JailId) -> Result<Exit, ClientError> {
        match self.ask(Call::Kill { jail: id }, SHORT_TIMEOUT)?.0 {
            Outcome::Killed(exit) => Ok(exit),
            _ => Err(self.fail(ClientError::Protocol)),
        }
    }

    /// What a jail uses now, or how it ended.
    ///
    /// # Errors
    /// `Jail(UnknownJail)`; the connection's.
    pub fn stats(&mut self, id: JailId) -> Result<JailStats, ClientError> {
        match self.ask(Call::Stats { jail: id }, SHORT_TIMEOUT)?.0 {
            Outcome::Stats(stats) => Ok(stats),
            _ => Err(self.fail(ClientError::Protocol)),
        }
    }

    /// What confines a jail (`None`: only the jailer's own facts). Judge it with [`crate::facts::verify`].
    ///
    /// # Errors
    /// `Jail(UnknownJail)`; the connection's.
    pub fn facts(&mut self, id: Option<JailId>) -> Result<JailFacts, ClientError> {
        match self.ask(Call::Facts { jail: id }, SHORT_TIMEOUT)?.0 {
            Outcome::Facts(facts) => Ok(facts),
            _ => Err(self.fail(ClientError::Protocol)),
        }
    }

    /// Becomes readable when the jailer is gone (between requests it never speaks by itself).
    pub fn hangup_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn fail(&mut self, error: ClientError) -> ClientError {
        self.broken = true;
        error
    }

    fn ask(&mut self, call: Call, timeout: Duration) -> Result<(Outcome, Vec<OwnedFd>), ClientError> {
        if self.broken {
            return Err(ClientError::Closed);
        }
        let number = self.next;
        self.next += 1;
        let request = Request {
            version: VERSION,
            number,
            call,
        };
        let (response, fds) = self.exchange(&request, timeout).map_err(|error| {
            let invalid = error.kind() == io::ErrorKind::InvalidData
                || error
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<serde_json::Error>);
            self.fail(if invalid {
                ClientError::Protocol
            } else {
                ClientError::Closed
            })
        })?;
        if response.version != VERSION || response.number != number {
            return Err(self.fail(ClientError::Protocol));
        }
        match response.outcome {
            Outcome::Failed(error) => Err(ClientError::Jail(error)),
            outcome => Ok((outcome, fds)),
        }
    }

    fn exchange(&mut self, request: &Request, timeout: Duration) -> io::Result<(Response, Vec<OwnedFd>)> {
        let deadline = Instant::now() + timeout;
        self.stream.set_write_timeout(Some(left(deadline)?))?;
        protocol::write_frame(&mut self.stream, request)?;
        let mut fds = Vec::new();
        let mut header = [0; 4];
        self.read_exact(&mut header, &mut fds, deadline)?;
        let mut body = vec![0; protocol::body_length(header)?];
        self.read_exact(&mut body, &mut fds, deadline)?;
        Ok((serde_json::from_slice(&body)?, fds))
    }

    fn read_exact(&mut self, mut into: &mut [u8], fds: &mut Vec<OwnedFd>, deadline: Instant) -> io::Result<()> {
        while !into.is_empty() {
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.stream,
                &mut [io::IoSliceMut::new(into)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            );
            let bytes = match received {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            into = &mut into[bytes..];
        }
        Ok(())
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{SandboxReason, Step};

    /// What a client makes of a jailer that answers in its own way, and of the next question to it.
    fn met(answer: impl FnOnce(Request) -> Response + Send + 'static) -> [Result<JailFacts, ClientError>; 2] {
        let (own, mut stream) = UnixStream::pair().unwrap();
        let mut client = Jailer {
            stream: own,
            next: 1,
            broken: false,
        };
        let jailer = std::thread::spawn(move || {
            let request = protocol::read_frame(&mut stream).unwrap();
            protocol::write_frame(&mut stream, &answer(request)).unwrap();
            stream
        });
        let first = client.facts(None);
        let _open = jailer.join().unwrap();
        // It would never be answered.
        client.stream.shutdown(std::net::Shutdown::Read).unwrap();
        [first, client.facts(None)]
    }

    fn refusal(version: u32, number: u64) -> Response {
        let error = JailError {
            step: Step::Request,
            errno: None,
            reason: SandboxReason::BadRequest,
        };
        Response {
            version,
            number,
            outcome: Outcome::Failed(error),
        }
    }

    #[test]
    fn an_answer_of_another_version_or_to_another_question_is_none_and_ends_the_connection() {
        let [first, _] = met(|request| refusal(VERSION, request.number));
        assert!(matches!(first, Err(ClientError::Jail(_))), "{first:?}");
        for (version, other) in [(VERSION + 1, 0), (VERSION - 1, 0), (VERSION, 1)] {
            let [first, second] = met(move |request| refusal(version, request.number + other));
            assert!(matches!(first, Err(ClientError::Protocol)), "{first:?}");
            assert!(matches!(second, Err(ClientError::Closed)), "{second:?}");
        }
    }
}
