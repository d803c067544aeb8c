//! The whole path on real parts. Run by `make test-e2e`, which brings cluster and operator up first.
//!
//! The modules beside this one run at the same time, each test in a namespace of its own. `alone` holds the tests that
//! take something from the node or the operator and measure: nextest gives them the machine (`.config/nextest.toml`).

// Helper functions of a test file are test code, too; clippy only knows the functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod alone;
mod autoscaling;
mod conditions;
mod enforcement;
mod hostile;
mod manifests;
mod network;
mod pictures;
mod recovery;
mod requests;
mod rotation;
mod sockets;
mod upstream;

use screenshot_tests::{Answer, Namespace, apply, kubectl, kubectl_with, wait_ready, with_images};

/// What `make demo` applies: namespace, site, and the service `demo` with its named exception.
const DEMO: &str = include_str!("../../../examples/demo.yaml");

/// The demo in a namespace of its own.
fn demo(prefix: &str) -> Namespace {
    let created = Namespace::create(prefix).unwrap();
    let namespace = created.0.as_str();
    apply(&with_images(DEMO).replace("shots-demo", namespace)).unwrap();
    wait_ready(namespace, "demo").unwrap();
    let site = ["rollout", "status", "deployment/demo-site", "--timeout=60s"];
    kubectl(&[&["-n", namespace], &site[..]].concat()).unwrap();
    created
}

fn apply_in(namespace: &str, manifest: &str) {
    kubectl_with(&["-n", namespace, "apply", "-f", "-"], manifest).unwrap();
}

/// Width and height of the picture in an answer.
fn size(answer: &Answer) -> (u32, u32) {
    assert_eq!(answer.status, 200, "{}", answer.json());
    let picture = image::load_from_memory(&answer.body).unwrap();
    (picture.width(), picture.height())
}
