//! What this node and this container allow, asked without a side effect.
//!
//! In: nothing. Out: facts as JSON for whoever reads a pod's log or an operator's report.
//! It must not start a process, make a namespace or write a file.

use std::fs;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde::Serialize;

use crate::facts::JailerFacts;
use crate::{inspect, sys};

/// What was found.
#[derive(Debug, Serialize)]
pub struct Probe {
    /// Seccomp, capabilities, namespaces and Landlock of a process here.
    pub process: JailerFacts,
    /// Whether a seccomp filter refuses user namespaces (else it is up to the node's settings).
    pub user_namespaces_filtered: bool,
    /// `user.max_user_namespaces`; absent if it cannot be read.
    pub max_user_namespaces: Option<u64>,
    /// Debian's `kernel.unprivileged_userns_clone`; absent elsewhere.
    pub unprivileged_userns_clone: Option<u64>,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`; absent elsewhere.
    pub apparmor_restrict_unprivileged_userns: Option<u64>,
    /// Whether UDP sockets can be made (the shipped profile refuses them).
    pub udp_sockets: bool,
    /// Whether netlink sockets can be made (the shipped profile refuses them).
    pub netlink_sockets: bool,
}

/// Looks.
pub fn probe() -> Probe {
    let opens = |family, kind| socket_with(family, kind, SocketFlags::CLOEXEC, None).is_ok();
    Probe {
        process: inspect::jailer(),
        user_namespaces_filtered: sys::user_namespace_probe() == libc::EPERM,
        max_user_namespaces: setting("user/max_user_namespaces"),
        unprivileged_userns_clone: setting("kernel/unprivileged_userns_clone"),
        apparmor_restrict_unprivileged_userns: setting("kernel/apparmor_restrict_unprivileged_userns"),
        udp_sockets: opens(AddressFamily::INET, SocketType::DGRAM),
        netlink_sockets: opens(AddressFamily::NETLINK, SocketType::RAW),
    }
}

fn setting(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}
