//! Every way in which a browser can end, one after the other at one jailer, and nothing is left of any: no process, no
//! zombie, no file, no descriptor.

use std::fs;
use std::time::Duration;

use capture_jail::client::Jailer;
use capture_jail::protocol::{ExitCause, JailId, Mode, SpawnSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::Test;
use crate::rig::{CHROMIUM, Kind, Pipe, Rig, eventually};

pub const TESTS: &[Test] = &[
    ("whichever_way_a_browser_ends_nothing_is_left_of_it", ways),
    ("a_degraded_jail_leaves_nothing_either", degraded),
];

struct World<'r> {
    rig: &'r Rig,
    jailer: Jailer,
    id: JailId,
    pipe: Option<Pipe>,
}

type Way = fn(&mut World<'_>);

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Each ends the browser of the world, or leaves that to the request after it.
const WAYS: &[(&str, Way)] = &[
    ("the request", |_| {}),
    ("its own wish", |world| {
        world
            .pipe
            .as_mut()
            .unwrap()
            .send(&json!({"id": 9, "method": "Browser.close"}).to_string());
    }),
    ("a crash of the browser", |world| {
        world
            .pipe
            .as_mut()
            .unwrap()
            .send(&json!({"id": 9, "method": "Browser.crash"}).to_string());
    }),
    ("the end of its pipe", |world| world.pipe = None),
    ("SIGKILL", |world| kill(world.rig.below()[0])),
    ("SIGKILL of everything but the browser", |world| {
        for pid in world.rig.below().into_iter().skip(1) {
            // It may have gone with another one.
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }),
    ("a stop that nobody takes back", |world| {
        for pid in world.rig.below() {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
        }
    }),
];

fn descriptors(rig: &Rig) -> usize {
    fs::read_dir(format!("/proc/{}/fd", rig.pid())).unwrap().count()
}

/// A browser with a page, ended in this way; then whatever is left of it is asked for.
fn end(rig: &Rig, jailer: Jailer, mode: Mode, (name, way): &(&str, Way)) -> Jailer {
    let mut world = World {
        rig,
        jailer,
        id: JailId(0),
        pipe: None,
    };
    let spawned = world
        .jailer
        .spawn(&SpawnSpec::new(2, mode), Duration::from_secs(20))
        .unwrap();
    world.id = spawned.id;
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    pipe.call("Target.createTarget", &json!({"url": "about:blank"}));
    world.pipe = Some(pipe);
    assert!(rig.below().len() >= 3 && rig.profile_count() == 1, "{name}");
    way(&mut world);
    // Dead by itself within a while, or still to be killed: the request answers either way.
    std::thread::sleep(Duration::from_millis(300));
    let exit = world.jailer.kill(world.id).unwrap();
    assert!(
        [ExitCause::Killed, ExitCause::Died, ExitCause::DiedEarly].contains(&exit.cause),
        "{name}: {exit:?}"
    );
    eventually(name, || rig.below().is_empty() && rig.profile_count() == 0);
    world.jailer
}

fn all_ways(rig: &Rig, mode: Mode) {
    let mut jailer = rig.connect();
    jailer.facts(None).unwrap();
    let before = descriptors(rig);
    for way in WAYS {
        jailer = end(rig, jailer, mode, way);
        assert_eq!(descriptors(rig), before, "{}", way.0);
    }
}

fn ways() {
    all_ways(&Rig::chromium(), Mode::Required);
}

fn degraded() {
    let rig = Rig::start(Kind::Weak(CHROMIUM.into(), &[crate::weak::USER_NAMESPACES]));
    all_ways(&rig, Mode::Degraded);
}
