//! A live Chromium that lacks a part of its own confinement, and what the preflight calls it.

use capture_jail::facts::{self, Reason};
use capture_jail::inspect::MAX_LISTED;
use serde_json::json;

use crate::Test;
use crate::rig::{Kind, Pipe, Rig, eventually, spawn};
use crate::wrapped;

pub const TESTS: &[Test] = &[
    ("a_browser_without_a_page_is_not_proven", no_page),
    (
        "a_browser_that_lacks_a_part_of_its_own_sandbox_is_named_by_exactly_that",
        parts,
    ),
    (
        "a_jail_in_the_jailers_own_network_is_named_by_what_it_shares",
        shared_network,
    ),
    ("more_processes_than_are_looked_at_are_a_finding", too_many_processes),
];

/// What is found of this browser once it has a page, for good.
fn found(flags: &'static str, expected: &[Reason]) {
    let programs = tempfile::tempdir().unwrap();
    let rig = Rig::start(Kind::Product(wrapped::install(programs.path(), flags)));
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let id = spawned.id;
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    pipe.call("Target.createTarget", &json!({"url": "about:blank"}));
    let mut last = Vec::new();
    // A process that is just starting has no filter yet: the same twice in a row counts.
    eventually(&format!("{flags}: {expected:?}"), || {
        let verdict = facts::verify(&jailer.facts(Some(id)).unwrap());
        let before = std::mem::replace(&mut last, verdict.err().unwrap_or_default());
        last == expected && before == last
    });
}

fn no_page() {
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    pipe.call("Browser.getVersion", &json!({}));
    eventually("nothing but the page is missed", || {
        facts::verify(&jailer.facts(Some(spawned.id)).unwrap()) == Err(vec![Reason::NoRenderer])
    });
}

fn parts() {
    // The control: wrapped, and nothing taken away.
    found("", &[]);
    found(
        "--disable-seccomp-filter-sandbox",
        &[Reason::RendererUnfiltered, Reason::GpuUnfiltered],
    );
    found("--in-process-gpu", &[Reason::NoGpuProcess]);
    found(
        "--no-sandbox",
        &[
            Reason::RendererUnfiltered,
            Reason::GpuUnfiltered,
            Reason::SharedUserNamespace,
            Reason::SharedPidNamespace,
            Reason::SharedNetworkNamespace,
            Reason::RendererSeesRoot,
        ],
    );
}

fn shared_network() {
    let rig = Rig::looking_around_without(&["namespaces"]);
    let mut jailer = rig.connect();
    // With its pipe open, or the program ends.
    let spawned = spawn(&mut jailer, 1);
    let facts = jailer.facts(Some(spawned.id)).unwrap();
    let reasons = facts::verify(&facts).unwrap_err();
    for reason in [
        Reason::SharedUserNamespace,
        Reason::SharedPidNamespace,
        Reason::SharedNetworkNamespace,
    ] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
    // Whatever this machine has.
    let others = facts.interfaces.iter().any(|name| name != "lo");
    assert_eq!(reasons.contains(&Reason::ExtraInterface), others, "{facts:?}");
    assert_eq!(reasons.contains(&Reason::RoutePresent), facts.routes > 0, "{facts:?}");
}

fn too_many_processes() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let id = spawned.id;
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    let mut is_found = || {
        let facts = jailer.facts(Some(id)).unwrap();
        facts::verify(&facts).unwrap_err().contains(&Reason::TooManyProcesses)
    };
    assert!(!is_found());
    let more = MAX_LISTED.to_string();
    assert_eq!(pipe.ask(&format!("breed {more} hold 0")), more);
    assert!(is_found());
}
