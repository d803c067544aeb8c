//! What holds for every plan, or for any that asks for something.

use super::*;

#[test]
fn a_restart_nonce_changes_the_pod_template_and_nothing_else() {
    let nonce = "/spec/template/metadata/annotations/screenshot-operator.io~1restart-nonce";
    let [without, mut with] = ["{}", "{restartNonce: argocd-3}"].map(|spec| planned(spec, &Targets::new()));
    assert_eq!(without.deployment.body.pointer(nonce), None);
    assert_eq!(with.deployment.body.pointer(nonce), Some(&Value::from("argocd-3")));
    let annotations = "/spec/template/metadata/annotations";
    let body = with.deployment.body.pointer_mut(annotations).unwrap();
    body.as_object_mut()
        .unwrap()
        .remove("screenshot-operator.io/restart-nonce");
    assert_eq!(with, without);
}

#[test]
fn labels_of_the_resource_are_never_copied_and_every_child_is_owned() {
    let plan = planned("{}", &Targets::new());
    for child in plan.before_secrets().chain(plan.after_secrets()) {
        assert!(!child.body.to_string().contains("argocd"), "{child:?}");
        assert_eq!(
            child.body["metadata"]["ownerReferences"][0]["controller"], true,
            "{child:?}"
        );
    }
}

#[test]
fn network_rules_come_before_everything_that_can_start_a_pod() {
    let spec = format!("{AUTOSCALED}{MONITORED}");
    let plan = planned(&spec, &Targets::new());
    let kinds = |children: Vec<&Child>| children.iter().map(|child| child.kind.name()).collect::<Vec<_>>();
    let mut before = vec!["ServiceAccount"];
    before.extend(["NetworkPolicy"; 6]);
    before.push("ConfigMap");
    assert_eq!(kinds(plan.before_secrets().collect()), before);
    assert_eq!(
        kinds(plan.after_secrets().collect()),
        [
            "Service",
            "PodDisruptionBudget",
            "Deployment",
            "HorizontalPodAutoscaler",
            "Ingress",
            "PodMonitor",
            "PrometheusRule",
            "ConfigMap"
        ]
    );
}

pub(super) fn template(spec: &str) -> Value {
    planned(spec, &Targets::new()).deployment.body["spec"]["template"].clone()
}

#[test]
fn pods_are_replaced_only_by_what_is_part_of_a_pod() {
    let before = template("{}");
    for same in [
        "{replicas: 7}",
        "{suspend: true}",
        "{objectMetadata: {labels: {a: b}, annotations: {c: d}}}",
        "{auth: {clientName: other, rotation: {periodDays: 3, nonce: x}}}",
        "{network: {ingress: {cidrs: [10.0.0.0/8]}}}",
        AUTOSCALED,
        MONITORED,
    ] {
        assert_eq!(template(same), before, "{same}");
    }
    for other in [
        "{image: 'other:1'}",
        "{imagePullPolicy: Always}",
        "{podMetadata: {annotations: {c: d}}}",
        "{network: {egress: {ports: [443]}}}",
        "{network: {egress: {domains: {deny: [example.com]}}}}",
        "{network: {egress: {cidrs: {allow: [8.0.0.0/8]}}}}",
        "{sandbox: {mode: Degraded}}",
        "{resources: {server: {limits: {cpu: '1'}}}}",
        "{scheduling: {priorityClassName: p}}",
    ] {
        assert_ne!(template(other), before, "{other}");
    }
}

/// The number of pods is the operator's until an autoscaler has written it; dropping it sooner would reset it to one.
#[test]
fn turning_autoscaling_on_never_drops_the_number_of_pods_before_the_autoscaler_owns_it() {
    let held = |held_replicas: Option<i32>| DeploymentView {
        held_replicas,
        desired: held_replicas.unwrap_or(4),
        ..DeploymentView::default()
    };
    let switched_off = DeploymentView::default();
    // What there is; the number; whether somebody is told to have changed it.
    for (live, expected, taken_back) in [
        (None, Value::from(3), None),
        (Some(held(Some(5))), Value::from(5), None),
        (Some(held(Some(0))), Value::from(3), None),
        (Some(held(Some(50))), Value::from(12), None),
        (Some(held(None)), Value::Null, None),
        (Some(switched_off), Value::from(3), Some("spec.replicas")),
    ] {
        let plan = planned_where(AUTOSCALED, &Targets::new(), &optional_kinds(), live.as_ref());
        assert_eq!(plan.deployment.body["spec"]["replicas"], expected, "{live:?}");
        assert_eq!(plan.deployment.takes_back, taken_back, "{live:?}");
    }
    let fixed = planned_where("{}", &Targets::new(), &optional_kinds(), Some(&held(None)));
    assert_eq!(fixed.deployment.body["spec"]["replicas"], 2);
}

#[test]
fn a_rule_without_peers_or_ports_is_never_written_as_it_would_open_everything() {
    for spec in [
        "{}",
        AUTOSCALED,
        MONITORED,
        EXCEPTIONS,
        LISTED,
        "{network: {egress: {cidrs: {allow: [8.8.8.0/24], deny: [8.0.0.0/8]}}}}",
        "{network: {ingress: {from: []}, egress: {ports: []}}}",
    ] {
        for child in planned(spec, &targets()).network_policies {
            let spec = &child.body["spec"];
            assert_eq!(
                spec["podSelector"]["matchLabels"]["app.kubernetes.io/instance"], "shots",
                "{child:?}"
            );
            for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
                for rule in spec[rules].as_array().into_iter().flatten() {
                    for list in [peers, "ports"] {
                        assert!(rule[list].as_array().is_some_and(|l| !l.is_empty()), "{child:?} {rule}");
                    }
                }
            }
        }
    }
}

/// Pod Security `restricted`, as its rules are written: red when any of the fields is taken away.
#[test]
fn every_container_is_restricted() {
    for spec in ["{}", "{sandbox: {mode: Degraded}}"] {
        let plan = planned(spec, &Targets::new());
        let pod = &plan.deployment.body["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[host], Value::Null);
        }
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}));
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert!(["RuntimeDefault", "Localhost"].contains(&security["seccompProfile"]["type"].as_str().unwrap()));
        }
    }
}

#[test]
fn the_browser_container_mounts_nothing_worth_stealing() {
    let plan = planned("{}", &Targets::new());
    let browser = &plan.deployment.body["spec"]["template"]["spec"]["containers"][1];
    assert_eq!(browser["name"], "browser");
    let mounts: Vec<_> = browser["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["name"].as_str().unwrap())
        .collect();
    assert_eq!(mounts, ["jail", "browser-tmp"]);
    assert_eq!(browser["env"], Value::Null);
}

#[test]
fn the_policy_of_the_config_map_has_the_digest_of_the_template() {
    let plan = planned(EXCEPTIONS, &targets());
    let text = plan.config_map.body["data"]["policy.json"].as_str().unwrap();
    let template = &plan.deployment.body["spec"]["template"];
    let digest = template["metadata"]["annotations"]["screenshot-operator.io/policy-digest"]
        .as_str()
        .unwrap();
    assert!(screenshot_policy::policy::EffectivePolicy::load_expecting(text.as_bytes(), digest).is_ok());
}
