//! One connection at a time, and nothing left when it ends, however it ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use capture_jail::client::{ClientError, Jailer};
use capture_jail::inspect;
use capture_jail::launch::timespec;
use capture_jail::protocol::{
    self, Call, ExitCause, JailError, Mode, Outcome, Request, Response, SandboxReason, SpawnSpec, Step, VERSION,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use serde_json::json;

use crate::Test;
use crate::rig::{CHROMIUM, Kind, Pipe, Rig, am_root, eventually, gone, spawn};
use crate::weak;

pub const TESTS: &[Test] = &[
    (
        "while_a_peer_is_served_the_socket_is_gone_and_nobody_else_gets_in",
        one_peer,
    ),
    (
        "when_the_peer_hangs_up_every_jail_dies_and_the_socket_comes_back",
        hang_up,
    ),
    ("sigterm_ends_the_jailer_and_every_jail", sigterm),
    ("the_end_of_a_jailer_is_heard_before_that_of_its_browsers", heard_first),
    (
        "a_jailer_that_is_killed_takes_its_jails_along_and_the_next_one_tidies_up",
        killed_jailer,
    ),
    ("a_jail_that_does_not_end_in_time_is_reaped_when_it_has", late),
    ("a_peer_of_another_uid_is_refused", other_uid),
    ("whatever_the_umask_is_only_its_owner_can_use_the_socket", socket_mode),
    ("a_message_with_an_unknown_field_ends_the_connection", unknown_field),
    (
        "a_peer_that_says_half_a_header_and_then_nothing_is_hung_up_on",
        half_a_header,
    ),
    (
        "a_browser_that_is_not_there_is_a_typed_failure_that_leaves_nothing",
        no_browser,
    ),
    ("a_browser_that_dies_at_once_has_died_early", early_death),
    (
        "a_request_out_of_range_is_refused_and_the_connection_lives_on",
        out_of_range,
    ),
    (
        "a_request_of_another_version_is_refused_and_the_connection_lives_on",
        other_version,
    ),
    ("the_jailer_refuses_to_stay_root", stays_root),
    ("the_profile_and_the_probe_are_printed_as_json", printed),
];

fn one_peer() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    jailer.facts(None).unwrap();
    assert!(!rig.socket.exists());
    assert!(matches!(Jailer::connect(&rig.socket), Err(ClientError::Absent)));
    spawn(&mut jailer, 1);
    assert!(matches!(Jailer::connect(&rig.socket), Err(ClientError::Absent)));
}

fn hang_up() {
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let jails: Vec<_> = (0..2).map(|_| spawn(&mut jailer, 1)).collect();
    let pids = rig.below();
    assert!(pids.len() >= 2 && rig.profile_count() == 2);
    drop(jailer);
    eventually("every process is gone", || {
        gone(&pids) && rig.below().is_empty() && rig.profile_count() == 0
    });
    drop(jails);
    let mut jailer = rig.connect();
    spawn(&mut jailer, 1);
}

fn sigterm() {
    let mut rig = Rig::chromium();
    let mut jailer = rig.connect();
    let _spawned = spawn(&mut jailer, 1);
    let pids = rig.below();
    rig.signal(Signal::TERM);
    assert!(rig.ended());
    assert!(gone(&pids) && rig.profile_count() == 0);
    let mut idle = Rig::looking_around();
    eventually("it listens", || idle.socket.exists());
    idle.signal(Signal::TERM);
    assert!(idle.ended());
    assert!(!idle.socket.exists());
}

fn heard_first() {
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    // The first of several dies while the others are still to be ended.
    let spawned: Vec<_> = (0..4).map(|_| spawn(&mut jailer, 1)).collect();
    rig.signal(Signal::TERM);
    let mut pipes: Vec<_> = spawned
        .iter()
        .map(|spawned| PollFd::new(&spawned.cdp_read, PollFlags::IN))
        .collect();
    let patience = timespec(Duration::from_secs(20));
    assert!(poll(&mut pipes, Some(&patience)).unwrap() > 0, "no browser ended");
    let socket = jailer.hangup_fd();
    let mut hung_up = [PollFd::new(&socket, PollFlags::RDHUP)];
    let now = timespec(Duration::ZERO);
    assert_eq!(poll(&mut hung_up, Some(&now)), Ok(1), "the browser's end came first");
}

fn killed_jailer() {
    let weak = &[weak::USER_NAMESPACES];
    for (mode, kind) in [
        (Mode::Required, Kind::Product(CHROMIUM.into())),
        // No namespace takes a browser's processes along.
        (Mode::Degraded, Kind::Weak(CHROMIUM.into(), weak)),
    ] {
        let mut rig = Rig::start(kind);
        let mut jailer = rig.connect();
        let spawned = jailer.spawn(&SpawnSpec::new(1, mode), Duration::from_secs(20)).unwrap();
        assert_eq!(spawned.degraded, mode == Mode::Degraded);
        let mut cdp = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        cdp.call("Target.createTarget", &json!({"url": "about:blank"}));
        let mut pids = Vec::new();
        eventually("the page has a process", || {
            pids = rig.below();
            pids.len() >= 4 && pids.iter().any(|pid| inspect::is_renderer(*pid))
        });
        rig.signal(Signal::KILL);
        assert!(!rig.ended());
        eventually("its jails are gone", || gone(&pids));
        assert!(matches!(jailer.facts(None), Err(ClientError::Closed)));
        assert_eq!(rig.profile_count(), 1, "nobody could remove it");
        rig.restart();
        eventually("the next jailer removes it", || rig.profile_count() == 0);
        let mut jailer = rig.connect();
        let spawned = jailer.spawn(&SpawnSpec::new(1, mode), Duration::from_secs(20)).unwrap();
        let mut cdp = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        cdp.call("Browser.getVersion", &json!({}));
    }
}

/// Processes that not even SIGKILL ends, until it is dropped.
struct Frozen(PathBuf);

impl Frozen {
    /// `None`: control groups of version 2 do not stand in the way of a kill.
    fn make(pid: i32) -> Option<Self> {
        const FREEZER: &str = "/sys/fs/cgroup/freezer";
        let directory = Path::new(FREEZER).join(format!("capture-jail-{}", std::process::id()));
        if !Path::new(FREEZER).join("cgroup.procs").exists() {
            return None;
        }
        fs::create_dir(&directory).unwrap();
        let frozen = Self(directory);
        fs::write(frozen.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(frozen.0.join("freezer.state"), "FROZEN").unwrap();
        Some(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        eventually("the group is empty", || fs::remove_dir(&self.0).is_ok());
    }
}

fn late() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let below = rig.below();
    let frozen = am_root().then(|| Frozen::make(below[0])).flatten();
    let Some(frozen) = frozen else {
        println!("not run: only root, and with control groups of version 1, keeps a killed process from its end");
        return;
    };
    let exit = jailer.kill(spawned.id).unwrap();
    assert_eq!((exit.cause, exit.signal), (ExitCause::Killed, None));
    assert_eq!((rig.below(), rig.profile_count()), (below, 1));
    drop(frozen);
    eventually("it is reaped", || {
        jailer.facts(None).unwrap();
        rig.below().is_empty() && rig.profile_count() == 0
    });
}

fn other_uid() {
    if !am_root() {
        println!("not run: only root can be another uid than the jailer's here");
        return;
    }
    let rig = Rig::start(Kind::OwnUidOnly);
    assert!(matches!(rig.connect().facts(None), Err(ClientError::Closed)));
    assert!(rig.socket.exists(), "it goes on listening");
}

fn socket_mode() {
    // By itself this jailer would take no right away from anybody.
    let rig = Rig::start(Kind::Under(&["sh", "-c", "umask 0; exec \"$@\"", "sh"]));
    eventually("it listens", || rig.socket.exists());
    let mode = fs::symlink_metadata(&rig.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "{mode:o}");
}

fn unknown_field() {
    let rig = Rig::looking_around();
    drop(rig.connect());
    eventually("the socket is back", || rig.socket.exists());
    let mut stream = UnixStream::connect(&rig.socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let body = br#"{"version":1,"number":1,"call":{"facts":{"jail":null}},"program":"/bin/sh"}"#;
    stream
        .write_all(&u32::try_from(body.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(body).unwrap();
    // End of file, or a reset: the jailer may not have read all of it.
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 16]).unwrap_or(0), 0);
}

/// A connection without our client, of which each read ends in ten seconds.
fn bare(rig: &Rig) -> UnixStream {
    let mut stream = None;
    eventually("it listens", || {
        stream = UnixStream::connect(&rig.socket).ok();
        stream.is_some()
    });
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn half_a_header() {
    let rig = Rig::looking_around();
    let mut stream = bare(&rig);
    let start = Instant::now();
    // Nothing is shut down: there could be more at any time.
    stream.write_all(&[0, 0]).unwrap();
    let end = std::io::Read::read(&mut stream, &mut [0; 16]).map_err(|error| error.kind());
    let lasted = start.elapsed();
    assert_eq!(end, Ok(0), "after {lasted:?}");
    // For its silence, that is, and not for what it said.
    assert!(lasted >= Duration::from_secs(4), "{lasted:?}");
    rig.connect().facts(None).unwrap();
}

fn no_browser() {
    let rig = Rig::start(Kind::Product("/nonexistent/browser".into()));
    let mut jailer = rig.connect();
    let error = jailer
        .spawn(&SpawnSpec::new(1, Mode::Required), Duration::from_secs(20))
        .unwrap_err();
    let expected = JailError {
        step: Step::Exec,
        errno: Some(libc::ENOENT),
        reason: SandboxReason::ExecFailed,
    };
    assert!(
        matches!(error, ClientError::Jail(error) if error == expected),
        "{error:?}"
    );
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
}

fn early_death() {
    let rig = Rig::start(Kind::Product("/usr/bin/false".into()));
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    assert_eq!(Pipe::new(spawned.cdp_read, spawned.cdp_write).receive(), None);
    let mut exit = None;
    eventually("it is noticed", || {
        exit = jailer.stats(spawned.id).unwrap().exit;
        exit.is_some()
    });
    let asked = jailer.kill(spawned.id).unwrap();
    assert_eq!(Some(asked), exit);
    assert_eq!((asked.cause, asked.code), (ExitCause::DiedEarly, Some(1)));
}

fn out_of_range() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let error = jailer
        .spawn(&SpawnSpec::new(17, Mode::Required), Duration::from_secs(20))
        .unwrap_err();
    let expected = JailError {
        step: Step::Request,
        errno: None,
        reason: SandboxReason::BadRequest,
    };
    assert!(
        matches!(error, ClientError::Jail(error) if error == expected),
        "{error:?}"
    );
    let spawned = spawn(&mut jailer, 16);
    assert_eq!(spawned.listeners.len(), 16);
}

fn other_version() {
    let rig = Rig::looking_around();
    let mut stream = bare(&rig);
    let mut ask = |version, call| {
        let request = Request {
            version,
            number: 7,
            call,
        };
        protocol::write_frame(&mut stream, &request).unwrap();
        let response: Response = protocol::read_frame(&mut stream).unwrap();
        assert_eq!((response.version, response.number), (VERSION, 7));
        response.outcome
    };
    let refused = Outcome::Failed(JailError {
        step: Step::Request,
        errno: None,
        reason: SandboxReason::BadRequest,
    });
    for version in [VERSION + 1, VERSION - 1, 0] {
        assert_eq!(ask(version, Call::Facts { jail: None }), refused, "{version}");
        let spawn = Call::Spawn(SpawnSpec::new(1, Mode::Required));
        assert_eq!(ask(version, spawn), refused, "{version}");
    }
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
    assert!(matches!(ask(VERSION, Call::Facts { jail: None }), Outcome::Facts(_)));
}

fn stays_root() {
    if !am_root() {
        println!("not run: nobody here is root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut jailer = Command::new(env!("CARGO_BIN_EXE_capture-jail"));
    let status = jailer
        .arg("serve")
        .arg(directory.path().join("s"))
        .args(["--uid", "0"])
        .status()
        .unwrap();
    assert!(!status.success());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

fn printed() {
    for arguments in [
        &["seccomp-profile", "--arch", "aarch64"][..],
        &["seccomp-profile"],
        &["probe"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_capture-jail"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}");
        assert!(
            serde_json::from_slice::<serde_json::Value>(&output.stdout)
                .unwrap()
                .is_object()
        );
    }
}
