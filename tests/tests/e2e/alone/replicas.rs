//! Replicas of the operator come and go: another one goes on, and no capture pod notices.

use std::time::Duration;

use screenshot_tests::{
    Kind, Namespace, delete, eventually, get, kubectl, list, merge, operator_namespace, pods, service, token,
    wait_ready,
};
use serde_json::{Value, json};

use crate::apply_in;

const OPERATOR: &str = "screenshot-operator";
const LIMIT: Duration = Duration::from_secs(60);

/// The pod that leads, as the Lease has it.
fn leader() -> Option<String> {
    let lease = get(&operator_namespace(), Kind::Lease, OPERATOR).ok()?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

/// Names of the operator's pods that are not on their way out.
fn operators() -> Vec<String> {
    let label = format!("app.kubernetes.io/name={OPERATOR}");
    let pods = list(&operator_namespace(), Kind::Pod, &label).unwrap();
    let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    staying
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Another pod than these leads, and puts an edit back.
fn goes_on(namespace: &str, gone: &[String]) -> String {
    let next = eventually("another replica leads", LIMIT, || {
        leader().filter(|leader| !gone.contains(leader))
    })
    .unwrap();
    let label = "app.kubernetes.io/managed-by";
    let edit = json!({"metadata": {"labels": {label: "somebody"}}});
    merge(namespace, Kind::Service, "shots", &edit).unwrap();
    eventually("the edit is put back", LIMIT, || {
        let service = get(namespace, Kind::Service, "shots").ok()?;
        (service["metadata"]["labels"][label] != "somebody").then_some(())
    })
    .unwrap();
    assert_eq!(leader().as_ref(), Some(&next), "it changed hands meanwhile");
    next
}

/// Which pods there are, and how often a container of theirs was started anew.
fn capture_pods(namespace: &str) -> Vec<(String, u64)> {
    let restarts = |pod: &Value| {
        let statuses = pod["status"]["containerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        statuses
            .iter()
            .filter_map(|status| status["restartCount"].as_u64())
            .sum()
    };
    let mut pods: Vec<(String, u64)> = pods(namespace, "shots")
        .unwrap()
        .iter()
        .map(|pod| (pod["metadata"]["uid"].as_str().unwrap().to_owned(), restarts(pod)))
        .collect();
    pods.sort();
    pods
}

#[test]
fn another_replica_goes_on_and_neither_that_nor_a_restart_of_all_touches_a_capture_pod() {
    let namespace = Namespace::create("e2e-replicas").unwrap();
    let name = namespace.0.as_str();
    let spec = |nonce: &str| {
        service(
            "shots",
            &format!("{{replicas: 2, auth: {{rotation: {{nonce: {nonce}}}}}}}"),
        )
    };
    apply_in(name, &spec("one"));
    wait_ready(name, "shots").unwrap();
    let (before, first_token) = (capture_pods(name), token(name, "shots").unwrap());
    assert_eq!(before.len(), 2);

    let first = eventually("a replica leads", LIMIT, leader).unwrap();
    let all = operators();
    assert!(all.len() > 1 && all.contains(&first), "{first} of {all:?}");
    // The one that stood by, or else the one that replaces the first: whoever asks for the Lease first.
    delete(&operator_namespace(), Kind::Pod, &first).unwrap();
    let second = goes_on(name, &[first]);

    let deployment = format!("deployment/{OPERATOR}");
    let old = operators();
    kubectl(&["-n", &operator_namespace(), "rollout", "restart", &deployment]).unwrap();
    kubectl(&[
        "-n",
        &operator_namespace(),
        "rollout",
        "status",
        &deployment,
        "--timeout=90s",
    ])
    .unwrap();
    goes_on(name, &[old, vec![second]].concat());
    // The next operator knows nothing but what is written down: a rotation goes through all of that.
    apply_in(name, &spec("two"));
    eventually("the token is another one", LIMIT, || {
        (token(name, "shots").ok()? != first_token).then_some(())
    })
    .unwrap();
    wait_ready(name, "shots").unwrap();
    assert_eq!(capture_pods(name), before, "a capture pod was replaced or started anew");
}
