//! The operator is away and somebody edits its objects: pods fail closed, and it mends all of it when it is back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use screenshot_tests::{
    Condition, Forward, Kind, Namespace, capture, condition, delete, eventually, fetch, get, kubectl, list, merge,
    operator_namespace, pods, service, token, wait_ready,
};
use serde_json::{Value, json};

use crate::apply_in;

const OPERATOR: &str = "screenshot-operator";
const LIMIT: Duration = Duration::from_secs(60);

/// The operator stands still while this lives.
struct Away {
    replicas: Value,
}

impl Away {
    fn send() -> Self {
        let deployment = get(&operator_namespace(), Kind::Deployment, OPERATOR).unwrap();
        let away = Self {
            replicas: deployment["spec"]["replicas"].clone(),
        };
        scale(&json!(0));
        eventually("the operator's pod ends", LIMIT, || {
            let pods = list(
                &operator_namespace(),
                Kind::Pod,
                "app.kubernetes.io/name=screenshot-operator",
            );
            pods.ok()?.is_empty().then_some(())
        })
        .unwrap();
        away
    }

    fn back(self) {
        drop(self);
        let namespace = operator_namespace();
        let deployment = format!("deployment/{OPERATOR}");
        kubectl(&["-n", &namespace, "rollout", "status", &deployment, "--timeout=60s"]).unwrap();
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        scale(&self.replicas);
    }
}

fn scale(replicas: &Value) {
    let patch = json!({"spec": {"replicas": replicas}});
    merge(&operator_namespace(), Kind::Deployment, OPERATOR, &patch).unwrap();
}

/// Replaces the only pod and waits until the next one's server runs. Gives the new pod's name.
fn replace_pod(namespace: &str) -> String {
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let old: Vec<String> = pods(namespace, "shots").unwrap().iter().map(name).collect();
    for pod in &old {
        delete(namespace, Kind::Pod, pod).unwrap();
    }
    eventually("another pod's server runs", LIMIT, || {
        let pods = pods(namespace, "shots").ok()?;
        let pod = pods.iter().find(|pod| !old.contains(&name(pod)))?;
        let statuses = pod["status"]["containerStatuses"].as_array()?;
        let server = statuses.iter().find(|status| status["name"] == "server")?;
        server["state"]["running"].is_object().then(|| name(pod))
    })
    .unwrap()
}

fn words(reasons: &Value) -> Vec<&str> {
    let reasons = reasons.as_array().map(Vec::as_slice).unwrap_or_default();
    reasons.iter().filter_map(|reason| reason["reason"].as_str()).collect()
}

/// The operator's log is JSON, and a line of a pass says of which service and which pass it is.
fn logged(namespace: &str) {
    let label = "app.kubernetes.io/managed-by";
    merge(
        namespace,
        Kind::Service,
        "shots",
        &json!({"metadata": {"labels": {label: "somebody"}}}),
    )
    .unwrap();
    eventually("the edit is put back", LIMIT, || {
        let service = get(namespace, Kind::Service, "shots").ok()?;
        (service["metadata"]["labels"][label] != "somebody").then_some(())
    })
    .unwrap();
    let pods = format!("app.kubernetes.io/name={OPERATOR}");
    let log = kubectl(&["-n", &operator_namespace(), "logs", "-l", &pods, "--tail=-1"]).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = lines.iter().find(|line| {
        line["fields"]["message"] == "an edited child was put back" && line["span"]["namespace"] == namespace
    });
    let told = told.unwrap_or_else(|| panic!("the log does not tell of the edit:\n{log}"));
    assert_eq!(told["span"]["service"], "shots", "{told}");
    assert!(
        told["span"]["pass"].as_str().is_some_and(|pass| pass.contains('-')),
        "{told}"
    );
}

#[test]
fn a_pod_with_another_policy_than_its_own_is_not_ready_and_the_operator_mends_it() {
    let namespace = Namespace::create("e2e-policy").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", "{replicas: 1}"));
    wait_ready(name, "shots").unwrap();
    let token = token(name, "shots").unwrap();
    let config = get(name, Kind::ConfigMap, "shots-policy").unwrap()["data"].clone();
    let policy = config["policy.json"].as_str().unwrap();
    let stricter = policy.replace("\"maxHosts\":100", "\"maxHosts\":99");
    let newer = policy.replace("\"version\":1", "\"version\":2");
    assert!(stricter != policy && newer != policy, "{policy}");

    let away = Away::send();
    for (data, reason) in [
        (json!({"policy.json": stricter}), "policy_digest"),
        (json!({"policy.json": newer}), "policy_version"),
        (json!({"policy.json": "{"}), "policy_syntax"),
        (json!({"policy.json": null, "other": ""}), "policy_missing"),
    ] {
        merge(name, Kind::ConfigMap, "shots-policy", &json!({"data": data})).unwrap();
        let pod = replace_pod(name);
        let health = Forward::open(name, &pod, 8081).unwrap();
        let ready = fetch(health.port(), "/health/ready").unwrap();
        assert_eq!(ready.status, 503);
        assert!(
            words(&ready.json()["reasons"]).contains(&reason),
            "{reason}: {}",
            ready.json()
        );
        assert_eq!(fetch(health.port(), "/health/live").unwrap().status, 200);
        let api = Forward::open(name, &pod, 8080).unwrap();
        let answer = capture(api.port(), Some(&token), &json!({"html_content": "x"})).unwrap();
        assert_eq!(answer.status, 503, "{}", answer.json());
    }
    away.back();
    // What the status says is what it said before the operator went away, until it has looked again.
    eventually("the policy is put back", LIMIT, || {
        let data = get(name, Kind::ConfigMap, "shots-policy").ok()?["data"].clone();
        (data["policy.json"] == policy).then_some(())
    })
    .unwrap();
    eventually("the pod is ready", LIMIT, || {
        let pod = pods(name, "shots").ok()?.into_iter().next()?;
        let health = Forward::open(name, pod["metadata"]["name"].as_str()?, 8081).ok()?;
        (fetch(health.port(), "/health/ready").ok()?.status == 200).then_some(())
    })
    .unwrap();
    wait_ready(name, "shots").unwrap();
    logged(name);
    let forward = Forward::open(name, "service/shots", 80).unwrap();
    let answer = capture(forward.port(), Some(&token), &json!({"html_content": "x"})).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
}

#[test]
fn a_keyset_that_turns_bad_leaves_the_last_good_one_in_force_and_is_shown_and_mended() {
    let namespace = Namespace::create("e2e-keyset").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", "{replicas: 1}"));
    wait_ready(name, "shots").unwrap();
    let token = token(name, "shots").unwrap();
    let pod = pods(name, "shots").unwrap()[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let (api, metrics) = (
        Forward::open(name, &pod, 8080).unwrap(),
        Forward::open(name, &pod, 9090).unwrap(),
    );
    let shoot = |token: &str| {
        capture(api.port(), Some(token), &json!({"html_content": "x"}))
            .unwrap()
            .status
    };
    let stale = || {
        let text = String::from_utf8(fetch(metrics.port(), "/metrics").unwrap().body).unwrap();
        text.contains("screenshot_server_keyset_stale 1")
    };
    assert_eq!((shoot(&token), stale()), (200, false));

    let away = Away::send();
    let bad = json!({"data": {"keyset.json": STANDARD.encode("{")}});
    merge(name, Kind::Secret, "shots-keyset", &bad).unwrap();
    eventually("the server says that it refused the newer keyset", LIMIT, || {
        assert_eq!(shoot(&token), 200, "the last good keyset is in force");
        stale().then_some(())
    })
    .unwrap();
    assert_eq!(shoot(&token), 200);
    assert_eq!(
        shoot("sst_aaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_00000000"),
        401
    );
    away.back();
    eventually("the server has a good keyset again", LIMIT, || {
        assert_eq!(shoot(&token), 200);
        (!stale()).then_some(())
    })
    .unwrap();
    wait_ready(name, "shots").unwrap();
    let expected = Condition {
        status: "True".into(),
        reason: "TokenAccepted".into(),
        message: "every capture pod accepts the token of the client Secret".into(),
    };
    assert_eq!(condition(name, "shots", "CredentialsReady"), Some(expected));
    assert_eq!(shoot(&token), 200);
}
