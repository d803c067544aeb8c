//! Fewer rights than the operator asks for, and rights in some namespaces only.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use screenshot_operator::http::trouble;
use screenshot_operator::plan::Kind;
use screenshot_operator::rbac;
use screenshot_operator::trigger::controller::Scope;
use screenshot_operator::validate::identity;
use serde_json::{Value, json};

use crate::support::{Operator, PATIENCE, Stage, config, until};

/// A configuration that acts as an operator whose role lacks what `without` says.
pub async fn restricted(stage: &Stage, without: impl Fn(&mut Value)) -> Config {
    let name = format!("operator-{}", stage.namespace);
    let mut rules = rbac::rules().unwrap();
    without(&mut rules);
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
    let cluster: Api<ClusterRole> = Api::all(stage.client.clone());
    cluster.create(&PostParams::default(), &role).await.unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    }))
    .unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(stage.client.clone());
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let mut config = config().await;
    config.auth_info.impersonate = Some(name);
    config.auth_info.impersonate_groups = Some(vec!["system:authenticated".into()]);
    config
}

#[tokio::test]
async fn a_right_missing_for_one_kind_is_told_by_readiness_and_condition_and_heals() {
    let stage = Stage::new("rights").await;
    let without = |rules: &mut Value| {
        for rule in rules.as_array_mut().unwrap() {
            let resources = rule["resources"].as_array_mut().unwrap();
            resources.retain(|resource| resource != "networkpolicies");
        }
    };
    let config = restricted(&stage, without).await;
    let operator = Operator::begin(config, stage.scope());
    until("readiness names the kind and why", PATIENCE, || async {
        trouble(&operator.context).is_some_and(|why| why.contains("NetworkPolicy") && why.contains("Forbidden"))
    })
    .await;
    let operator = operator.leading();
    stage.resting("shots").await;
    until("the condition names it", PATIENCE, || async {
        let stalled = stage.condition("shots", "Stalled").await;
        stalled.is_some_and(|(_, reason, message)| reason == "Forbidden" && message.contains("NetworkPolicy"))
    })
    .await;
    assert!(
        stage.versions().await.is_empty(),
        "children were made while the cache was blind"
    );
    let roles: Api<ClusterRole> = Api::all(stage.client.clone());
    let full = Patch::Merge(json!({"rules": rbac::rules().unwrap()}));
    roles
        .patch(&format!("operator-{}", stage.namespace), &PatchParams::default(), &full)
        .await
        .unwrap();
    stage.settled_within("shots", PATIENCE).await;
    operator.stop().await;
}

#[tokio::test]
async fn several_namespaces_are_looked_after_with_roles_alone_and_no_other_is_read() {
    let (one, two, other) = (
        Stage::new("one").await,
        Stage::new("two").await,
        Stage::new("other").await,
    );
    let user = format!("operator-{}", one.namespace);
    for stage in [&one, &two] {
        let resource = |kind: &str| {
            kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
                "rbac.authorization.k8s.io",
                "v1",
                kind,
            ))
        };
        let make = async |kind: &str, object: Value| {
            let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource(kind));
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        };
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "op"},
            "rules": rbac::rules().unwrap()});
        make("Role", role).await;
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "op"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "op"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        make("RoleBinding", binding).await;
    }
    let mut config = config().await;
    config.auth_info.impersonate = Some(user);
    config.auth_info.impersonate_groups = Some(vec!["system:authenticated".into()]);
    let operator = Operator::begin(config, Scope::of([one.namespace.clone(), two.namespace.clone()]));
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    for stage in [&one, &two, &other] {
        stage.resting("shots").await;
    }
    one.settled("shots").await;
    two.settled("shots").await;
    assert!(other.versions().await.is_empty());
    // That an optional kind is not served is no refusal.
    let unserved = operator.count("api_calls_total", &["4xx", "APIResourceList"]);
    assert_eq!(
        operator.count("api_calls_total", &["4xx"]) - unserved,
        0,
        "{}",
        operator.context.metrics.counters()
    );
    operator.stop().await;
}

/// The API server enforces who may name an owner. For a child that blocks the end of its owner it asks for a right on the
/// owner's finalizers, which the operator does not have: its children must not.
#[tokio::test]
async fn an_owner_is_named_without_a_right_on_its_finalizers_and_may_not_be_blocked() {
    let stage = Stage::new("owner").await;
    let config = restricted(&stage, |_| {}).await;
    let client = Client::try_from(config).unwrap();
    let service = stage.resting("shots").await;
    let mut owner = serde_json::to_value(identity(&service).unwrap().owner).unwrap();
    assert!(owner.get("blockOwnerDeletion").is_none(), "{owner}");
    let api: Api<DynamicObject> = Api::namespaced_with(client, &stage.namespace, &Kind::ConfigMap.api_resource());
    for (name, blocks) in [("free", false), ("blocking", true)] {
        owner["blockOwnerDeletion"] = json!(blocks);
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]},
        });
        match api
            .patch(name, &PatchParams::apply("test"), &Patch::Apply(&object))
            .await
        {
            Ok(_) => assert!(!blocks, "the API server does not enforce it: this test shows nothing"),
            Err(kube::Error::Api(status)) => {
                assert!(
                    blocks && status.message.contains("blockOwnerDeletion"),
                    "{}",
                    status.message
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
}
