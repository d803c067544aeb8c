//! A hostile page that tries every way out that browsers have, and an ear on the network that it would leave by.
//!
//! Each test runs again in a network namespace of its own with an uplink that leads nowhere ([`uplink`]). The browsers
//! run with the product's command line, outside of jails (so that the flags alone hold them) and inside; the controls
//! take one switch away and hear the packets. Runs as root and as an ordinary user, one test at a time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "this is a test; the rig is shared"
)]

mod arms;
mod proxy;
#[path = "../isolation/rig.rs"]
mod rig;
mod uplink;
#[path = "../isolation/weak.rs"]
mod weak;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(weak::COMMAND) => return weak::run(&arguments[2..]),
        Some(uplink::COMMAND) => return uplink::prepare(&arguments[2..]),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = arms::TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            if uplink::is_here() {
                test();
            } else {
                uplink::run_behind(name);
            }
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
