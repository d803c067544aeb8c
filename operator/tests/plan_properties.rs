//! What holds for the plan of every service, whatever its spec asks for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use screenshot_api::{ScreenshotService, ScreenshotServiceSpec};
use screenshot_operator::cluster::ClusterSettings;
use screenshot_operator::context::Settings;
use screenshot_operator::plan::{Child, Kind, OperatorPods, Plan, Surroundings, Targets, plan};
use screenshot_operator::validate::{identity, validate};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

/// One of each topic, put together at random: the product of all choices is far larger than any list of fixtures.
fn specs() -> impl Strategy<Value = Value> {
    let topic = |choices: Vec<Value>| prop::sample::select(choices);
    let scale = topic(vec![
        json!({}),
        json!({"replicas": 0}),
        json!({"replicas": 1}),
        json!({"replicas": 100, "suspend": true}),
        json!({"autoscaling": {"minReplicas": 1, "maxReplicas": 100}}),
        json!({"autoscaling": {"maxReplicas": 2}, "suspend": true}),
    ]);
    let pods = topic(vec![
        json!({}),
        json!({"podMetadata": {"labels": {"app.kubernetes.io/name": "x", "app.kubernetes.io/instance": "y", "a": "b"}}}),
        json!({"podMetadata": {"annotations": {"screenshot-operator.io/policy-digest": "forged"}}}),
        json!({"scheduling": {"topologySpread": "Required", "nodeSelector": {"a": "b"}, "priorityClassName": "p"}}),
        json!({"scheduling": {"topologySpread": "Disabled", "tolerations": [{"operator": "Exists"}]}}),
        json!({"imagePullSecrets": [{"name": "r"}], "imagePullPolicy": "Never", "image": "x:1"}),
    ]);
    let sandbox = topic(vec![
        json!({}),
        json!({"sandbox": {"mode": "Degraded"}}),
        json!({"sandbox": {"hostUsers": true, "runtimeClassName": "kata"}}),
        json!({"sandbox": {"seccompProfile": "a/b.json", "hostUsers": false}}),
    ]);
    let network = topic(vec![
        json!({}),
        json!({"network": {"ingress": {"from": []}, "egress": {"ports": []}}}),
        json!({"network": {"ingress": {"from": [{"namespaceSelector": {}}], "cidrs": ["0.0.0.0/0"]}, "egress": {"ports": [443]}}}),
        json!({"network": {"exposure": {"ingress": {"host": "a.example"}}}}),
        json!({"network": {"exposure": {"httpRoute": {"parentRefs": [{"name": "g"}], "hostnames": ["a.example"]}}}}),
        json!({"network": {"egress": {"exceptions": [{"host": "10.1.2.3", "ports": [80], "reason": "r", "expires": "2027-01-01T00:00:00Z"}]}}}),
    ]);
    let other = topic(vec![
        json!({}),
        json!({"objectMetadata": {"labels": {"app.kubernetes.io/instance": "y", "c": "d"}, "annotations": {"e": "f"}}}),
        json!({"monitoring": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true}}}),
        json!({"resources": {"browser": {"limits": {"cpu": "4", "memory": "8Gi"}}}}),
    ]);
    (scale, pods, sandbox, network, other).prop_map(|(a, b, c, d, e)| {
        let mut spec = json!({});
        for part in [a, b, c, d, e] {
            spec.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        spec
    })
}

fn planned(name: &str, spec: &Value, served: &BTreeSet<Kind>) -> Plan {
    let spec: ScreenshotServiceSpec = serde_json::from_value(spec.clone()).unwrap();
    let mut service = ScreenshotService::new(name, spec);
    service.metadata.namespace = Some("web".into());
    service.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    let settings = Settings {
        capture_image: Some("example.com/capture-server@sha256:0000".into()),
        operator_namespace: "system".into(),
        operator_name: "operator".into(),
        cluster: ClusterSettings::default(),
    };
    let wanted = validate(identity(&service).unwrap(), &service, &settings).unwrap();
    let operator = OperatorPods {
        namespace: "system".into(),
        name: "operator".into(),
    };
    let targets = Targets::new();
    let around = Surroundings {
        targets: &targets,
        operator: &operator,
        served,
        deployment: None,
    };
    plan(&wanted, &around, now())
}

fn children(plan: &Plan) -> Vec<&Child> {
    plan.before_secrets().chain(plan.after_secrets()).collect()
}

fn subset(part: &Value, whole: &Value) -> bool {
    part.as_object()
        .unwrap()
        .iter()
        .all(|(key, value)| whole.get(key) == Some(value))
}

/// A Service's name is a DNS label; all others may be longer.
fn legal(kind: Kind, name: &str) -> bool {
    let longest = if kind == Kind::Service { 63 } else { 253 };
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=longest).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_spec_has_the_same_plan_to_the_byte(spec in specs()) {
        let served: BTreeSet<Kind> = Kind::ALL.into_iter().collect();
        let (one, other) = (planned("shots", &spec, &served), planned("shots", &spec, &served));
        prop_assert_eq!(&one, &other);
        let text = |plan: &Plan| children(plan).iter().map(|child| child.body.to_string()).collect::<Vec<_>>();
        prop_assert_eq!(text(&one), text(&other));
    }

    #[test]
    fn every_child_is_owned_named_legally_and_carries_our_labels(spec in specs(), name in "[a-z][a-z0-9-]{0,50}[a-z0-9]", all: bool) {
        let served: BTreeSet<Kind> = Kind::ALL.into_iter().filter(|_| all).collect();
        let plan = planned(&name, &spec, &served);
        let mut names = BTreeSet::new();
        for child in children(&plan) {
            let metadata = &child.body["metadata"];
            prop_assert!(legal(child.kind, &child.name), "{:?}", child);
            prop_assert!(names.insert((child.kind, child.name.clone())), "{:?} twice", child);
            prop_assert_eq!(&metadata["name"], &json!(child.name));
            prop_assert_eq!(&metadata["namespace"], "web");
            prop_assert_eq!(&metadata["ownerReferences"][0]["controller"], true);
            prop_assert_eq!(&metadata["labels"]["app.kubernetes.io/instance"], &json!(name));
            prop_assert_eq!(&metadata["labels"]["app.kubernetes.io/managed-by"], "screenshot-operator");
            prop_assert!(all || !child.kind.optional(), "{:?} is not served", child);
        }
    }

    #[test]
    fn every_pod_is_restricted_and_denied_by_default(spec in specs()) {
        let plan = planned("shots", &spec, &BTreeSet::new());
        let template = &plan.deployment.body["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        let deny = &plan.network_policies[0].body["spec"];
        prop_assert!(subset(&deny["podSelector"]["matchLabels"], labels));
        prop_assert_eq!(deny, &json!({"podSelector": deny["podSelector"], "policyTypes": ["Ingress", "Egress"]}));
        prop_assert!(subset(&plan.deployment.body["spec"]["selector"]["matchLabels"], labels));
        prop_assert!(subset(&plan.pdb.body["spec"]["selector"]["matchLabels"], labels));
        prop_assert!(subset(&plan.service.body["spec"]["selector"], labels));
        let digest = &template["metadata"]["annotations"]["screenshot-operator.io/policy-digest"];
        prop_assert!(digest.as_str().unwrap().starts_with("sha256:"));
        let pod = &template["spec"];
        prop_assert_eq!(&pod["automountServiceAccountToken"], false);
        prop_assert_eq!(&pod["securityContext"]["runAsNonRoot"], true);
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            prop_assert!(pod.get(host).is_none());
        }
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            prop_assert_eq!(&security["allowPrivilegeEscalation"], false);
            prop_assert_eq!(&security["readOnlyRootFilesystem"], true);
            prop_assert_eq!(&security["capabilities"], &json!({"drop": ["ALL"]}));
            prop_assert!(["RuntimeDefault", "Localhost"].contains(&security["seccompProfile"]["type"].as_str().unwrap()));
        }
        for volume in pod["volumes"].as_array().unwrap() {
            prop_assert!(volume.get("hostPath").is_none());
        }
    }

    #[test]
    fn a_node_can_always_be_drained(spec in specs()) {
        let plan = planned("shots", &spec, &BTreeSet::new());
        prop_assert_eq!(&plan.pdb.body["spec"]["maxUnavailable"], 1);
        prop_assert!(plan.pdb.body["spec"].get("minAvailable").is_none());
        prop_assert_eq!(&plan.pdb.body["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    }
}
