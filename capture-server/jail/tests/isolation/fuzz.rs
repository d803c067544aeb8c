//! A live jailer that is told nonsense: it hangs up, nothing is left, and the next peer is served.

#[path = "../../../../crds/policy/tests/fuzz/engine.rs"]
mod engine;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use capture_jail::protocol::{Call, JailId, Mode, Request, SpawnSpec, VERSION, encode};

use crate::Test;
use crate::rig::{Kind, Rig};

pub const TESTS: &[Test] = &[("fuzz_a_jailer_that_is_told_nonsense_serves_the_next_peer", nonsense)];

const WORDS: &[&str] = &[
    "\0\0\0\u{1}",
    "\0\0",
    "{",
    "}",
    "null",
    "-1",
    "18446744073709551616",
    "\"spawn\"",
    "\"kill\"",
    "[[[[",
];

/// Whole conversations: one frame or several.
fn seeds() -> Vec<Vec<u8>> {
    let frame = |call| {
        let request = Request {
            version: VERSION,
            number: 1,
            call,
        };
        encode(&request).unwrap()
    };
    let spawn = frame(Call::Spawn(SpawnSpec::new(2, Mode::Required)));
    let (kill, facts) = (frame(Call::Kill { jail: JailId(1) }), frame(Call::Facts { jail: None }));
    vec![
        facts.clone(),
        kill.clone(),
        [facts, spawn.clone(), kill].concat(),
        [spawn.clone(), spawn].concat(),
    ]
}

fn nonsense() {
    // A browser that ends at once: what is fuzzed is the jailer.
    let rig = Rig::start(Kind::Product("/usr/bin/false".into()));
    drop(rig.connect());
    let (seed, time) = engine::run();
    let (mut random, end) = (engine::Random::new(seed), Instant::now() + time);
    let seeds = seeds();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let mut runs = 0;
    while Instant::now() < end || runs < 50 {
        let input = engine::broken(&mut random, &seeds, WORDS);
        let mut stream = peer(&rig);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // The jailer may hang up in the middle.
        let _ = stream.write_all(&input);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        let ended = stream.read_to_end(&mut answers).map_err(|error| error.kind());
        let hung = matches!(
            ended,
            Err(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        );
        assert!(
            !hung,
            "FUZZ_SEED={seed} run {runs}: no end after {}",
            input.escape_ascii()
        );
        runs += 1;
    }
    println!("{runs} runs, FUZZ_SEED={seed}");
    let mut jailer = rig.connect();
    jailer.facts(None).unwrap();
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
}

/// A connection, as soon as the jailer listens again.
fn peer(rig: &Rig) -> UnixStream {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match UnixStream::connect(&rig.socket) {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > end => panic!("the jailer is gone: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
