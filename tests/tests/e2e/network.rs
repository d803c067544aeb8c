//! The cluster's half of the egress control: a pod that walks past the proxy.

use std::time::Duration;

use screenshot_tests::{Kind, eventually, get, kubectl};

use crate::{apply_in, demo};

/// What no pod of a service may reach. All of it lies in the test cluster's own namespaces: the metadata service, a
/// private host, the API server by node and by Service address, the kubelet.
pub const CLOSED: [&str; 5] = [
    "169.254.169.254:80",
    "192.168.50.10:80",
    "10.77.0.10:6443",
    "10.96.0.1:443",
    "10.77.0.10:10250",
];

/// How a dialling pod ended.
#[derive(Debug)]
pub struct Dialled {
    /// Whether everything was as expected.
    pub as_expected: bool,
    /// One line per address.
    pub log: String,
}

/// Runs a pod with these labels (JSON) that dials in this order: what must be open (`+`), then what must be closed (`-`).
pub fn dial(namespace: &str, name: &str, labels: &str, expected: &[String]) -> Dialled {
    let arguments: Vec<String> = expected.iter().map(|target| format!("\"{target}\"")).collect();
    let pod = include_str!("probe.yaml")
        .replace("NAME", name)
        .replace("LABELS", labels)
        .replace("ARGUMENTS", &format!("check, {}", arguments.join(", ")));
    apply_in(namespace, &pod);
    let ended = || {
        let pod = get(namespace, Kind::Pod, name).ok()?;
        match pod["status"]["phase"].as_str()? {
            "Succeeded" => Some(true),
            "Failed" => Some(false),
            _ => None,
        }
    };
    let as_expected = eventually("the dialling pod ends", Duration::from_secs(60), ended).unwrap();
    let log = kubectl(&["-n", namespace, "logs", name]).unwrap();
    Dialled { as_expected, log }
}

/// Whether a pod with these labels is shut in. DNS comes first: what is open proves that the rules are loaded.
pub fn dial_past_the_proxy(namespace: &str, labels: &str) -> Dialled {
    let closed = CLOSED.iter().map(|target| format!("-{target}"));
    let expected: Vec<String> = std::iter::once("+10.96.0.10:53".to_owned()).chain(closed).collect();
    dial(namespace, "probe", labels, &expected)
}

#[test]
fn a_pod_with_the_same_labels_but_without_the_proxy_reaches_nothing_inside() {
    let namespace = demo("e2e-network");
    let deployment = get(&namespace.0, Kind::Deployment, "demo").unwrap();
    let labels = deployment["spec"]["template"]["metadata"]["labels"].to_string();
    let shut_in = dial_past_the_proxy(&namespace.0, &labels);
    assert!(shut_in.as_expected, "{}", shut_in.log);
    // The control: the same pod without the labels reaches the same addresses, so the refusals are the policy's.
    let open: Vec<String> = CLOSED.iter().map(|target| format!("+{target}")).collect();
    let free = dial(&namespace.0, "control", r#"{"app": "control"}"#, &open);
    assert!(free.as_expected, "{}", free.log);
}
