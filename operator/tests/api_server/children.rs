//! Children are made whole, once, and not written again while nothing changes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use screenshot_operator::drift::differences;
use screenshot_operator::names::{MANAGER, Names};
use screenshot_operator::plan::Kind;
use screenshot_operator::validate::identity;
use serde_json::{Value, json};

use crate::faults::writes;
use crate::proxy::{Fault, Proxy};
use crate::support::{Operator, PATIENCE, Stage, inventory, until, whole_seconds};
use crate::whole;

#[tokio::test]
async fn one_pass_makes_every_child_and_a_second_one_neither_reads_nor_writes() {
    let stage = Stage::new("pass").await;
    let service = stage.resting("shots").await;
    let operator = Operator::watching(&stage).await;
    let before = operator.calls();
    operator.pass(&service).await.expect("first pass");
    let events = operator.count("api_calls_total", &["kind=\"Event\""]);
    let calls = operator.calls() - before - events;
    let made = stage.versions().await;
    // One for each child and one for the status. Events are told beside it: how many there are is a matter of what
    // changed in the conditions, not of the children, and a service works without them.
    let most = u64::try_from(made.len() + 1).unwrap();
    assert!(
        calls <= most,
        "{calls} calls (and {events} for events) for {} children",
        made.len()
    );
    let mut names: Vec<(Kind, String)> = made.keys().cloned().collect();
    let mut expected = inventory("shots");
    names.sort();
    expected.sort();
    assert_eq!(names, expected);

    let fresh = stage.services().get("shots").await.expect("service");
    assert_eq!(fresh.status.as_ref().map(|status| status.observed_generation), Some(1));
    // The Deployment's controller writes its status once; after that nothing moves.
    tokio::time::sleep(Duration::from_secs(1)).await;
    operator.pass(&fresh).await.expect("second pass");
    let before = operator.calls();
    let fresh = stage.services().get("shots").await.expect("service");
    operator.pass(&fresh).await.expect("third pass");
    assert_eq!(operator.calls(), before, "{}", operator.context.metrics.counters());
    let now = stage.versions().await;
    assert!(
        made.iter()
            .all(|(child, version)| child.0 == Kind::Deployment || now[child] == *version)
    );
}

#[tokio::test]
async fn an_operator_that_was_restarted_writes_nothing_and_reads_each_child_once_at_most() {
    let stage = Stage::new("restart").await;
    let first = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    first.stop().await;
    let (before, service) = (stage.versions().await, stage.services().get("shots").await.unwrap());

    let second = Operator::watching(&stage).await;
    let started = second.calls();
    second.pass(&service).await.expect("pass");
    let calls = second.calls() - started;
    assert_eq!(
        second.count("writes_total", &[]),
        0,
        "{}",
        second.context.metrics.counters()
    );
    assert!(
        calls <= u64::try_from(before.len()).unwrap(),
        "{calls} calls for {} children",
        before.len()
    );
    eprintln!("calls after a restart: {calls} for {} children", before.len());
    assert_eq!(stage.versions().await, before);
    assert_eq!(stage.services().get("shots").await.unwrap(), service);
}

/// Nothing is remembered of what was planned before: what the API server holds of our last apply tells.
#[tokio::test]
async fn what_left_the_plan_while_no_operator_ran_is_taken_away_by_the_next_one() {
    let stage = Stage::new("left").await;
    let first = Operator::running(&stage).await;
    let spec = json!({"replicas": 0,
        "podMetadata": {"labels": {"team": "web"}}, "objectMetadata": {"annotations": {"example.com/owner": "web"}},
        "scheduling": {"nodeSelector": {"pool": "none"}}});
    stage.create("shots", spec).await.unwrap();
    stage.settled("shots").await;
    first.stop().await;
    let (deployments, maps) = (stage.children(Kind::Deployment), stage.children(Kind::ConfigMap));
    // As an operator leaves it that knows of public addresses of the cluster.
    let before = maps.get("shots-policy").await.unwrap();
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"labels": before.metadata.labels, "ownerReferences": before.metadata.owner_references,
            "annotations": before.metadata.annotations},
        "data": {"policy.json": before.data["data"]["policy.json"], "cluster-ranges.json": "{}"}});
    let params = PatchParams::apply(MANAGER).force();
    maps.patch("shots-policy", &params, &Patch::Apply(body)).await.unwrap();
    let gone = json!({"podMetadata": null, "objectMetadata": null, "scheduling": null});
    stage.edit("shots", gone).await;

    let second = Operator::running(&stage).await;
    until("what is not planned any more is gone", PATIENCE, || async {
        let (deployment, map) = (
            deployments.get("shots").await.unwrap(),
            maps.get("shots-policy").await.unwrap(),
        );
        let pods = &deployment.data["spec"]["template"];
        let noted = deployment.metadata.annotations.iter().flatten();
        pods["metadata"]["labels"]["team"].is_null()
            && pods["spec"]["nodeSelector"].is_null()
            && !noted
                .chain(map.metadata.annotations.iter().flatten())
                .any(|(key, _)| key == "example.com/owner")
            && map.data["data"].as_object().unwrap().len() == 1
    })
    .await;
    stage.settled("shots").await;
    assert_eq!(
        stage
            .events()
            .await
            .iter()
            .find(|(reason, _)| reason == "DriftCorrected"),
        None,
        "a change of our own plan is told of as somebody's"
    );
    second.stop().await;
}

/// What we hold of an object, and since when.
pub fn ours(object: &DynamicObject) -> Vec<Value> {
    let entries = object.metadata.managed_fields.iter().flatten();
    let ours = entries.filter(|entry| entry.manager.as_deref() == Some(MANAGER));
    ours.map(|entry| serde_json::to_value(entry).unwrap()).collect()
}

#[tokio::test]
async fn applying_a_child_twice_changes_no_resource_version_whatever_its_kind() {
    let stage = Stage::new("twice").await;
    stage.define_optional_kinds().await;
    let mut planned = whole::planned(&stage, "shots", whole::spec()).await;
    let routed = whole::planned(&stage, "routed", whole::routed()).await;
    planned.extend(routed.into_iter().filter(|child| child.kind == Kind::HttpRoute));
    let params = PatchParams::apply(MANAGER).force();
    let mut kinds = std::collections::BTreeSet::new();
    for child in planned {
        let api = stage.children(child.kind);
        let apply = async || {
            api.patch(&child.name, &params, &Patch::Apply(&child.body))
                .await
                .expect("apply")
        };
        let first: DynamicObject = apply().await;
        // The kind's controller writes its status, now and then.
        let counted = matches!(
            child.kind,
            Kind::Deployment | Kind::PodDisruptionBudget | Kind::HorizontalPodAutoscaler
        );
        let observed = || async {
            let live = api.get(&child.name).await.unwrap();
            !counted
                || child.kind == Kind::HorizontalPodAutoscaler
                || live.data["status"]["observedGeneration"] == json!(live.metadata.generation)
        };
        until("its controller has looked", PATIENCE, observed).await;
        tokio::time::sleep(Duration::from_millis(1100)).await; // managedFields keep whole seconds
        let second = apply().await;
        let third = apply().await;
        let kept = serde_json::to_value(&third).unwrap();
        assert_eq!(
            differences(&child.body, &kept),
            [],
            "{child:?}: the API server fills in what is not planned"
        );
        assert_eq!(second.metadata.generation, first.metadata.generation, "{child:?}");
        assert_eq!(ours(&first).len(), 1, "{child:?}");
        assert_eq!(ours(&third), ours(&first), "our own part was written anew: {child:?}");
        // The autoscaler's controller writes its status every 15 s, whatever we do, and that is a resourceVersion too;
        // its own generation is not counted. What we hold, with the time of our last write, has to do.
        if child.kind != Kind::HorizontalPodAutoscaler {
            assert_eq!(
                third.metadata.resource_version, second.metadata.resource_version,
                "{child:?}"
            );
        }
        if !counted {
            assert_eq!(
                second.metadata.resource_version, first.metadata.resource_version,
                "{child:?}"
            );
        }
        kinds.insert(child.kind);
    }
    let expected = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret);
    assert_eq!(kinds, expected.collect(), "a kind was not tried");
}

#[tokio::test]
async fn the_token_of_the_client_secret_is_accepted_by_the_keyset() {
    let stage = Stage::new("token").await;
    let service = stage.resting("shots").await;
    Operator::watching(&stage).await.pass(&service).await.expect("pass");
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let data = |secret: Secret, key: &str| String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap();
    let token = data(secrets.get("shots-token").await.unwrap(), "token");
    let keyset = data(secrets.get("shots-keyset").await.unwrap(), "keyset.json");
    let keyset = screenshot_policy::keyset::Keyset::parse(keyset.as_bytes()).unwrap();
    assert!(keyset.verify(&token, whole_seconds()).is_ok());
    let other = screenshot_policy::token::Token::generate(&keyset.keys[0].kid, [7; 32]);
    assert!(keyset.verify(other.text(), whole_seconds()).is_err());
    let status = serde_json::to_string(&stage.services().get("shots").await.unwrap().status).unwrap();
    assert!(!status.contains(&token));
    assert!(
        secrets.get_opt("shots-pending").await.unwrap().is_none(),
        "the pending Secret is left over"
    );
}

/// Without pods there is nobody to wait for: the next key is staged and used in one pass, and nothing of the old one stays.
#[tokio::test]
async fn an_internal_key_that_is_too_old_is_replaced_and_the_old_one_goes() {
    let stage = Stage::new("internal-key").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let secrets = stage.children(Kind::Secret);
    let data = async || secrets.get("shots-internal").await.unwrap().data["data"].clone();
    let first = data().await;
    let old = json!({"metadata": {"annotations": {"screenshot-operator.io/issued-at": "2020-01-01T00:00:00Z"}}});
    secrets
        .patch("shots-internal", &PatchParams::default(), &Patch::Merge(&old))
        .await
        .unwrap();
    until("the key is another one", PATIENCE, || async {
        let now = data().await;
        now["key"] != first["key"] && now.as_object().unwrap().len() == 1
    })
    .await;
    // Counted when the API server has answered, which is after the key is there to be read.
    let promoted = || operator.count("rotation_steps", &["PromoteInternal"]);
    until("the step is counted", PATIENCE, || async { promoted() > 0 }).await;
    // It is young: nothing more happens.
    let second = data().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(data().await, second);
    assert_eq!(promoted(), 1);
    operator.stop().await;
}

#[tokio::test]
async fn a_child_that_is_no_longer_planned_is_pruned_and_one_of_somebody_else_is_not() {
    let stage = Stage::new("prune").await;
    let operator = Operator::running(&stage).await;
    let service = stage.resting("shots").await;
    stage.settled("shots").await;
    let owner = serde_json::to_value(identity(&service).unwrap().owner).unwrap();
    let labels = json!(Names::new("shots").labels());
    let plant = async |name: &str, owners: Value| {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
        }))
        .unwrap();
        let api = stage.children(Kind::ConfigMap);
        api.create(&PostParams::default(), &object).await.unwrap();
    };
    plant("theirs", json!([])).await;
    plant("shots-old", json!([owner])).await;
    let api = stage.children(Kind::ConfigMap);
    until("the old child is gone", PATIENCE, || async {
        api.get_opt("shots-old").await.unwrap().is_none()
    })
    .await;
    assert!(api.get_opt("theirs").await.unwrap().is_some());
    operator.stop().await;
}

#[tokio::test]
async fn a_network_policy_that_is_no_longer_planned_goes_although_what_is_planned_is_refused() {
    let stage = Stage::new("close").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(PATIENCE).await;
    let service = stage.resting("shots").await;
    operator.pass(&service).await.expect("first pass");
    let (names, api) = (Names::new("shots"), stage.children(Kind::NetworkPolicy));
    let exists = async |name: String| api.get_opt(&name).await.unwrap().is_some();
    assert!(exists(names.clients()).await);

    proxy.inject(1, Fault::Refuse(500, 0), |method, path| {
        writes(method, path) && path.contains("networkpolicies/shots-egress")
    });
    let closed = json!({"network": {"ingress": {"from": []}, "egress": {"cidrs": {"deny": ["9.9.9.0/24"]}}}});
    let service = stage.edit("shots", closed).await;
    let error = operator
        .pass(&service)
        .await
        .expect_err("the policy about pages is refused");
    assert_eq!(error.reason(), "ApiUnavailable");
    assert!(!exists(names.clients()).await, "clients still get in");
    assert!(exists(names.default_deny()).await && exists(names.operator()).await);
    operator.pass(&service).await.expect("the next pass");
    operator.stop().await;
}
