//! What a node can lack, taken away from a live jailer, and the reason that it gives. (The refused filter is in
//! `browser`, the GPU process in `switches`.)

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use capture_jail::client::{ClientError, SPAWN_TIMEOUT};
use capture_jail::facts::{self, Reason};
use capture_jail::protocol::{
    Blocker, JailError, LandlockFacts, MAX_CONTEXTS, MAX_JAILS, Mode, PortFacts, SandboxReason, SpawnSpec, Step,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::Test;
use crate::rig::{CHROMIUM, Kind, Pipe, Rig, eventually, spawn};
use crate::weak;

pub const TESTS: &[Test] = &[
    (
        "a_node_that_allows_no_more_user_namespaces_is_named_as_that",
        no_namespaces_left,
    ),
    (
        "a_node_that_allows_no_more_processes_is_named_as_that",
        no_processes_left,
    ),
    (
        "a_browser_that_gets_no_more_threads_is_told_from_one_that_gives_up",
        no_threads_left,
    ),
    ("a_kernel_without_landlock_is_named_as_that", no_landlock),
    (
        "a_node_that_refuses_user_namespaces_or_takes_their_power_is_named_as_that",
        refusing_node,
    ),
    (
        "a_child_that_is_killed_on_its_way_is_lost_and_leaves_nothing",
        child_lost,
    ),
    (
        "a_child_that_is_stuck_on_its_way_is_told_of_before_the_jailer_itself_is_given_up",
        stuck,
    ),
    (
        "a_profile_directory_that_cannot_be_made_is_named_as_that_until_it_can",
        profile_directory,
    ),
    ("descriptors_that_cannot_be_had_are_named_as_resources", no_descriptors),
    (
        "one_jail_more_than_a_jailer_holds_is_refused_until_one_has_ended",
        too_many_jails,
    ),
    (
        "whoever_listens_in_a_jail_s_network_is_found_and_its_proxy_is_not",
        devtools,
    ),
    ("what_a_jail_cannot_open_is_tried_from_inside", secrets),
    ("each_part_of_landlock_is_missed_when_it_is_away", landlock_parts),
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
    refused_by(&Rig::start(Kind::Under(prefix)), 1)
}

fn refused_by(rig: &Rig, contexts: u16) -> JailError {
    let mut jailer = rig.connect();
    let spawned = jailer.spawn(&SpawnSpec::new(contexts, Mode::Required), Duration::from_secs(20));
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
    match spawned {
        Err(ClientError::Jail(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn refusing_node() {
    for (what, step, blocker) in [
        (&[weak::NODE_SETTING], Step::Clone, Blocker::NodeSetting),
        (&[weak::POWERLESS], Step::LoopbackUp, Blocker::Confined),
    ] {
        let expected = JailError {
            step,
            errno: Some(libc::EPERM),
            reason: SandboxReason::UserNamespacesBlocked(blocker),
        };
        assert_eq!(refused_by(&Rig::looking_around_without(what), 1), expected);
    }
}

fn child_lost() {
    let expected = JailError {
        step: Step::Report,
        errno: None,
        reason: SandboxReason::ChildLost,
    };
    assert_eq!(refused_by(&Rig::looking_around_without(&[weak::KILLED]), 1), expected);
}

/// Stopped in its tracks, as by a file system that hangs.
fn stuck() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let expected = JailError {
        step: Step::Report,
        errno: None,
        reason: SandboxReason::ChildLost,
    };
    // Its way takes milliseconds: where it was faster than we are, the next one is stopped.
    for _ in 0..20 {
        let children = format!("/proc/{0}/task/{0}/children", rig.pid());
        let stopped = std::thread::spawn(move || stop_first(&children));
        let spawned = jailer.spawn(&SpawnSpec::new(1, Mode::Required), SPAWN_TIMEOUT);
        stopped.join().unwrap();
        match spawned {
            Ok(spawned) => {
                jailer.kill(spawned.id).unwrap();
            }
            Err(error) => {
                assert!(
                    matches!(error, ClientError::Jail(error) if error == expected),
                    "{error:?}"
                );
                assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
                assert!(jailer.facts(None).is_ok(), "the connection stands");
                return;
            }
        }
    }
    panic!("no child was stopped on its way");
}

/// Stops the first that is in the list, as soon as it is.
fn stop_first(children: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let listed = fs::read_to_string(children).unwrap();
        if let Some(child) = listed.split_whitespace().next() {
            let pid = Pid::from_raw(child.parse().unwrap()).unwrap();
            let _ = kill_process(pid, Signal::STOP);
            return;
        }
    }
}

fn profile_directory() {
    let rig = Rig::looking_around();
    let mode = |mode| fs::set_permissions(&rig.profiles, Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let expected = JailError {
        step: Step::ProfileDirectory,
        errno: Some(libc::EACCES),
        reason: SandboxReason::ProfileDirectory,
    };
    assert_eq!(refused_by(&rig, 1), expected);
    mode(0o777);
    spawn(&mut rig.connect(), 1);
}

fn no_descriptors() {
    let rig = Rig::start(Kind::Under(&["prlimit", "--nofile=24:24"]));
    let expected = JailError {
        step: Step::Listen,
        errno: Some(libc::EMFILE),
        reason: SandboxReason::Resources,
    };
    assert_eq!(refused_by(&rig, MAX_CONTEXTS), expected);
}

fn too_many_jails() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let jails: Vec<_> = (0..MAX_JAILS).map(|_| spawn(&mut jailer, 1)).collect();
    let spec = SpawnSpec::new(1, Mode::Required);
    let expected = JailError {
        step: Step::Request,
        errno: None,
        reason: SandboxReason::TooManyJails,
    };
    let more = jailer.spawn(&spec, Duration::from_secs(20));
    assert!(
        matches!(&more, Err(ClientError::Jail(error)) if *error == expected),
        "{more:?}"
    );
    assert_eq!((rig.below().len(), rig.profile_count()), (MAX_JAILS, MAX_JAILS));
    jailer.kill(jails[0].id).unwrap();
    spawn(&mut jailer, 1);
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

/// Enough for the clone, and not for the threads of a browser, of which a page needs about 70. podPidsLimit does the same.
fn no_threads_left() {
    for room in [3, 8, 16, 30] {
        let rig = Rig::start(Kind::Crowded(room));
        let mut jailer = rig.connect();
        let spawned = spawn(&mut jailer, 1);
        // What it is asked may never be answered.
        let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        pipe.try_send(&json!({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}).to_string());
        eventually("it gives up, or hangs for good", || {
            let stats = jailer.stats(spawned.id).unwrap();
            stats.exit.is_some() || stats.age_ms > 2_000
        });
        let exit = jailer.kill(spawned.id).unwrap();
        assert_eq!(exit.failed_start(), Some("PidLimit"), "{room}: {exit:?}");
        assert_eq!((rig.below().len(), rig.profile_count()), (0, 0), "{room}");
    }
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
        last == [Reason::LandlockUnavailable, Reason::SecretsReadable]
    });
}

/// Landlock keeps a browser from listening at all, so it is away here; the network is the jail's own.
fn devtools() {
    let rig = Rig::looking_around_without(&["landlock"]);
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 2);
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    let mut ports = || jailer.facts(Some(spawned.id)).unwrap().ports;
    let mut expected = PortFacts {
        asked: true,
        found: Vec::new(),
    };
    assert_eq!(ports(), expected, "the proxy's listeners are no finding");
    // As the server does: with fewer sockets than were made the list is not read, and each one more is noticed.
    let mut listeners = spawned.listeners.into_iter();
    drop(listeners.next());
    assert_eq!(ports(), expected);
    for (address, port) in [("127.0.0.1:9222", 9222), ("[::1]:9333", 9333)] {
        assert_eq!(pipe.ask(&format!("serve {address}")), "ok");
        expected.found.push(port);
        assert_eq!(ports(), expected);
    }
    let reasons = facts::verify(&jailer.facts(Some(spawned.id)).unwrap()).unwrap_err();
    assert!(reasons.contains(&Reason::DevtoolsReachable), "{reasons:?}");
}

fn secrets() {
    let look = |rig: &Rig| {
        let mut jailer = rig.connect();
        // Whole: without its pipe the program ends, and its jail with it.
        let spawned = spawn(&mut jailer, 1);
        jailer.facts(Some(spawned.id)).unwrap().secrets
    };
    let confined = look(&Rig::looking_around());
    assert!(confined.witnesses > 0 && confined.opened == 0, "{confined:?}");
    let open = look(&Rig::looking_around_without(&["landlock"]));
    assert_eq!(
        open.opened, confined.witnesses,
        "the namespaces hide environments still"
    );
    let opener = look(&Rig::looking_around_without(&["landlock", "namespaces"]));
    assert!(opener.opened > open.opened, "{opener:?}");
    // Landlock alone.
    assert_eq!(look(&Rig::looking_around_without(&["namespaces"])).opened, 0);
}

fn landlock_parts() {
    let all = LandlockFacts::ALL;
    for (away, expected, reason) in [
        (&[][..], all, None),
        (
            &["landlock-files"],
            LandlockFacts { files: false, ..all },
            Some(Reason::LandlockUnavailable),
        ),
        (
            &["landlock-tcp"],
            LandlockFacts { tcp: false, ..all },
            Some(Reason::LandlockIncomplete),
        ),
        (
            &["landlock-scopes"],
            LandlockFacts { scopes: false, ..all },
            Some(Reason::LandlockIncomplete),
        ),
    ] {
        let rig = Rig::looking_around_without(away);
        let mut jailer = rig.connect();
        let spawned = spawn(&mut jailer, 1);
        let facts = jailer.facts(Some(spawned.id)).unwrap();
        let abi = facts.jailer.landlock_abi;
        assert!(abi >= 6, "this test needs a kernel with all of Landlock, not ABI {abi}");
        assert_eq!(facts.landlock, expected, "{away:?}");
        // The program in the browser's place has no pages; of Landlock nothing else is found.
        let reasons = facts::verify(&facts).unwrap_err();
        let found = [Reason::LandlockUnavailable, Reason::LandlockIncomplete];
        let found = found.into_iter().find(|reason| reasons.contains(reason));
        assert_eq!(found, reason, "{away:?}");
    }
}
