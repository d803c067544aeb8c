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

/// `policy verify -` with this text: its exit code and what it prints.
fn verify(text: &str) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_screenshot-operator"))
        .args(["policy", "verify", "-", "--at", "2026-01-01T00:00:00Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = program.stdin.take().unwrap();
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let ended = program.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    (ended.status.code(), String::from_utf8(ended.stdout).unwrap())
}

#[test]
fn a_rendered_plan_verifies_and_each_hole_in_it_is_named() {
    let plan = ALONE.splitn(3, "---\n").nth(2).unwrap();
    let (code, said) = verify(plan);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" connections compared, 0 differ\n"), "{said}");
    for (peer, port, named) in [
        (
            "podSelector: {}",
            8080,
            "tcp any pod in namespace web, port 8080: the proxy refuses",
        ),
        (
            "namespaceSelector: {}",
            8080,
            "tcp any pod in namespace verify-elsewhere, port 8080: the proxy refuses",
        ),
        (
            "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: web}}",
            8080,
            "tcp any pod in namespace web, port 8080: the proxy refuses",
        ),
        (
            "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}",
            443,
            "tcp any pod in namespace shop, port 443: the proxy refuses",
        ),
        (
            "namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [bank, kube-system]}]}",
            53,
            "tcp any pod in namespace kube-system, port 53: the proxy refuses",
        ),
        (
            "ipBlock: {cidr: 169.254.169.254/32}",
            53,
            "tcp 169.254.169.254:53: the proxy refuses",
        ),
        ("ipBlock: {cidr: 10.0.0.0/8}", 53, "tcp 10.0.0.0:53: the proxy refuses"),
        (
            "ipBlock: {cidr: 10.0.0.0/8}",
            80,
            "tcp 10.0.0.0:80: the proxy refuses (private_address)",
        ),
    ] {
        let hole = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: hole, namespace: web}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{{peer}}}], ports: [{{port: {port}}}]}}]}}\n"
        );
        let (code, said) = verify(&format!("{plan}\n---\n{hole}"));
        assert_eq!(code, Some(1), "{peer} {port}");
        assert!(
            said.contains(named),
            "{peer} {port}: {}",
            said.lines().take(9).collect::<Vec<_>>().join("\n")
        );
    }
}

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
