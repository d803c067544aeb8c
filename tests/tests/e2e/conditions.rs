//! What a service that lacks nothing says of itself.

use std::time::Duration;

use screenshot_tests::{
    Forward, Namespace, apply, capture, condition, conditions, eventually, kubectl, pods, service, token, wait_ready,
};
use serde_json::json;

use crate::apply_in;

/// A class of pods with this runtime, while this lives.
struct Class(String);

impl Class {
    fn new(name: &str, handler: &str) -> Self {
        let class = format!("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nhandler: {handler}\nmetadata:\n  name: ");
        apply(&format!("{class}{name}\n")).unwrap();
        Self(name.to_owned())
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "runtimeclass", &self.0, "--wait=false"]);
    }
}

#[test]
fn an_empty_spec_runs_and_every_condition_is_true() {
    let namespace = Namespace::create("e2e-conditions").unwrap();
    apply_in(&namespace.0, &service("shots", "{}"));
    wait_ready(&namespace.0, "shots").unwrap();
    for kind in [
        "Ready",
        "Available",
        "PolicyInForce",
        "CredentialsReady",
        "SandboxVerified",
        "EgressEnforced",
    ] {
        let found = condition(&namespace.0, "shots", kind).map(|condition| condition.status);
        assert_eq!(found.as_deref(), Some("True"), "{kind}");
    }
    for absent in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&namespace.0, "shots", absent), None, "{absent}");
    }
    // Nothing was closed by the spec either: metadata, a private address, the API server's Service by address and by name.
    let token = token(&namespace.0, "shots").unwrap();
    let forward = Forward::open(&namespace.0, "service/shots", 80).unwrap();
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://192.168.50.10/",
        "https://10.96.0.1/",
        "https://kubernetes.default.svc.cluster.local/",
    ] {
        let refused = capture(forward.port(), Some(&token), &json!({"url": url})).unwrap();
        let told = refused.json()["type"].as_str().unwrap_or_default().to_owned();
        assert!(told.ends_with("/target_blocked"), "{url}: {}", refused.json());
    }
}

/// Applies a service with this under `sandbox`, which the API server finds nothing wrong with; only the kubelet knows
/// better, and says so in an Event and nowhere else. Returns the message of `Stalled` without the node's name before it.
fn refused_by_the_node(namespace: &str, sandbox: &str, reason: &str) -> String {
    apply_in(
        namespace,
        &service("shots", &format!("{{replicas: 1, sandbox: {sandbox}}}")),
    );
    let found = || condition(namespace, "shots", "Stalled").filter(|found| found.reason == reason);
    let found = eventually("what the kubelet told is said", Duration::from_secs(60), found)
        .unwrap_or_else(|failure| panic!("{failure}\n{}", conditions(namespace, "shots")));
    let node = pods(namespace, "shots").unwrap()[0]["spec"]["nodeName"].clone();
    let place = format!("node {} ", node.as_str().unwrap());
    let rest = found.message.strip_prefix(&place);
    rest.unwrap_or_else(|| panic!("not of {place}: {}", found.message))
        .to_owned()
}

/// What was asked too much is taken back, and the service runs.
fn runs_without(namespace: &str) {
    apply_in(namespace, &service("shots", "{replicas: 1}"));
    wait_ready(namespace, "shots").unwrap();
    assert_eq!(condition(namespace, "shots", "Stalled"), None);
}

#[test]
fn a_pod_whose_runtime_no_node_has_is_named_with_its_node() {
    let namespace = Namespace::create("e2e-runtime").unwrap();
    let name = namespace.0.as_str();
    let class = Class::new(name, "nowhere");
    let asked = format!("{{runtimeClassName: {}}}", class.0);
    let message = refused_by_the_node(name, &asked, "RuntimeHandlerMissing");
    assert!(
        message.starts_with("lacks the runtime of the class that `spec.sandbox.runtimeClassName` names: ")
            && message.contains("nowhere"),
        "{message}"
    );
    runs_without(name);
}

/// The runtime is one that does not say that it can do it; the kubelet then does not begin the pod.
#[test]
fn a_pod_whose_node_has_no_user_namespaces_for_it_is_named_with_its_node() {
    let namespace = Namespace::create("e2e-userns").unwrap();
    let name = namespace.0.as_str();
    let class = Class::new(name, "without-user-namespaces");
    let asked = format!("{{hostUsers: false, runtimeClassName: {}}}", class.0);
    let message = refused_by_the_node(name, &asked, "UserNamespacesUnsupported");
    assert!(
        message.starts_with("cannot do `spec.sandbox.hostUsers: false`: ")
            && message.contains("does not support user namespaces"),
        "{message}"
    );
    runs_without(name);
}

#[test]
fn an_image_that_cannot_be_had_is_named_with_the_node_that_wants_it() {
    let namespace = Namespace::create("e2e-image").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", "{replicas: 1, image: 'localhost/nowhere:1'}"));
    let found = || condition(name, "shots", "Stalled").filter(|found| found.reason == "ImagePullFailed");
    let found = eventually("the image is named", Duration::from_secs(60), found)
        .unwrap_or_else(|failure| panic!("{failure}\n{}", conditions(name, "shots")));
    let node = pods(name, "shots").unwrap()[0]["spec"]["nodeName"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        found.message,
        format!("node {node} cannot get the image localhost/nowhere:1")
    );
}

/// The words are the scheduler's own. It is a person's business when no node was added in two minutes.
#[test]
fn a_pod_that_no_node_takes_is_told_in_the_schedulers_words() {
    let namespace = Namespace::create("e2e-nowhere").unwrap();
    let name = namespace.0.as_str();
    apply_in(
        name,
        &service("shots", "{replicas: 1, scheduling: {nodeSelector: {pool: nowhere}}}"),
    );
    let says = |kind: &str| condition(name, "shots", kind).filter(|found| found.reason == "Unschedulable");
    eventually("it is told", Duration::from_secs(60), || says("Ready"))
        .unwrap_or_else(|failure| panic!("{failure}\n{}", conditions(name, "shots")));
    assert_eq!(says("Stalled"), None, "an autoscaler may be adding a node");
    let found = eventually("a person is asked for", Duration::from_secs(170), || says("Stalled"))
        .unwrap_or_else(|failure| panic!("{failure}\n{}", conditions(name, "shots")));
    assert!(
        found.message.starts_with("no node takes a capture pod: 0/")
            && found.message.contains("didn't match Pod's node affinity/selector"),
        "{}",
        found.message
    );
}
