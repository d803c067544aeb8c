//! The program as a person runs it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "all of this file is test code"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// A policy without any NetworkPolicy beside it: thousands of lines of differences, more than a pipe holds.
const ALONE: &str = include_str!("snapshots/golden__the_plan_of_a_minimal_service.snap");

#[test]
fn a_reader_that_has_seen_enough_ends_the_output_and_not_the_program() {
    let plan = ALONE.splitn(3, "---\n").nth(2).unwrap();
    let documents: Vec<&str> = plan.split("---\n").collect();
    let policy = documents
        .iter()
        .find(|document| document.contains("policy.json"))
        .unwrap();
    let nothing = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: all, namespace: web}\n\
                   spec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}\n";
    let mut program = Command::new(env!("CARGO_BIN_EXE_screenshot-operator"))
        .args(["policy", "verify", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(program.stdout.take());
    let mut input = program.stdin.take().unwrap();
    input.write_all(format!("{policy}---\n{nothing}").as_bytes()).unwrap();
    drop(input);
    let ended = program.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(said, "screenshot-operator: proxy and NetworkPolicies differ\n");
    assert_eq!(ended.status.code(), Some(1), "what was found is still told");
}
