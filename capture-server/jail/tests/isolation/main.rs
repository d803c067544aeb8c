//! The jailer against a real Chromium and against a program that looks around in its place.
//!
//! Runs as root (the jailer then drops to an unprivileged uid) and as an ordinary user; needs user namespaces, Landlock
//! and Debian's chromium-headless-shell. One test at a time. This binary is also the program that looks around
//! ([`look_around`], known by the flag that every browser gets) and a jailer with layers taken away ([`weak`]), so that
//! the product needs no switch for either.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "this is a test; the rig is shared"
)]

mod browser;
mod certificates;
mod deaths;
mod fuzz;
mod jail;
mod lifecycle;
mod look_around;
mod reasons;
mod rig;
#[path = "../../../tests/it/self_signed.rs"]
mod self_signed;
mod switches;
mod unconfined;
mod weak;
mod wrapped;

use libtest_mimic::{Arguments, Trial};

type Test = (&'static str, fn());

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // First: among its arguments may be the switch that the program that looks around is known by.
    if arguments.get(1).is_some_and(|argument| argument == weak::COMMAND) {
        return weak::run(&arguments[2..]);
    }
    wrapped::run();
    if arguments.iter().any(|argument| argument == "--remote-debugging-pipe") {
        return look_around::run();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let rooms = [
        browser::TESTS,
        certificates::TESTS,
        deaths::TESTS,
        fuzz::TESTS,
        jail::TESTS,
        lifecycle::TESTS,
        reasons::TESTS,
        switches::TESTS,
        unconfined::TESTS,
    ];
    let tests: Vec<Test> = rooms.concat();
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
