//! The network stops enforcing a namespace's policies, and enforces them again. For the project's own cluster, whose engine
//! can be told to: `hack/test-e2e.sh` leaves this out elsewhere.

use std::time::{Duration, Instant};

use screenshot_tests::{
    AT_REST, Condition, Forward, Kind, Namespace, capture, condition, delete, eventually, fetch, get, kubectl,
    operator_namespace, pods, record, service, token, wait_ready,
};
use serde_json::json;

use crate::apply_in;
use crate::network::{CLOSED, dial_past_the_proxy};

/// Within so long the condition tells the truth.
const LIMIT: Duration = Duration::from_secs(60);
const KIND: &str = "EgressEnforced";

/// The engine ignores the namespace's policies while this lives.
struct Unenforced<'a> {
    namespace: &'a str,
}

impl<'a> Unenforced<'a> {
    fn begin(namespace: &'a str) -> Self {
        label(namespace, "true");
        Self { namespace }
    }
}

impl Drop for Unenforced<'_> {
    fn drop(&mut self) {
        label(self.namespace, "false");
    }
}

fn label(namespace: &str, value: &str) {
    let label = format!("netpol/unenforced={value}");
    kubectl(&["label", "--overwrite", "namespace", namespace, &label]).unwrap();
}

fn until(namespace: &str, name: &str, status: &str, start: Instant) -> (Duration, Condition) {
    let found = eventually(&format!("{name}: {KIND} is {status}"), LIMIT, || {
        condition(namespace, name, KIND).filter(|found| found.status == status)
    });
    (start.elapsed(), found.unwrap())
}

/// Somebody's own policy: it opens the API port of every pod of the namespace to a namespace, and no way out.
const OPENING: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: opening}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
    - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: OPERATOR}}}]
      ports: [{port: 8080, protocol: TCP}]
";

#[test]
fn a_policy_that_opens_only_the_way_in_is_found_out_by_the_operator_itself() {
    let namespace = Namespace::create("e2e-way-in").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", &format!("{{replicas: 1, {AT_REST}}}")));
    wait_ready(name, "shots").unwrap();
    until(name, "shots", "True", Instant::now());
    apply_in(name, &OPENING.replace("OPERATOR", &operator_namespace()));
    let (_, found) = until(name, "shots", "False", Instant::now());
    assert_eq!(found.reason, "NetworkPolicyNotEnforced");
    // Not the canary: the way out stays shut.
    let way = "the operator reached the API port of a capture pod";
    assert!(found.message.contains(way), "{}", found.message);
    delete(name, Kind::NetworkPolicy, "opening").unwrap();
    until(name, "shots", "True", Instant::now());
}

#[test]
fn a_network_that_stops_enforcing_is_found_out_within_a_minute_and_believed_again_after() {
    let namespace = Namespace::create("e2e-enforcement").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", &format!("{{replicas: 1, {AT_REST}}}")));
    apply_in(
        name,
        &service(
            "lenient",
            &format!("{{replicas: 1, network: {{egress: {{enforcement: Advisory}}}}, {AT_REST}}}"),
        ),
    );
    for service in ["shots", "lenient"] {
        wait_ready(name, service).unwrap();
        let (_, found) = until(name, service, "True", Instant::now());
        assert_eq!(found.reason, "CanaryOutOfReach", "{}", found.message);
    }
    let ready = |service: &str| get(name, Kind::ScreenshotService, service).unwrap()["status"]["readyReplicas"].clone();
    let pod = pods(name, "shots").unwrap()[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let health = Forward::open(name, &pod, 8081).unwrap();
    let reasons = || fetch(health.port(), "/health/ready").unwrap().json()["reasons"].to_string();
    let events = || {
        kubectl(&[
            "-n",
            name,
            "get",
            "events",
            "-o",
            "custom-columns=T:.type,R:.reason,O:.involvedObject.name",
        ])
    };
    let token = token(name, "lenient").unwrap();
    let lenient = Forward::open(name, "service/lenient", 80).unwrap();
    let shoot = || {
        capture(lenient.port(), Some(&token), &json!({"html_content": "<p>x"}))
            .unwrap()
            .status
    };
    assert_eq!((ready("shots"), shoot()), (json!(1), 200));

    let labels = get(name, Kind::Deployment, "shots").unwrap()["spec"]["template"]["metadata"]["labels"].to_string();
    let off = Unenforced::begin(name);
    let begin = Instant::now();
    // First what is promised within a minute: nothing that takes time comes before it.
    let (noticed, found) = until(name, "shots", "False", begin);
    assert!(noticed <= LIMIT, "{KIND} is False only after {noticed:?}");
    assert_eq!(found.reason, "NetworkPolicyNotEnforced");
    assert!(
        found.message.contains("a capture pod reached the operator"),
        "{}",
        found.message
    );
    // Required: not ready, with the reason, and a person is called.
    eventually("the pod takes no requests", LIMIT, || {
        (ready("shots") == json!(0)).then_some(())
    })
    .unwrap();
    assert!(reasons().contains("egress_not_enforced"), "{}", reasons());
    let stalled = condition(name, "shots", "Stalled").unwrap();
    assert_eq!(stalled.reason, "NetworkPolicyNotEnforced");
    assert!(
        events()
            .unwrap()
            .lines()
            .any(|line| line.starts_with("Warning") && line.contains("NetworkPolicyNotEnforced"))
    );
    // Advisory: told, and captures go on.
    let (_, found) = until(name, "lenient", "False", Instant::now());
    assert_eq!(found.reason, "NetworkPolicyNotEnforced");
    let kept = condition(name, "lenient", "Ready").unwrap();
    assert_eq!(
        (kept.status.as_str(), kept.reason.as_str(), shoot()),
        ("True", "Degraded", 200)
    );
    // The check that `network` makes with a pod without the proxy: it notices, too.
    let walk = dial_past_the_proxy(name, &labels, &[], &[]);
    let open = format!("{} is open", CLOSED[0]);
    assert!(!walk.as_expected && walk.log.contains(&open), "{}", walk.log);

    drop(off);
    let (believed, _) = until(name, "shots", "True", Instant::now());
    for service in ["shots", "lenient"] {
        wait_ready(name, service).unwrap();
        until(name, service, "True", Instant::now());
        let ready = condition(name, service, "Ready").unwrap();
        assert_eq!(ready.reason, "AsWanted", "{}", ready.message);
    }
    assert_eq!(ready("shots"), json!(1));
    let text = format!(
        "From the network's change to EgressEnforced\n  False after {:>5.1} s\n  True after  {:>5.1} s\n",
        noticed.as_secs_f64(),
        believed.as_secs_f64()
    );
    record("egress-enforced", &text).unwrap();
}
