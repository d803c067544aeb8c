//! Fuzz targets of what the server and the jailer say to each other, on both sides, on stable. See
//! `crds/policy/tests/fuzz/engine.rs` for how; `tests/isolation/fuzz.rs` does it to a live jailer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "this is a test; the engine is shared"
)]

#[path = "../../../crds/policy/tests/fuzz/engine.rs"]
mod engine;

use capture_jail::child::Layers;
use capture_jail::launch::{Late, Settings};
use capture_jail::protocol::{
    self, Call, Exit, ExitCause, JailId, JailStats, MAX_FRAME, Mode, Outcome, Request, Response, SpawnSpec, VERSION,
};
use capture_jail::session::Session;
use engine::fuzz_bytes;

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "-1",
    "0",
    "1e9",
    "65536",
    "18446744073709551616",
    "\"",
    "\\u0000",
    "spawn",
    "kill",
    "facts",
    "\"jail\":",
    "\"more\":1,",
    "degraded",
];

fn requests() -> Vec<Vec<u8>> {
    let calls = [
        Call::Spawn(SpawnSpec::new(4, Mode::Required)),
        Call::Spawn(SpawnSpec {
            max_old_space_mb: Some(64),
            accepted_key: Some([7; 32]),
            ..SpawnSpec::new(1, Mode::Degraded)
        }),
        Call::Kill { jail: JailId(1) },
        Call::Stats { jail: JailId(2) },
        Call::Facts { jail: Some(JailId(1)) },
        Call::Facts { jail: None },
    ];
    calls
        .into_iter()
        .map(|call| {
            protocol::encode(&Request {
                version: VERSION,
                number: 7,
                call,
            })
            .unwrap()
        })
        .collect()
}

fn responses() -> Vec<Vec<u8>> {
    let exit = Exit {
        starved: false,
        cause: ExitCause::Died,
        code: None,
        signal: Some(9),
        lived_ms: 12,
    };
    let stats = JailStats {
        age_ms: 1,
        processes: 2,
        tasks: 3,
        anonymous_bytes: 4,
        shared_bytes: 5,
        cpu_ms: 5,
        exit: Some(exit),
    };
    let outcomes = [
        Outcome::Spawned {
            jail: JailId(1),
            ports: vec![4001, 4002],
            degraded: false,
        },
        Outcome::Killed(exit),
        Outcome::Stats(stats),
    ];
    outcomes
        .into_iter()
        .map(|outcome| {
            protocol::encode(&Response {
                version: VERSION,
                number: 7,
                outcome,
            })
            .unwrap()
        })
        .collect()
}

fn slices(seeds: &[Vec<u8>]) -> Vec<&[u8]> {
    seeds.iter().map(Vec::as_slice).collect()
}

/// Whatever parses comes back as it was, and its frame is as long as its header says.
fn whole<T>(bytes: &[u8])
where
    T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
{
    let mut rest = bytes;
    let Ok(message) = protocol::read_frame::<T>(&mut rest) else {
        return;
    };
    let used = bytes.len() - rest.len();
    let header = <[u8; 4]>::try_from(&bytes[..4]).unwrap();
    assert_eq!(used, 4 + protocol::body_length(header).unwrap());
    assert!(used <= 4 + MAX_FRAME);
    let again = protocol::encode(&message).unwrap();
    assert_eq!(protocol::read_frame::<T>(&mut again.as_slice()).unwrap(), message);
}

#[test]
fn fuzz_frames_of_both_sides() {
    fuzz_bytes(&slices(&requests()), WORDS, whole::<Request>);
    fuzz_bytes(&slices(&responses()), WORDS, whole::<Response>);
}

/// Whatever is asked, the answer has its number and this version, and descriptors stand beside a started browser only.
/// Nothing can be started here: this process has threads, and the jailer refuses to copy such a one.
#[test]
fn fuzz_requests_to_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        browser: "/nonexistent".into(),
        profile_root: directory.path().into(),
        secrets: Vec::new(),
        keep_stderr: false,
        memory_limit: None,
        layers: Layers::default(),
        withheld: Vec::new(),
    };
    fuzz_bytes(&slices(&requests()), WORDS, |bytes| {
        let Ok(request) = protocol::read_frame::<Request>(&mut &*bytes) else {
            return;
        };
        let (response, fds) = Session::new(&settings, Late::default()).handle(&request);
        assert_eq!((response.version, response.number), (VERSION, request.number));
        let harmless = matches!(response.outcome, Outcome::Failed(_) | Outcome::Facts(_));
        assert!(harmless && fds.is_empty(), "{response:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    });
}
