//! The jailer: one connection at a time, and the jails that belong to it.
//!
//! In: a socket path and [`Settings`]. Out: jails for whoever connects; it returns when SIGTERM or SIGINT arrives.
//! The listener is closed and its path unlinked as soon as a connection is taken: a compromised browser of the same uid
//! could connect to it by path. It is bound anew only when the connection has ended and every jail is dead.
//! It must stay single-threaded and must not trust the peer with anything but numbers.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;

use crate::inspect;
use crate::launch::{Late, Settings, timespec};
use crate::profile;
use crate::protocol::{self, Request};
use crate::session::Session;
use crate::sys::{self, Peer};
use crate::watchdog;

/// A peer that has begun a frame has this long to end it, and as long to take an answer.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// After a refused peer: a busy loop would be its gain.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// Where to listen, whom to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// The socket's path.
    pub socket: PathBuf,
    /// Other uids than the own that may connect.
    pub allow_peer_uids: Vec<u32>,
    /// What every jail has.
    pub settings: Settings,
}

/// Why the jailer cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Chromium refuses its sandbox as root, and root in a jail would keep capabilities over exec.
    #[error("refusing to run as root: give --uid and --gid")]
    Root,
    /// The socket could not be made.
    #[error("cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// A kernel call failed that never should.
    #[error("{0}")]
    System(#[from] io::Error),
}

enum Next {
    Connection(UnixStream),
    Terminated,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// See [`ServeError`]; never for a failed jail or a misbehaving peer.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    if rustix::process::geteuid().is_root() {
        return Err(ServeError::Root);
    }
    rustix::thread::set_no_new_privs(true).map_err(io::Error::from)?;
    let termination = sys::termination_fd()?;
    // Processes of a degraded jail (no pid namespace) must not escape to somebody else's init.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)?;
    let mut late = Late::default();
    loop {
        profile::sweep(&config.settings.profile_root);
        match accept(config, &termination)? {
            Next::Terminated => return Ok(()),
            Next::Connection(stream) => {
                let mut session = Session::new(&config.settings, late);
                let terminated = converse(&stream, &termination, &mut session);
                // The peer hears of the end before the deaths that follow from it, and takes no page for their cause.
                let _ = stream.shutdown(Shutdown::Both);
                late = session.end_all();
                if terminated {
                    return Ok(());
                }
            }
        }
    }
}

/// Removes the socket's path at the end of its life, whichever way that comes.
struct Unlink<'a>(&'a PathBuf);

impl Drop for Unlink<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

#[expect(clippy::disallowed_methods, reason = "the jailer's one socket")]
fn accept(config: &Config, termination: &OwnedFd) -> Result<Next, ServeError> {
    let path = &config.socket;
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        fs::remove_file(path).map_err(ServeError::Listen)?; // Left behind by a jailer that was killed.
    }
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(ServeError::Listen)?;
    let _unlink = Unlink(path);
    loop {
        if !wait(&[listener.as_fd(), termination.as_fd()], None)?[0] {
            return Ok(Next::Terminated);
        }
        let (stream, _) = listener.accept()?;
        match sys::peer(&stream) {
            Ok(peer)
                if admits(
                    peer,
                    rustix::process::geteuid().as_raw(),
                    &config.allow_peer_uids,
                    inspect::is_own,
                ) =>
            {
                return Ok(Next::Connection(stream));
            }
            _ => std::thread::sleep(REFUSED_PAUSE),
        }
    }
}

/// Whom the jailer serves: its own uid or a named one, and never a process of its own (pid 0 is another pid namespace).
fn admits(peer: Peer, own_uid: u32, allowed: &[u32], is_own: impl Fn(i32) -> bool) -> bool {
    (peer.uid == own_uid || allowed.contains(&peer.uid)) && (peer.pid == 0 || !is_own(peer.pid))
}

/// Which of the descriptors have something to say.
fn wait(fds: &[std::os::fd::BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut ready: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let timeout = timeout.map(timespec);
    match poll(&mut ready, timeout.as_ref()) {
        Ok(_) => Ok(ready.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(rustix::io::Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(error) => Err(error.into()),
    }
}

/// Answers one peer until it hangs up (`false`) or the jailer is told to end (`true`).
fn converse(stream: &UnixStream, termination: &OwnedFd, session: &mut Session<'_>) -> bool {
    let bounded = stream
        .set_read_timeout(Some(FRAME_TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(FRAME_TIMEOUT)));
    if bounded.is_err() {
        return false;
    }
    let mut next_watch = Instant::now() + watchdog::CALM;
    let mut next_glance = Instant::now();
    loop {
        let mut fds = vec![stream.as_fd(), termination.as_fd()];
        fds.extend(session.pidfds());
        let timeout = (fds.len() > 2).then(|| next_watch.min(next_glance).saturating_duration_since(Instant::now()));
        let Ok(ready) = wait(&fds, timeout) else { return false };
        if ready[1] {
            return true;
        }
        if ready[2..].contains(&true) {
            session.collect_dead();
        }
        if Instant::now() >= next_watch {
            let pause = session.watch();
            next_watch = Instant::now() + pause;
        }
        if Instant::now() >= next_glance {
            let pause = session.glance();
            next_glance = Instant::now() + pause;
        }
        if ready[0] {
            if answer(stream, session).is_err() {
                return false;
            }
            if session.has_fresh() {
                next_watch = next_watch.min(Instant::now() + watchdog::FRESH);
            }
        }
    }
}

fn answer(mut stream: &UnixStream, session: &mut Session<'_>) -> io::Result<()> {
    let request: Request = protocol::read_frame(&mut stream)?;
    let (response, fds) = session.handle(&request);
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let frame = protocol::encode(&response)?;
    let sent = crate::report::send_with_fds(stream, &frame, &borrowed)?;
    io::Write::write_all(&mut stream, &frame[sent..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_or_a_named_uid_is_admitted_and_never_a_process_of_ones_own() {
        let own = |pid: i32| pid == 58;
        let table = [
            (Peer { pid: 0, uid: 65532 }, true),
            (Peer { pid: 9, uid: 65532 }, true),
            (Peer { pid: 9, uid: 7 }, true),
            (Peer { pid: 9, uid: 0 }, false),
            (Peer { pid: 0, uid: 8 }, false),
            (Peer { pid: 58, uid: 65532 }, false),
            (Peer { pid: 58, uid: 7 }, false),
        ];
        for (peer, admitted) in table {
            assert_eq!(admits(peer, 65532, &[7], own), admitted, "{peer:?}");
        }
    }
}
