//! The cluster's half of the egress control: a pod that walks past the proxy.

use std::time::Duration;

use screenshot_policy::layout;
use screenshot_tests::{Kind, eventually, get, kubectl, list, pods};
use serde_json::Value;

use crate::{apply_in, demo};

/// What no pod of a service may reach. All of it lies in the test cluster's own namespaces: the metadata service, a
/// private host, one behind a carrier's translation, the API server by node and by Service address, the kubelet, a
/// datagram to an address that is open, and a name server that is not the cluster's.
pub const CLOSED: [&str; 9] = [
    "169.254.169.254:80",
    "192.168.50.10:80",
    "100.64.0.10:80",
    "10.77.0.10:6443",
    "10.96.0.1:443",
    "10.77.0.10:10250",
    "udp/93.184.215.14:80",
    "udp/93.184.215.14:53",
    "93.184.215.14:53",
];
/// A global address, of which pods of a service without an upstream reach the usual ports and no other.
pub const OPEN: &str = "93.184.215.14:80";
const OPEN_TLS: &str = "93.184.215.14:443";
const OTHER_PORT: &str = "93.184.215.14:8080";

/// Where a browser would be steered, if it had a port for that.
const DEVTOOLS: u16 = 9222;

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
    run(namespace, name, labels, &[&["check".to_owned()][..], expected].concat())
}

/// Runs a pod with these labels (JSON) and arguments of the cluster's own probe.
pub fn run(namespace: &str, name: &str, labels: &str, arguments: &[String]) -> Dialled {
    let arguments: Vec<String> = arguments.iter().map(|target| format!("\"{target}\"")).collect();
    let pod = include_str!("probe.yaml")
        .replace("NAME", name)
        .replace("LABELS", labels)
        .replace("ARGUMENTS", &arguments.join(", "));
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

/// Whether a pod with these labels is shut in. What is open comes first: it proves that the rules are loaded. `excepted` is
/// what an exception of the service opens.
pub fn dial_past_the_proxy(namespace: &str, labels: &str, excepted: &[String], neighbours: &[String]) -> Dialled {
    let open = ["10.96.0.10:53", OPEN, OPEN_TLS].map(str::to_owned);
    let open = open.iter().chain(excepted).map(|target| format!("+{target}"));
    let closed = CLOSED
        .iter()
        .copied()
        .chain([OTHER_PORT])
        .map(|target| format!("-{target}"));
    let neighbours = neighbours.iter().map(|target| format!("-{target}"));
    let expected: Vec<String> = open.chain(closed).chain(neighbours).collect();
    dial(namespace, "probe", labels, &expected)
}

fn address(pods: &[Value]) -> &str {
    pods[0]["status"]["podIP"].as_str().unwrap()
}

#[test]
fn a_pod_with_the_same_labels_but_without_the_proxy_reaches_nothing_inside() {
    let namespace = demo("e2e-network");
    let deployment = get(&namespace.0, Kind::Deployment, "demo").unwrap();
    let labels = deployment["spec"]["template"]["metadata"]["labels"].to_string();
    let (own, dns) = (
        pods(&namespace.0, "demo").unwrap(),
        list("kube-system", Kind::Pod, "k8s-app=kube-dns").unwrap(),
    );
    let port = |port: u16| format!("{}:{port}", address(&own));
    // The pods that the exception is about, of which one listens on more ports than the excepted one.
    apply_in(&namespace.0, include_str!("excepted.yaml"));
    let site = eventually("the excepted pod listens", Duration::from_secs(60), || {
        let pod = get(&namespace.0, Kind::Pod, "excepted").ok()?;
        let conditions = pod["status"]["conditions"].as_array()?;
        let ready = conditions
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True");
        ready.then(|| pod["status"]["podIP"].as_str().map(str::to_owned))?
    })
    .unwrap();
    let excepted = [format!("{site}:8080")];
    // Other pods: the name server on another port, one of the service's own, and the excepted one on another port.
    let neighbours = [
        format!("{}:8181", address(&dns)),
        port(layout::API_PORT),
        format!("{site}:9090"),
    ];
    let shut_in = dial_past_the_proxy(&namespace.0, &labels, &excepted, &neighbours);
    assert!(shut_in.as_expected, "{}", shut_in.log);
    // The control: the same pod without the labels reaches the same addresses, so the refusals are the policy's. And of a pod
    // of the service it reaches what is there for clients, and nothing that is there for others or for nobody.
    let open = CLOSED
        .iter()
        .copied()
        .chain([OPEN, OPEN_TLS, OTHER_PORT])
        .map(str::to_owned);
    let open = open.chain(excepted).chain(neighbours);
    let mut expected: Vec<String> = open.map(|target| format!("+{target}")).collect();
    expected.extend([layout::HEALTH_PORT, layout::METRICS_PORT, DEVTOOLS].map(|closed| format!("-{}", port(closed))));
    let free = dial(&namespace.0, "control", r#"{"app": "control"}"#, &expected);
    assert!(free.as_expected, "{}", free.log);
}
