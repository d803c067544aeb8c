//! What the operator may do is what it does: its rules against the audit log of the API server.
//!
//! Needs `SHOT_TEST_AUDIT_LOG`, the path of that log; `hack/test-operator.sh` gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use screenshot_operator::leader::{Elector, Times};
use screenshot_operator::names::Names;
use screenshot_operator::plan::Kind;
use screenshot_operator::rbac::{CLUSTER_RULES, OWN_RULES, RULES, Rule, cluster_rules, own_rules};
use screenshot_operator::validate::identity;
use serde_json::{Value, json};

use crate::roles::restricted;
use crate::support::{Operator, PATIENCE, Stage, until};
use crate::troubles::refused_by_its_node;

/// What a rule grants: group, resource with its subresource, verb.
type Grant = (String, String, String);

fn grants(rules: &[Rule]) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for rule in rules {
        for resource in rule.resources {
            for verb in rule.verbs {
                grants.insert((rule.group.into(), (*resource).into(), (*verb).into()));
            }
        }
    }
    grants
}

/// A service with a child of every kind but the route, for which there is room only instead of the Ingress.
fn everything(host: &str) -> Value {
    let exception = json!({"host": host, "ports": [80], "reason": "r", "expires": "2099-01-01T00:00:00Z"});
    json!({
        "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
        "monitoring": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}},
        "network": {
            "egress": {"exceptions": [exception]},
            "exposure": {"ingress": {"className": "nginx", "host": "shots.example.com", "tlsSecretName": "tls"}},
        },
    })
}

fn route() -> Value {
    json!({"network": {"exposure": {"ingress": null,
        "httpRoute": {"parentRefs": [{"name": "public"}], "hostnames": ["shots.example.com"]}}}})
}

/// The calls of a user, from the audit log: what was asked, and whether it was allowed.
fn calls(user: &str) -> BTreeMap<Grant, BTreeSet<u64>> {
    let path =
        std::env::var("SHOT_TEST_AUDIT_LOG").expect("SHOT_TEST_AUDIT_LOG is not set: hack/test-operator.sh sets it");
    let log = std::fs::read_to_string(path).expect("audit log");
    let mut calls: BTreeMap<Grant, BTreeSet<u64>> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(user)) {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if event["impersonatedUser"]["username"] != json!(user) {
            continue;
        }
        let code = event["responseStatus"]["code"].as_u64().unwrap_or(0);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        // Discovery is everybody's.
        let Some(resource) = object["resource"].as_str() else {
            continue;
        };
        let sub = object["subresource"]
            .as_str()
            .map_or(String::new(), |sub| format!("/{sub}"));
        let (group, resource) = (text(&object["apiGroup"]), format!("{resource}{sub}"));
        let verb = text(&event["verb"]);
        // An apply that creates needs the right to create as well.
        if verb == "patch" && code == 201 {
            let created = (group.clone(), resource.clone(), "create".to_owned());
            calls.entry(created).or_default().insert(code);
        }
        calls.entry((group, resource, verb)).or_default().insert(code);
    }
    calls
}

/// Everything that an operator does in its life, so that each rule is needed once.
async fn live(stage: &Stage, config: kube::Config) {
    let client = Client::try_from(config.clone()).unwrap();
    let mut elector = Elector::new(client, &stage.namespace, "lease", "me", Times::default());
    elector.campaign().await;
    elector.release().await.unwrap();
    let target: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]},
    }))
    .unwrap();
    stage
        .children(Kind::Service)
        .create(&PostParams::default(), &target)
        .await
        .unwrap();
    let operator = Operator::reading_addresses(config, stage.scope());
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    let host = format!("web.{}.svc", stage.namespace);
    let service = stage.create("shots", everything(&host)).await.unwrap();
    until("every child is made", PATIENCE, || async {
        let rule = stage.children(Kind::PrometheusRule).get_opt("shots").await.unwrap();
        let status = stage.services().get("shots").await.unwrap().status;
        rule.is_some() && status.is_some_and(|status| status.auth.is_some())
    })
    .await;
    // A change of each child by hand makes the operator read it and write it.
    let owner = serde_json::to_value(identity(&service).unwrap().owner).unwrap();
    for kind in Kind::ALL {
        if kind == Kind::HttpRoute {
            stage.edit("shots", route()).await;
            until("the route is made", PATIENCE, || async {
                stage.children(kind).get_opt("shots").await.unwrap().is_some()
            })
            .await;
        }
        let name = match kind {
            Kind::NetworkPolicy => Names::new("shots").default_deny(),
            Kind::ConfigMap => "shots-policy".into(),
            Kind::Secret => "shots-token".into(),
            _ => "shots".into(),
        };
        let api = stage.children(kind);
        let live = api.get(&name).await.unwrap();
        let edit = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}}));
        api.patch(&name, &PatchParams::default(), &edit).await.unwrap();
        until(&format!("{kind:?} is put back"), PATIENCE, || async {
            api.get(&name).await.unwrap().metadata.labels == live.metadata.labels
        })
        .await;
        // What is ours and no longer planned is pruned, whatever its kind.
        let mut old = live.clone();
        old.metadata = serde_json::from_value(json!({
            "name": "shots-old", "labels": live.metadata.labels, "ownerReferences": [owner],
        }))
        .unwrap();
        if kind == Kind::Service {
            let spec = old.data["spec"].as_object_mut().unwrap();
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        api.create(&PostParams::default(), &old).await.unwrap();
        until(&format!("{kind:?} is pruned"), PATIENCE, || async {
            api.get_opt("shots-old").await.unwrap().is_none()
        })
        .await;
    }
    // A rotation, whose event is told again and counted.
    for nonce in ["a", "b", "c"] {
        stage
            .edit("shots", json!({"auth": {"rotation": {"nonce": nonce}}}))
            .await;
        until("the token is new", PATIENCE, || async {
            let status = stage.services().get("shots").await.unwrap().status.unwrap();
            status
                .auth
                .is_some_and(|auth| auth.last_handled_nonce.as_deref() == Some(nonce))
        })
        .await;
    }
    refused_by_its_node(stage, "old-node", "no runtime for \"none\" is configured").await;
    until("what the kubelet told is said", PATIENCE, || async {
        let stalled = stage.condition("shots", "Stalled").await;
        stalled.is_some_and(|(_, reason, _)| reason == "RuntimeHandlerMissing")
    })
    .await;
    stage
        .services()
        .delete("shots", &DeleteParams::default())
        .await
        .unwrap();
    operator.stop().await;
}

#[tokio::test]
async fn every_call_is_allowed_every_rule_is_used_and_nothing_else_is_asked_for() {
    let stage = Stage::new("audit").await;
    stage.define_optional_kinds().await;
    let with = |rules: &mut Value| {
        let own = cluster_rules().unwrap();
        rules.as_array_mut().unwrap().extend(own.as_array().unwrap().clone());
    };
    let config = restricted(&stage, with).await;
    let user = config.auth_info.impersonate.clone().unwrap();
    grant_own(&stage, &user).await;
    live(&stage, config).await;
    // The log is written in batches.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = calls(&user);
    let refused: Vec<_> = calls.iter().filter(|(_, codes)| codes.contains(&403)).collect();
    assert!(refused.is_empty(), "refused: {refused:?}");
    let granted: BTreeSet<Grant> = [RULES, OWN_RULES, CLUSTER_RULES].into_iter().flat_map(grants).collect();
    let asked: BTreeSet<Grant> = calls.keys().cloned().collect();
    let beyond: Vec<_> = asked.difference(&granted).collect();
    assert!(beyond.is_empty(), "asked for beyond the rules: {beyond:?}");
    let unused: Vec<_> = granted.difference(&asked).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}");
}

async fn grant_own(stage: &Stage, user: &str) {
    let group = "rbac.authorization.k8s.io";
    let make = async |kind: &str, object: Value| {
        let resource = kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    };
    let version = format!("{group}/v1");
    let role = json!({"apiVersion": version, "kind": "Role", "metadata": {"name": "own"}, "rules": own_rules("lease").unwrap()});
    make("Role", role).await;
    let binding = json!({"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "own"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "own"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}]});
    make("RoleBinding", binding).await;
}
