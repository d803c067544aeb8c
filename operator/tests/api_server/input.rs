//! What users and clusters give an operator to cope with: malformed objects, names, namespaces, quotas, clocks.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use screenshot_operator::trigger::controller::Scope;
use serde_json::json;

use crate::proxy::Proxy;
use crate::support::{Operator, PATIENCE, Stage, config, inventory, until, whole_seconds};

#[tokio::test]
async fn a_malformed_object_does_not_stop_the_watch_for_others() {
    let stage = Stage::new("malformed").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    // As if it came from an older or newer definition.
    proxy.garble("\"replicas\":77", "\"replicas\":\"many\"");
    let operator = Operator::begin(proxy.config(), stage.scope());
    stage.create("bad", json!({"replicas": 77})).await.unwrap();
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    stage.resting("good").await;
    stage.settled("good").await;
    until("the malformed one is counted", PATIENCE, || async {
        operator.count("reconciles_total", &["Unreadable"]) > 0
    })
    .await;
    assert!(
        stage
            .services()
            .get("bad")
            .await
            .unwrap()
            .status
            .is_some_and(|s| s.observed_generation == -1)
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_quota_that_leaves_no_room_is_named_in_the_condition() {
    let stage = Stage::new("quota").await;
    let quotas: Api<ResourceQuota> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": {"services": "0"}}})).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    until("the quota is counted", PATIENCE, || async {
        let quota = quotas.get("none").await.unwrap();
        quota
            .status
            .and_then(|status| status.hard)
            .is_some_and(|hard| !hard.is_empty())
    })
    .await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    until("the condition names it", PATIENCE, || async {
        let stalled = stage.condition("shots", "Stalled").await;
        stalled.is_some_and(|(_, reason, message)| reason == "QuotaExceeded" && message.contains("Service"))
    })
    .await;
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    stage.settled("shots").await;
    operator.stop().await;
}

/// A policy that refuses one thing in the stage's namespace.
struct Policy {
    name: String,
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
}

impl Policy {
    async fn create(stage: &Stage, name: &str, operation: &str, group: &str, resource: &str) -> Self {
        // It is an object of the whole cluster, which other tests share.
        let name = format!("{name}.{}", stage.namespace);
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(stage.client.clone());
        let rule =
            json!({"apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": [resource]});
        let policy = json!({"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "messageExpression": "'hunter2 asks for ' + request.name"}]}});
        let policy = serde_json::from_value(policy).unwrap();
        policies.create(&PostParams::default(), &policy).await.unwrap();
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(stage.client.clone());
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}});
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": here}}});
        let binding = serde_json::from_value(binding).unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        Self {
            name,
            policies,
            bindings,
        }
    }

    async fn delete(&self) {
        self.bindings
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
        self.policies
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_admission_policy_that_refuses_a_child_is_named_in_the_condition() {
    let stage = Stage::new("refused").await;
    let policy = Policy::create(&stage, "no-services", "CREATE", "", "services").await;
    let name = &policy.name;
    let services: Api<Service> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 1}]}});
    let probe: Service = serde_json::from_value(probe).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    until("the policy acts", PATIENCE, || async {
        services.create(&dry, &probe).await.is_err()
    })
    .await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    until("the condition names it", PATIENCE, || async {
        let stalled = stage.condition("shots", "Stalled").await;
        stalled.is_some_and(|(status, reason, message)| {
            assert!(!message.contains("hunter2"), "{message}");
            let named = message.contains(&format!("ValidatingAdmissionPolicy {name};")) && message.contains("Service");
            status == "True" && reason == "AdmissionRefused" && named
        })
    })
    .await;
    policy.delete().await;
    stage.settled("shots").await;
    operator.stop().await;
}

#[tokio::test]
async fn names_that_share_their_first_fifty_characters_do_not_collide() {
    let stage = Stage::new("names").await;
    let operator = Operator::running(&stage).await;
    let stem = "n".repeat(51);
    let names = [format!("{stem}a"), format!("{stem}b"), "n".into(), "n-egress".into()];
    for name in &names {
        stage.resting(name).await;
    }
    for name in &names {
        stage.settled(name).await;
    }
    let made = stage.versions().await;
    assert_eq!(made.len(), inventory("a").len() * names.len(), "{:?}", made.keys());
    operator.stop().await;
}

/// A policy keeps the service from being deleted, so that the namespace is on its way out for as long as it takes to look:
/// its children are gone and none can be made.
#[tokio::test]
async fn a_service_in_a_namespace_on_its_way_out_is_no_trouble() {
    let (stage, other) = (Stage::new("ending").await, Stage::new("staying").await);
    let scope = Scope::of([stage.namespace.clone(), other.namespace.clone()]);
    let operator = Operator::begin(config().await, scope);
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    stage.resting("shots").await;
    stage.settled("shots").await;
    let policy = Policy::create(&stage, "stay", "DELETE", "screenshot-operator.io", "screenshotservices").await;
    let dry = DeleteParams::default().dry_run();
    until("the policy acts", PATIENCE, || async {
        stage.services().delete("shots", &dry).await.is_err()
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    namespaces
        .delete(&stage.namespace, &DeleteParams::default())
        .await
        .unwrap();
    until("a pass meets it", PATIENCE, || async {
        operator.count("reconciles_total", &["NamespaceTerminating"]) > 0
    })
    .await;
    until("every child is gone", PATIENCE, || async {
        stage.versions().await.is_empty()
    })
    .await;
    let before = operator.passes();
    let end = Instant::now() + Duration::from_secs(5);
    until("five seconds have passed", PATIENCE, || async {
        let stalled = stage.condition("shots", "Stalled").await;
        assert!(stalled.is_none_or(|(status, ..)| status != "True"));
        Instant::now() > end
    })
    .await;
    let passes = operator.passes() - before;
    // The backoff is a second at first and doubles.
    assert!(passes <= 5, "{passes} passes in five seconds");
    other.resting("shots").await;
    other.settled("shots").await;
    policy.delete().await;
    until("the namespace is gone", PATIENCE, || async {
        namespaces.get_opt(&stage.namespace).await.unwrap().is_none()
    })
    .await;
    operator.stop().await;
}

/// Seconds by which the operator's clock is wrong.
static JUMP: AtomicI64 = AtomicI64::new(0);

fn jumping() -> Timestamp {
    Timestamp::from_second(whole_seconds().as_second() + JUMP.load(Ordering::SeqCst)).unwrap()
}

#[tokio::test]
async fn a_clock_that_jumps_rotates_once_and_always_leaves_a_token_that_works() {
    let stage = Stage::new("clock").await;
    let operator = Operator::with_clock(config().await, stage.scope(), jumping);
    operator.ready(PATIENCE).await;
    let service = stage.resting("shots").await;
    operator.pass(&service).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let data = |secret: Secret, key: &str| String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap();
    let read = async || {
        let token = data(secrets.get("shots-token").await.unwrap(), "token");
        let keyset = data(secrets.get("shots-keyset").await.unwrap(), "keyset.json");
        let keyset = screenshot_policy::keyset::Keyset::parse(keyset.as_bytes()).unwrap();
        assert!(
            keyset.verify(&token, jumping()).is_ok(),
            "the client's token does not work"
        );
        (token, keyset)
    };
    let (first, _) = read().await;
    // Years ahead, back again, and into the past.
    let mut tokens = vec![first];
    for days in [400, 0, -400, 0, 400] {
        JUMP.store(days * 86_400, Ordering::SeqCst);
        for _ in 0..3 {
            let service = stage.services().get("shots").await.unwrap();
            operator.pass(&service).await.unwrap();
        }
        tokens.push(read().await.0);
    }
    assert_ne!(tokens[1], tokens[0], "an old token is replaced");
    assert!(
        tokens[1..].iter().all(|token| *token == tokens[1]),
        "replaced more than once"
    );
    assert!(secrets.get_opt("shots-pending").await.unwrap().is_none());
}
