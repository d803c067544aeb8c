//! What somebody edits is put back, what is not ours is left alone.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use screenshot_operator::plan::Kind;
use serde_json::{Value, json};

use crate::support::{Operator, Stage, inventory, until};

const SOON: Duration = Duration::from_secs(2);

fn vandal() -> PatchParams {
    PatchParams {
        field_manager: Some("vandal".into()),
        ..PatchParams::default()
    }
}

#[tokio::test]
async fn a_deleted_child_is_back_within_two_seconds() {
    let stage = Stage::new("heal").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    for (kind, child) in inventory("shots") {
        let api = stage.children(kind);
        let old = api.get(&child).await.unwrap().metadata.uid;
        api.delete(&child, &DeleteParams::background()).await.expect("delete");
        let back = || async {
            let found = api.get_opt(&child).await.unwrap();
            found.is_some_and(|found| found.metadata.deletion_timestamp.is_none() && found.metadata.uid != old)
        };
        let took = until(&format!("{kind:?} {child} is back"), SOON, back).await;
        eprintln!("{} {child}: back after {took:?}", kind.name());
    }
    operator.stop().await;
}

/// An edit of a field of ours, and the field as the event names it.
fn edits() -> Vec<(Kind, &'static str, Value, &'static str)> {
    vec![
        (
            Kind::NetworkPolicy,
            "shots-default-deny",
            json!({"spec": {"egress": [{}]}}),
            "spec.egress",
        ),
        (
            Kind::NetworkPolicy,
            "shots-default-deny",
            json!({"spec": {"policyTypes": ["Ingress"]}}),
            "spec.policyTypes",
        ),
        (
            Kind::NetworkPolicy,
            "shots-default-deny",
            json!({"spec": {"podSelector": {"matchLabels": {"more": "narrow"}}}}),
            "spec.podSelector",
        ),
        (
            Kind::NetworkPolicy,
            "shots-egress",
            json!({"spec": {"egress": [{}]}}),
            "spec.egress",
        ),
        (
            Kind::Deployment,
            "shots",
            json!({"spec": {"replicas": 3}}),
            "spec.replicas",
        ),
        (
            Kind::Deployment,
            "shots",
            json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}}),
            "metadata.labels.app.kubernetes.io/part-of",
        ),
        (
            Kind::ConfigMap,
            "shots-policy",
            json!({"data": {"policy.json": "{}"}}),
            "data.policy.json",
        ),
        (
            Kind::Service,
            "shots",
            json!({"spec": {"selector": {"app.kubernetes.io/instance": "other"}}}),
            "spec.selector.app.kubernetes.io/instance",
        ),
        (
            Kind::ServiceAccount,
            "shots",
            json!({"automountServiceAccountToken": true}),
            "automountServiceAccountToken",
        ),
        (
            Kind::PodDisruptionBudget,
            "shots",
            json!({"spec": {"maxUnavailable": "50%"}}),
            "spec.maxUnavailable",
        ),
        // Our watch does not show it any more: it has to be missed.
        (
            Kind::Service,
            "shots",
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
            "metadata.labels.app.kubernetes.io/managed-by",
        ),
        (
            Kind::ConfigMap,
            "shots-policy",
            json!({"metadata": {"ownerReferences": null}}),
            "metadata.ownerReferences",
        ),
    ]
}

/// What we own of an object.
fn essence(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    let meta = &value["metadata"];
    let kept = json!({"labels": meta["labels"], "ownerReferences": meta["ownerReferences"], "uid": meta["uid"]});
    value["metadata"] = kept;
    value.as_object_mut().unwrap().remove("status");
    value
}

#[tokio::test]
async fn an_edited_field_is_put_back_within_two_seconds_and_the_event_names_it_and_whose_hand_it_was() {
    let stage = Stage::new("mend").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let mut slowest = Duration::ZERO;
    for (kind, name, edit, field) in edits() {
        let api = stage.children(kind);
        let before = essence(&api.get(name).await.unwrap());
        let edited = api.patch(name, &vandal(), &Patch::Merge(&edit)).await.expect("edit");
        assert_ne!(essence(&edited), before, "{edit} changes nothing");
        let start = Instant::now();
        let back = || async { essence(&api.get(name).await.unwrap()) == before };
        until(&format!("{kind:?} {name} is as before {edit}"), SOON, back).await;
        slowest = slowest.max(start.elapsed());
        let told = || async {
            // A field that is gone is held by nobody any more.
            let taken_away = edit.to_string().contains("null");
            let wanted = format!("{} {name}: {field}", kind.name());
            stage.events().await.iter().any(|(reason, note)| {
                reason == "DriftCorrected"
                    && note.contains(&wanted)
                    && (taken_away || note.contains("(changed by vandal)"))
            })
        };
        until(&format!("an event names {field} of {name}"), SOON, told).await;
    }
    eprintln!("slowest repair: {slowest:?}");
    operator.stop().await;
}

#[tokio::test]
async fn fields_of_somebody_else_are_left_alone_and_cause_no_write() {
    let stage = Stage::new("alien").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let writes = operator.count("writes_total", &[]);
    for (kind, edit) in [
        (
            Kind::Deployment,
            json!({"metadata": {"annotations": {"their/note": "x"}, "labels": {"their": "label"}}}),
        ),
        (Kind::Deployment, json!({"spec": {"minReadySeconds": 7}})),
        (Kind::Service, json!({"metadata": {"labels": {"their": "label"}}})),
        (Kind::ServiceAccount, json!({"imagePullSecrets": [{"name": "theirs"}]})),
    ] {
        let api = stage.children(kind);
        let edited = api.patch("shots", &vandal(), &Patch::Merge(&edit)).await.expect("edit");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let after = api.get("shots").await.unwrap();
        assert_eq!(essence(&after), essence(&edited), "{edit}");
    }
    assert_eq!(
        operator.count("writes_total", &[]),
        writes,
        "{}",
        operator.context.metrics.counters()
    );
    assert!(
        !stage
            .events()
            .await
            .iter()
            .any(|(reason, _)| reason == "DriftCorrected")
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_secret_whose_labels_were_edited_away_is_found_again() {
    let stage = Stage::new("secret").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let api = stage.children(Kind::Secret);
    let before = api.get("shots-token").await.unwrap();
    let edit = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}});
    api.patch("shots-token", &vandal(), &Patch::Merge(&edit)).await.unwrap();
    let back = || async {
        let now = api.get("shots-token").await.unwrap();
        (now.metadata.labels, now.data) == (before.metadata.labels.clone(), before.data.clone())
    };
    until(
        "the Secret has its labels back, and its token",
        Duration::from_secs(5),
        back,
    )
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_status_that_was_edited_by_hand_is_put_back() {
    let stage = Stage::new("status").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let services = stage.services();
    let before = services.get("shots").await.unwrap().status;
    let edit = json!({"status": {"url": "http://evil.example"}});
    services
        .patch_status("shots", &vandal(), &Patch::Merge(&edit))
        .await
        .unwrap();
    let back = || async { services.get("shots").await.unwrap().status == before };
    until("the status is true again", SOON, back).await;
    operator.stop().await;
}

#[tokio::test]
async fn an_object_of_somebody_else_with_a_childs_name_is_left_alone() {
    for (kind, name, api_version) in [
        (Kind::ConfigMap, "shots-policy", "v1"),
        (Kind::Secret, "shots-keyset", "v1"),
    ] {
        let stage = Stage::new("foreign").await;
        let theirs: DynamicObject = serde_json::from_value(json!({
            "apiVersion": api_version, "kind": kind.name(), "metadata": {"name": name}, "data": {"theirs": "eWVz"},
        }))
        .unwrap();
        let api = stage.children(kind);
        let theirs = api.create(&PostParams::default(), &theirs).await.unwrap();
        let service = stage.resting("shots").await;
        let operator = Operator::watching(&stage).await;
        let error = operator.pass(&service).await.expect_err("refused");
        assert_eq!(error.reason(), "NameTaken");
        let (status, reason, message) = stage.condition("shots", "Stalled").await.expect("Stalled");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "NameTaken"));
        assert!(message.contains(kind.name()), "{message}");
        assert_eq!(api.get(name).await.unwrap(), theirs);
    }
}
