//! What a node can lack, taken away from a live jailer, and the reason that it gives. (The refused filter is in
//! `browser`, the GPU process in `switches`.)

use std::time::Duration;

use capture_jail::client::ClientError;
use capture_jail::facts::{self, Reason};
use capture_jail::protocol::{Blocker, JailError, Mode, SandboxReason, SpawnSpec, Step};
use serde_json::json;

use crate::Test;
use crate::rig::{CHROMIUM, Kind, Pipe, Rig, eventually, spawn};

pub const TESTS: &[Test] = &[
    (
        "a_node_that_allows_no_more_user_namespaces_is_named_as_that",
        no_namespaces_left,
    ),
    (
        "a_node_that_allows_no_more_processes_is_named_as_that",
        no_processes_left,
    ),
    ("a_kernel_without_landlock_is_named_as_that", no_landlock),
];

/// In a user namespace of its own, which may have none below it.
const NO_NAMESPACES: &[&str] = &[
    "unshare",
    "-U",
    "--map-user=65532",
    "--map-group=65532",
    "--keep-caps",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"",
    "sh",
];
/// As a process of the pod is when podPidsLimit is met: the next clone fails.
const NO_PROCESSES: &[&str] = &["prlimit", "--nproc=1:1"];

fn refused(prefix: &'static [&'static str]) -> JailError {
    let rig = Rig::start(Kind::Under(prefix));
    let mut jailer = rig.connect();
    let spawned = jailer.spawn(&SpawnSpec::new(1, Mode::Required), Duration::from_secs(20));
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
    match spawned {
        Err(ClientError::Jail(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn no_namespaces_left() {
    let expected = JailError {
        step: Step::Clone,
        errno: Some(libc::ENOSPC),
        reason: SandboxReason::UserNamespacesBlocked(Blocker::Limit),
    };
    assert_eq!(refused(NO_NAMESPACES), expected);
}

fn no_processes_left() {
    let expected = JailError {
        step: Step::Clone,
        errno: Some(libc::EAGAIN),
        reason: SandboxReason::PidLimit,
    };
    assert_eq!(refused(NO_PROCESSES), expected);
}

fn no_landlock() {
    let rig = Rig::start(Kind::Weak(CHROMIUM.into(), &["landlock"]));
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let id = spawned.id;
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    pipe.call("Target.createTarget", &json!({"url": "about:blank"}));
    let mut last = Vec::new();
    eventually("nothing else is found", || {
        last = facts::verify(&jailer.facts(Some(id)).unwrap())
            .err()
            .unwrap_or_default();
        last == [Reason::LandlockUnavailable]
    });
}
