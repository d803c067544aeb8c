//! Browsers without one of the switches that are seen on the browser itself; `tests/packets` has those of the network.

use std::time::Duration;

use capture_jail::facts::{self, Reason};
use capture_jail::protocol::{Mode, SpawnSpec};
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{CHROMIUM, Kind, Pipe, Rig, eventually, spawn};

pub const TESTS: &[Test] = &[
    ("without_the_pipe_switch_nobody_answers_on_the_pipe", pipe),
    (
        "without_the_rasterizer_switch_the_gpu_process_is_unfiltered_and_the_preflight_says_so",
        gpu,
    ),
    ("the_heap_of_a_page_has_the_bound_that_was_asked_for", heap),
    ("without_its_switch_a_page_can_start_a_shared_worker", shared_workers),
];

fn without(names: &'static [&'static str]) -> Rig {
    Rig::start(Kind::Weak(CHROMIUM.into(), names))
}

fn pipe() {
    for (names, answers) in [(&[][..], true), (&["--remote-debugging-pipe"], false)] {
        let rig = without(names);
        let mut jailer = rig.connect();
        let spawned = spawn(&mut jailer, 1);
        let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        pipe.send(&json!({"id": 1, "method": "Browser.getVersion"}).to_string());
        assert_eq!(pipe.answers_within(Duration::from_secs(3)), answers, "{names:?}");
    }
}

fn gpu() {
    for (names, filtered) in [(&[][..], true), (&["--disable-software-rasterizer"], false)] {
        let rig = without(names);
        let mut jailer = rig.connect();
        let spawned = spawn(&mut jailer, 1);
        let id = spawned.id;
        let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        pipe.call("Target.createTarget", &json!({"url": "about:blank"}));
        // A process that is just starting has no filter yet: the last word counts.
        let mut last = Ok(());
        eventually("the preflight finds what it should", || {
            last = facts::verify(&jailer.facts(Some(id)).unwrap());
            match &last {
                Ok(()) => filtered,
                Err(reasons) => !filtered && *reasons == [Reason::GpuUnfiltered],
            }
        });
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(facts::verify(&jailer.facts(Some(id)).unwrap()), last, "{names:?}");
    }
}

/// What an expression is on an empty page.
fn evaluated(pipe: &mut Pipe, expression: &str) -> Value {
    let target = pipe.call("Target.createTarget", &json!({"url": "about:blank"}));
    let attach = json!({"targetId": target["targetId"], "flatten": true});
    let session = pipe.call("Target.attachToTarget", &attach)["sessionId"].clone();
    let question = json!({"expression": expression, "returnByValue": true});
    pipe.call_page(&session, "Runtime.evaluate", &question)["result"]["value"].clone()
}

fn shared_workers() {
    for (names, kind) in [(&[][..], "undefined"), (&["--disable-shared-workers"], "function")] {
        let rig = without(names);
        let mut jailer = rig.connect();
        let spawned = spawn(&mut jailer, 1);
        let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        assert_eq!(evaluated(&mut pipe, "typeof SharedWorker"), kind, "{names:?}");
    }
}

fn heap() {
    let limit = |names, megabytes| {
        let rig = without(names);
        let mut jailer = rig.connect();
        let spec = SpawnSpec {
            max_old_space_mb: Some(megabytes),
            ..SpawnSpec::new(1, Mode::Required)
        };
        let spawned = jailer.spawn(&spec, Duration::from_secs(20)).unwrap();
        let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        evaluated(&mut pipe, "performance.memory.jsHeapSizeLimit")
            .as_u64()
            .unwrap()
            >> 20
    };
    let (small, large) = (limit(&[], 128), limit(&[], 512));
    assert!(
        (128..256).contains(&small) && (512..700).contains(&large),
        "{small} {large}"
    );
    let own = limit(&["--js-flags=--max-old-space-size"], 128);
    assert!(own > 1_000, "{own}: V8's own choice follows the machine's memory");
}
