//! `docs/troubles.md` has every reason of a condition, every metric of the operator and every alert, with what to do.
//!
//! Words are looked for in the sources: a reason that is new there and not on the page fails here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use screenshot_policy::finding::Finding;

const PAGE: &str = include_str!("../../docs/troubles.md");

/// Types of conditions and their states, and words that others use: no reasons.
const OTHERS: &[&str] = &[
    "True",
    "False",
    "Unknown",
    "Ready",
    "Stalled",
    "Reconciling",
    "Available",
    "PolicyInForce",
    "CredentialsReady",
    "SandboxVerified",
    "EgressEnforced",
    "AddressesChecked",
    "ClusterAddressesKnown",
    "ExceptionsLasting",
    "Exposed",
    "AutoscalingActive",
    "MonitoringInPlace", // a reason of that name, too
    "CrashLoopBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "RuntimeClass",
    "ValidatingAdmissionPolicy",
    "Confined",
    "Limit",
    "NodeSetting",
    "SeccompFilter",
    "ScreenshotService",
    "Pod",
    "Node",
    "Service",
    "Timeout",
];

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let status = std::fs::read_dir(root.join("status")).unwrap();
    let mut files: Vec<PathBuf> = status
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.retain(|path| path.file_name().unwrap() != "tests.rs");
    for file in ["status.rs", "error.rs", "validate.rs", "cache/health.rs"] {
        files.push(root.join(file));
    }
    files
}

/// Whether a text is one word as a reason is written.
fn is_reason(text: &str) -> bool {
    text.len() > 3
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphabetic())
        && text.chars().any(|c| c.is_ascii_lowercase())
}

/// Words between quotes in what is not test code.
fn words(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    code.split('"').filter(|text| is_reason(text) && !OTHERS.contains(text))
}

#[test]
fn every_reason_is_on_the_page_with_what_to_do() {
    // What a pod finds wrong is a reason by its own name.
    let mut found: BTreeSet<String> = Finding::ALL.iter().map(ToString::to_string).collect();
    for file in sources() {
        found.extend(words(&std::fs::read_to_string(file).unwrap()).map(str::to_owned));
    }
    assert!(
        found.len() > 60 && found.contains("QuotaExceeded") && found.contains("ImageMissing"),
        "{found:?}"
    );
    let missing: Vec<_> = found
        .iter()
        .filter(|reason| !PAGE.contains(&format!("`{reason}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/troubles.md: {missing:?}");
    let (reasons, _) = PAGE.split_once("## Metrics").unwrap();
    let rows = reasons.lines().filter(|line| line.starts_with("| `"));
    let named: Vec<&str> = rows
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    let stale: Vec<_> = named
        .iter()
        .filter(|reason| !found.contains(**reason) && !OTHERS.contains(reason))
        .collect();
    assert!(stale.is_empty(), "no longer in the sources: {stale:?}");
}

#[test]
fn every_metric_is_on_the_page_with_what_to_do() {
    let source = include_str!("../src/metrics.rs");
    let code = source.split("#[cfg(test)]").next().unwrap();
    let registered = code.split("to.register").skip(1).map(|rest| {
        let unit = if rest.starts_with("_with_unit") { "_seconds" } else { "" };
        format!("{}{unit}", rest.split('"').nth(1).unwrap())
    });
    assert_eq!(registered.collect::<BTreeSet<_>>(), rows("Metrics of the operator"));
}

#[test]
fn every_alert_is_on_the_page_with_what_to_do() {
    let chart = include_str!("../../charts/screenshot-operator/files/alerts.yaml");
    let of_operator = chart
        .split("- alert: ")
        .skip(1)
        .map(|rest| rest.lines().next().unwrap());
    let source = include_str!("../src/plan/monitoring.rs");
    let code = source.split("#[cfg(test)]").next().unwrap();
    let of_service = code.split("alert(\n").skip(1).filter_map(|rest| rest.split('"').nth(1));
    let alerts: BTreeSet<String> = of_operator.chain(of_service).map(str::to_owned).collect();
    assert_eq!(alerts, rows("Alerts"));
}

/// What the rows of a chapter are about.
fn rows(title: &str) -> BTreeSet<String> {
    let (_, chapter) = PAGE.split_once(&format!("## {title}\n")).unwrap();
    let lines = chapter.lines().take_while(|line| !line.starts_with("## "));
    let rows = lines.filter(|line| line.starts_with("| `"));
    rows.map(|line| line.split('`').nth(1).unwrap().to_owned()).collect()
}
