//! What a jail can reach, tried from inside of it.
//!
//! In: paths where Secrets lie or could lie, and files that the jailer itself can open. Out: what the child could open and
//! connect to with everything around it, just before the browser takes its place, and which ports of the jail's network
//! answer while the browser runs: the child leaves a socket of that network with the jailer, which asks with it. A proof
//! from inside, where [`crate::inspect`] reads from outside. It must not read a byte of what it opens, or decide anything.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, connect_unspec, listen, socket_with,
};

use crate::facts::{PortFacts, SecretFacts};
use crate::inspect;

/// Where the pod's layout has Secrets, and where Kubernetes puts an account's token. None is mounted where the jailer is.
pub const SECRETS: [&str; 5] = [
    "/etc/screenshot/keyset",
    "/etc/screenshot/internal",
    "/etc/screenshot/upstream",
    "/run/secrets",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
];
/// Files that every machine and container has and everybody may read, but nobody in a jail.
const WITNESSES: [&str; 4] = ["/etc/passwd", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// Where DevTools listen unless told otherwise.
pub const DEVTOOLS: u16 = 9222;
/// More ports than this are not listed.
const MAX_PORTS: usize = 16;
/// On the loopback an answer comes at once. Whoever listens and does not take a connection counts as reachable.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the child is to try.
#[derive(Debug)]
pub struct Trial {
    paths: Vec<PathBuf>,
    witnesses: u32,
}

impl Trial {
    /// From where Secrets lie by name; the jailer looks which files are there to be opened at all.
    pub fn new(secrets: &[PathBuf]) -> Self {
        let known = WITNESSES.iter().chain(&SECRETS).map(PathBuf::from);
        let mut paths: Vec<PathBuf> = known.chain(secrets.iter().cloned()).collect();
        let witnesses = count(&paths);
        // The environments of the container's first process and of the jailer: the namespaces' to hide, not Landlock's.
        let pids = [1, std::process::id()];
        paths.extend(pids.map(|pid| PathBuf::from(format!("/proc/{pid}/environ"))));
        Self { paths, witnesses }
    }

    /// Tries to open each.
    pub fn run(&self) -> SecretFacts {
        SecretFacts {
            witnesses: self.witnesses,
            opened: count(&self.paths),
        }
    }
}

fn count(paths: &[PathBuf]) -> u32 {
    let opened = paths.iter().filter(|path| opens(path)).count();
    u32::try_from(opened).unwrap_or(u32::MAX)
}

fn opens(path: &Path) -> bool {
    // A pipe by that name must not hold the jailer up.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path).is_ok()
}

/// A socket of the network that this process is in, for whoever wants to know later what answers there.
pub fn socket() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    Ok(socket)
}

/// Whether Landlock keeps this process from a port that is not the jail's, whoever listens there.
#[expect(clippy::disallowed_methods, reason = "a try from inside a jail, on its own loopback")]
pub fn tcp_is_refused() -> bool {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, DEVTOOLS);
    socket().is_ok_and(|socket| connect(&socket, &address) == Err(Errno::ACCESS))
}

/// An abstract socket of before Landlock: afterwards it belongs to the world outside.
pub struct Beacon {
    address: SocketAddrUnix,
    _socket: OwnedFd,
}

impl Beacon {
    /// Listens under a name that nobody else has.
    pub fn light(name: &[u8]) -> io::Result<Self> {
        let address = SocketAddrUnix::new_abstract_name(name)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &address)?;
        listen(&socket, 1)?;
        Ok(Self {
            address,
            _socket: socket,
        })
    }

    /// Whether this process may not connect to it any more.
    #[expect(
        clippy::disallowed_methods,
        reason = "a try from inside a jail, at an abstract socket"
    )]
    pub fn is_out_of_reach(&self) -> bool {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        socket.is_ok_and(|socket| connect(&socket, &self.address) == Err(Errno::PERM))
    }
}

/// Which TCP ports of the jail's network somebody listens on or answers at, besides its proxy's. Without a socket of that
/// network (a degraded jail has none of its own) only the kernel's list is read.
pub fn ports(pid: i32, own: &[u16], socket: Option<&OwnedFd>) -> PortFacts {
    let Some(listening) = listening(pid, own.len()) else {
        return PortFacts::default();
    };
    let mut found: BTreeSet<u16> = listening.into_iter().filter(|port| !own.contains(port)).collect();
    let mut asked = true;
    if let Some(socket) = socket {
        let candidates: BTreeSet<u16> = found.iter().copied().take(MAX_PORTS).chain([DEVTOOLS]).collect();
        for port in candidates.into_iter().filter(|port| !own.contains(port)) {
            match answers(socket, port) {
                Ok(false) => {}
                Ok(true) => drop(found.insert(port)),
                Err(_) => asked = false,
            }
        }
    }
    PortFacts {
        asked,
        found: found.into_iter().take(MAX_PORTS).collect(),
    }
}

/// TCP ports that somebody listens on in a process's network, both families; `None` if that cannot be read. Empty without a
/// look if there are fewer sockets than the jail was made with: its first listener is closed as soon as it is handed over,
/// and the kernel walks through the connections of the whole machine to make the list of one network (8 ms and more).
fn listening(pid: i32, made: usize) -> Option<BTreeSet<u16>> {
    let table = |name| inspect::read(&format!("/proc/{pid}/net/{name}"));
    // A kernel without IPv6 has neither for it.
    let (count, count6) = (table("sockstat")?, table("sockstat6").unwrap_or_default());
    let sockets = sockets_in_use(&count, "TCP:")?.checked_add(sockets_in_use(&count6, "TCP6:").unwrap_or(0))?;
    if sockets < made {
        return Some(BTreeSet::new());
    }
    let (v4, v6) = (table("tcp")?, table("tcp6").unwrap_or_default());
    Some(listening_ports(&v4).chain(listening_ports(&v6)).collect())
}

/// From /proc/PID/net/sockstat: `TCP: inuse 3 orphan 0 …`.
fn sockets_in_use(statistics: &str, family: &str) -> Option<usize> {
    let line = statistics.lines().find_map(|line| line.strip_prefix(family))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "inuse")?;
    words.next()?.parse().ok()
}

/// From /proc/PID/net/tcp: number, local address with port, remote address, state, of which `0A` is listening.
fn listening_ports(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let port = local.rsplit_once(':')?.1;
        u16::from_str_radix(port, 16).ok().filter(|_| state == "0A")
    })
}

/// Whether something on the loopback takes a connection; the socket can be used again.
#[expect(
    clippy::disallowed_methods,
    reason = "a try at a jail's loopback, by a socket of its network"
)]
fn answers(socket: &OwnedFd, port: u16) -> io::Result<bool> {
    match connect(socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
        Err(Errno::CONNREFUSED) => Ok(false),
        Ok(()) | Err(Errno::INPROGRESS | Errno::TIMEDOUT | Errno::AGAIN) => {
            connect_unspec(socket)?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "somebody who listens")]
    fn whoever_listens_is_found_and_asked_and_the_same_socket_asks_again() {
        let socket = socket().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening(own_pid(), 0).unwrap().contains(&port));
        for _ in 0..2 {
            assert!(answers(&socket, port).unwrap());
        }
        drop(listener);
        for _ in 0..2 {
            assert!(!answers(&socket, port).unwrap());
        }
        assert!(!listening(own_pid(), 0).unwrap().contains(&port));
    }

    #[test]
    fn what_is_open_to_the_jailer_is_a_witness_and_nothing_is_confined_here() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        let without = Trial::new(std::slice::from_ref(&secret));
        std::fs::write(&secret, "the secret").unwrap();
        let with = Trial::new(&[secret]);
        assert_eq!(with.witnesses, without.witnesses + 1);
        assert!(without.witnesses > 0, "every machine has one of {WITNESSES:?}");
        let facts = with.run();
        assert!(facts.opened > facts.witnesses, "the own environment, too: {facts:?}");
    }

    #[test]
    fn without_landlock_nothing_is_out_of_reach() {
        let name = format!("capture-jail-beacon-{}", std::process::id());
        assert!(!Beacon::light(name.as_bytes()).unwrap().is_out_of_reach());
        assert!(!tcp_is_refused());
    }

    #[test]
    fn sockets_are_counted_before_they_are_listed() {
        let text = "sockets: used 9\nTCP: inuse 6 orphan 1 tw 2 alloc 7 mem 0\nUDP: inuse 3 mem 0\n";
        assert_eq!(sockets_in_use(text, "TCP:"), Some(6));
        assert_eq!(sockets_in_use("TCP6: inuse 2\n", "TCP6:"), Some(2));
        assert_eq!(sockets_in_use("", "TCP:"), None);
    }

    #[test]
    fn a_process_that_is_gone_has_nothing_to_show() {
        assert_eq!(ports(0, &[], None), PortFacts::default());
    }
}
