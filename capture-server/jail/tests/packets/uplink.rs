//! A network namespace with an uplink that leads nowhere, and an ear on all of its interfaces.
//!
//! In: the name of a test. Out: the same test run again inside, where [`Ear`] hears every packet of `lo` and of the uplink
//! apart from those of one proxy's port. Nothing leaves: the uplink is a veth pair whose other end nobody reads. Needs
//! root or user namespaces, and iproute2.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use capture_jail::launch::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with, sockopt};

use crate::rig::am_root;

pub const COMMAND: &str = "behind-an-uplink";
/// Set in the run that has the uplink.
const INSIDE: &str = "PACKETS_INSIDE";
/// Both families, a default route each, a name server behind it; nothing is resolved to a link address. The kernel's own
/// router solicitations are off.
const SETUP: &str = "set -e
ip link set lo up
ip link add up0 type veth peer name up1
for way in up0 up1; do echo 0 > /proc/sys/net/ipv6/conf/$way/accept_ra; ip link set $way up; done
ip addr add 198.51.100.2/24 dev up0
ip -6 addr add 2001:db8::2/64 dev up0 nodad
for next in 198.51.100.1 198.51.100.53 2001:db8::1; do ip neigh add $next lladdr 02:00:00:00:00:01 dev up0; done
ip route add default via 198.51.100.1
ip -6 route add default via 2001:db8::1 dev up0
umask 022
echo nameserver 198.51.100.53 > \"$1\"
mount --bind \"$1\" /etc/resolv.conf";

pub fn is_here() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test `name` again behind an uplink of its own. It must have run, and passed.
pub fn run_behind(name: &str) {
    let mut again = Command::new("unshare");
    if !am_root() {
        again.arg("-r");
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let output = again
        .args(["-n", "-m"])
        .arg(std::env::current_exe().unwrap())
        .args([COMMAND, name, &uid.to_string(), &gid.to_string()])
        .output()
        .unwrap();
    let (told, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{wrong}");
}

/// In the new namespaces: makes the uplink, opens the ear as standard input, and becomes the test.
pub fn prepare(arguments: &[String]) {
    let [name, uid, gid] = arguments else {
        panic!("{arguments:?}")
    };
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("resolv.conf");
    let made = Command::new("sh")
        .args(["-c", SETUP, "sh"])
        .arg(&names)
        .status()
        .unwrap();
    assert!(made.success(), "no uplink");
    let everything = Protocol::from_raw(u32::from(0x0003_u16.to_be()).try_into().unwrap());
    let ear = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(everything),
    )
    .unwrap();
    let _ = sockopt::set_socket_recv_buffer_size_force(&ear, 1 << 25);
    let this = std::env::current_exe().unwrap();
    let mut test = if uid == "0" {
        Command::new(this)
    } else {
        // Back to the caller's own ids, so that the jailer does not take itself for root.
        let mut unshare = Command::new("unshare");
        unshare
            .args(["-U", &format!("--map-user={uid}"), &format!("--map-group={gid}")])
            .arg(this);
        unshare
    };
    drop(directory); // The mount holds the file; exec would run no destructor.
    let error = test
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::from(ear))
        .exec();
    panic!("{error}");
}

/// Hears packets until it is dropped.
pub struct Ear {
    heard: Arc<Mutex<BTreeMap<String, u32>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Hears everything from now on but TCP from and to the loopback's `deaf` ports.
    pub fn open(deaf: Vec<u16>) -> Self {
        let (heard, stop) = (Arc::default(), Arc::default());
        let thread = std::thread::spawn({
            let (heard, stop) = (Arc::clone(&heard), Arc::clone(&stop));
            move || listen(&deaf, &heard, &stop)
        });
        Self {
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// What was heard so far, and how often.
    pub fn heard(&self) -> BTreeMap<String, u32> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(deaf: &[u16], heard: &Mutex<BTreeMap<String, u32>>, stop: &AtomicBool) {
    let socket = rustix::stdio::stdin();
    let mut frame = vec![0; 65_536];
    let mut old = true;
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(&socket, PollFlags::IN)];
        let wait = if old { Duration::ZERO } else { Duration::from_millis(50) };
        if poll(&mut ready, Some(&timespec(wait))).unwrap() == 0 {
            old = false;
            continue;
        }
        let length = rustix::io::read(socket, &mut frame).unwrap();
        // What was there before this ear was opened belongs to somebody else.
        if let (false, Some(packet)) = (old, describe(&frame[..length], deaf)) {
            *heard.lock().unwrap().entry(packet).or_default() += 1;
        }
    }
}

/// What a frame is, if it is anybody's but the kernel's or the proxy's.
fn describe(frame: &[u8], deaf: &[u16]) -> Option<String> {
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let (protocol, to, payload): (u8, IpAddr, &[u8]) = match kind {
        [0x08, 0x00] => {
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
            let length = usize::from(packet.first()? & 15) * 4;
            (*packet.get(9)?, to.into(), packet.get(length..)?)
        }
        [0x86, 0xdd] => {
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
            (*packet.get(6)?, to.into(), packet.get(40..)?)
        }
        _ => return Some(format!("frame {kind:02x?}")),
    };
    let port = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
    match protocol {
        // Neighbours, routers and group memberships of IPv6 are the kernel's; so are the errors that it answers.
        0 | 1 | 58 => None,
        6 => {
            let ends = [port(0)?, port(2)?];
            let proxy = to.is_loopback() && ends.iter().any(|end| deaf.contains(end));
            (!proxy).then(|| format!("tcp {to} {}", ends[1]))
        }
        17 if port(2)? == 53 => Some(format!("dns {}", name(payload.get(20..)?))),
        17 => Some(format!("udp {to} {}", port(2)?)),
        other => Some(format!("protocol {other} {to}")),
    }
}

/// The name that a DNS question asks for.
fn name(mut question: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((length, rest)) = question.split_first()
        && let Some((label, rest)) = rest.split_at_checked(usize::from(*length)).filter(|_| *length > 0)
    {
        labels.push(String::from_utf8_lossy(label).into_owned());
        question = rest;
    }
    labels.join(".")
}
