//! A jailer with layers taken away: the controls that show that each layer, and nothing else, is what stops a browser.

use capture_jail::child::Layers;
use capture_jail::launch::Settings;
use capture_jail::protocol::LandlockFacts;
use capture_jail::{server, sys};
use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

use crate::rig::{UNPRIVILEGED, am_root};

pub const COMMAND: &str = "weak-jailer";
/// Not a layer: user namespaces refused by a filter, as under the container runtime's default profile.
pub const USER_NAMESPACES: &str = "user-namespaces";
/// Nor these: what a node can do to a clone, as a filter does it.
pub const NODE_SETTING: &str = "user-namespaces-by-the-node";
pub const POWERLESS: &str = "user-namespaces-without-power";
/// And this: the child is killed in the middle of its way.
pub const KILLED: &str = "killed-on-the-way";
/// Calls that the shipped profile adds to the runtime's default, or answers in its own way: refused with EPERM each.
pub const CALLS: &[(&str, libc::c_long)] = &[
    ("call-unshare", libc::SYS_unshare),
    ("call-chroot", libc::SYS_chroot),
    ("call-clone3", libc::SYS_clone3),
];

/// Switches whose absence the suite of jails sees; the suite of packets sees that of the others.
pub const ON_THE_COMMAND_LINE: &[&str] = &[
    "--remote-debugging-pipe",
    "--disable-software-rasterizer",
    "--disable-shared-workers",
    "--js-flags=--max-old-space-size",
    "--ignore-certificate-errors-spki-list",
];

/// `SOCKET BROWSER PROFILES LAYER-OR-SWITCH…`
pub fn run(arguments: &[String]) {
    let without = |layer: &str| arguments[3..].iter().any(|argument| argument == layer);
    if am_root() {
        sys::become_user(UNPRIVILEGED, UNPRIVILEGED).expect("an unprivileged user");
    }
    for (name, filter) in [
        (USER_NAMESPACES, refuse_user_namespaces as fn() -> Vec<sock_filter>),
        (NODE_SETTING, refuse_valid_user_namespaces),
        (POWERLESS, refuse_interface_flags),
        (KILLED, kill_at_limits),
    ] {
        if without(name) {
            rustix::thread::set_no_new_privs(true).expect("no_new_privs");
            sys::install_filter(&filter()).expect("a filter");
        }
    }
    for (_, call) in CALLS.iter().filter(|(name, _)| without(name)) {
        rustix::thread::set_no_new_privs(true).expect("no_new_privs");
        sys::install_filter(&refuse(*call)).expect("a filter");
    }
    let layers = Layers {
        namespaces: !without("namespaces"),
        landlock: LandlockFacts {
            files: !without("landlock") && !without("landlock-files"),
            tcp: !without("landlock") && !without("landlock-tcp"),
            scopes: !without("landlock") && !without("landlock-scopes"),
        },
        socket_filter: !without("socket-filter"),
    };
    let config = server::Config {
        socket: arguments[0].clone().into(),
        allow_peer_uids: vec![0],
        settings: Settings {
            browser: arguments[1].clone().into(),
            profile_root: arguments[2].clone().into(),
            secrets: Vec::new(),
            keep_stderr: false,
            memory_limit: None,
            layers,
            withheld: arguments[3..].to_vec(),
        },
    };
    server::serve(&config).expect("a jailer");
}

fn statement(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    }
}

const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();

/// EPERM for a call.
fn refuse(call: libc::c_long) -> Vec<sock_filter> {
    vec![
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        statement(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, u32::try_from(call).unwrap()),
        statement(BPF_RET | BPF_K, 0, 0, REFUSE),
        statement(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// EPERM for a call whose argument at this offset of `seccomp_data` compares with the value.
fn refuse_where(call: libc::c_long, offset: u32, comparison: u32, value: u32) -> Vec<sock_filter> {
    vec![
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        statement(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, u32::try_from(call).unwrap()),
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset),
        statement(BPF_JMP | comparison | BPF_K, 0, 1, value),
        statement(BPF_RET | BPF_K, 0, 0, REFUSE),
        statement(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// EPERM for clone with CLONE_NEWUSER.
fn refuse_user_namespaces() -> Vec<sock_filter> {
    refuse_where(libc::SYS_clone, 16, BPF_JSET, libc::CLONE_NEWUSER.unsigned_abs())
}

/// The same, but for the combination of flags that is never valid: a setting of the node refuses only what could be.
fn refuse_valid_user_namespaces() -> Vec<sock_filter> {
    let clone = u32::try_from(libc::SYS_clone).unwrap();
    let (new_user, fs) = (libc::CLONE_NEWUSER.unsigned_abs(), libc::CLONE_FS.unsigned_abs());
    vec![
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        statement(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, clone),
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 16),
        statement(BPF_JMP | BPF_JSET | BPF_K, 2, 0, fs),
        statement(BPF_JMP | BPF_JSET | BPF_K, 0, 1, new_user),
        statement(BPF_RET | BPF_K, 0, 0, REFUSE),
        statement(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// EPERM for bringing an interface up, as in a namespace without its capabilities.
fn refuse_interface_flags() -> Vec<sock_filter> {
    refuse_where(libc::SYS_ioctl, 24, BPF_JEQ, u32::try_from(libc::SIOCSIFFLAGS).unwrap())
}

/// SIGSYS for whoever sets its limits: nobody but the child does.
fn kill_at_limits() -> Vec<sock_filter> {
    vec![
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        statement(
            BPF_JMP | BPF_JEQ | BPF_K,
            0,
            1,
            u32::try_from(libc::SYS_prlimit64).unwrap(),
        ),
        statement(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        statement(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
