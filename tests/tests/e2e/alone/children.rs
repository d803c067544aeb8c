//! What a service is made of comes back when it is deleted, and goes with the service.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use screenshot_tests::{Kind, Namespace, delete, eventually, find, list, pods, record, service, token, wait_ready};

use crate::apply_in;

const SELECTOR: &str = "app.kubernetes.io/instance=shots,app.kubernetes.io/managed-by=screenshot-operator";
/// The promise is two seconds for the typical child; a machine under load may take longer for one of them.
const TYPICAL: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(20);

fn children(namespace: &str) -> Vec<(Kind, String)> {
    let of = |kind| {
        let found = list(namespace, kind, SELECTOR).unwrap();
        found
            .iter()
            .map(|child| (kind, child["metadata"]["name"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    Kind::CHILDREN.into_iter().flat_map(of).collect()
}

/// Deletes a child of a service at rest and waits for another one of its name.
fn comeback(namespace: &str, kind: Kind, name: &str) -> Duration {
    wait_ready(namespace, "shots").unwrap();
    let uid = |child: &serde_json::Value| child["metadata"]["uid"].clone();
    let before = uid(&find(namespace, kind, name).unwrap().unwrap());
    let start = Instant::now();
    delete(namespace, kind, name).unwrap();
    eventually(&format!("{kind:?} {name} comes back"), LONGEST, || {
        let child = find(namespace, kind, name).ok()??;
        (uid(&child) != before && child["metadata"]["deletionTimestamp"].is_null()).then(|| start.elapsed())
    })
    .unwrap()
}

#[test]
fn every_child_that_is_deleted_comes_back_and_nothing_stays_when_the_service_goes() {
    let namespace = Namespace::create("e2e-children").unwrap();
    apply_in(&namespace.0, &service("shots", "{replicas: 1}"));
    wait_ready(&namespace.0, "shots").unwrap();
    let before = token(&namespace.0, "shots").unwrap();
    let all = children(&namespace.0);
    assert!(all.len() >= 11, "{all:?}");

    let mut times = Vec::new();
    let mut table = String::from("A deleted child is back after\n");
    for (kind, name) in &all {
        let took = comeback(&namespace.0, *kind, name);
        let _ = writeln!(table, "  {:<36} {:>5} ms", format!("{kind:?}/{name}"), took.as_millis());
        times.push(took);
    }
    times.sort();
    let median = times[times.len() / 2];
    let _ = writeln!(table, "  {:<36} {:>5} ms", "median", median.as_millis());
    record("children", &table).unwrap();
    assert!(median < TYPICAL, "{table}");
    wait_ready(&namespace.0, "shots").unwrap();
    assert_ne!(
        token(&namespace.0, "shots").unwrap(),
        before,
        "a deleted token is never made again"
    );

    delete(&namespace.0, Kind::ScreenshotService, "shots").unwrap();
    eventually("no child is left", Duration::from_secs(60), || {
        children(&namespace.0).is_empty().then_some(())
    })
    .unwrap();
    eventually("no pod is left", Duration::from_secs(60), || {
        list(&namespace.0, Kind::Pod, "").ok()?.is_empty().then_some(())
    })
    .unwrap();
    assert!(pods(&namespace.0, "shots").unwrap().is_empty());
}
