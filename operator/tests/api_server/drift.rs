//! What somebody edits is put back, what is not ours is left alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use screenshot_operator::plan::Kind;
use serde_json::{Value, json};

use crate::support::{Operator, PATIENCE, Stage, inventory, until};
use crate::whole;

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
            Kind::Service,
            "shots",
            json!({"spec": {"selector": {"more": "narrow"}}}),
            "spec.selector.more",
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
pub fn essence(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    let meta = &value["metadata"];
    let kept = json!({"labels": meta["labels"], "ownerReferences": meta["ownerReferences"], "uid": meta["uid"]});
    value["metadata"] = kept;
    value.as_object_mut().unwrap().remove("status");
    value
}

/// The same for children that not every service has.
fn edits_of_optional_children() -> Vec<(Kind, &'static str, Value, &'static str)> {
    vec![
        (
            Kind::HorizontalPodAutoscaler,
            "shots",
            json!({"spec": {"maxReplicas": 9}}),
            "spec.maxReplicas",
        ),
        (
            Kind::Ingress,
            "shots",
            json!({"spec": {"ingressClassName": "other"}}),
            "spec.ingressClassName",
        ),
        (
            Kind::HttpRoute,
            "routed",
            json!({"spec": {"hostnames": ["other.example.com"]}}),
            "spec.hostnames",
        ),
        (
            Kind::HttpRoute,
            "routed",
            json!({"spec": {"parentRefs": [{"name": "public", "port": 8443}]}}),
            "spec.parentRefs",
        ),
        (
            Kind::Deployment,
            "shots",
            json!({"spec": {"template": {"spec": {"nodeSelector": {"more": "narrow"}}}}}),
            "spec.template.spec.nodeSelector.more",
        ),
        (
            Kind::PodMonitor,
            "shots",
            json!({"spec": {"selector": {"matchLabels": {"app.kubernetes.io/instance": "other"}}}}),
            "spec.selector.matchLabels.app.kubernetes.io/instance",
        ),
        (
            Kind::PrometheusRule,
            "shots",
            json!({"spec": {"groups": []}}),
            "spec.groups",
        ),
        (
            Kind::ConfigMap,
            "shots-dashboard",
            json!({"metadata": {"labels": {"grafana_dashboard": "no"}}}),
            "metadata.labels.grafana_dashboard",
        ),
        (
            Kind::NetworkPolicy,
            "shots-monitoring",
            json!({"spec": {"ingress": [{}]}}),
            "spec.ingress",
        ),
        (
            Kind::Secret,
            "shots-token",
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}}),
            "metadata.labels.app.kubernetes.io/managed-by",
        ),
    ]
}

/// Makes each edit, and waits until it is put back and told of.
async fn mended(stage: &Stage, edits: Vec<(Kind, &'static str, Value, &'static str)>) {
    let mut slowest = Duration::ZERO;
    for (kind, name, edit, field) in edits {
        let api = stage.children(kind);
        let before = essence(&api.get(name).await.unwrap());
        let edited = api.patch(name, &vandal(), &Patch::Merge(&edit)).await.expect("edit");
        assert_ne!(essence(&edited), before, "{edit} changes nothing");
        let start = Instant::now();
        let back = || async { essence(&api.get(name).await.unwrap()) == before };
        until(&format!("{kind:?} {name} is as before {edit}"), SOON, back).await;
        slowest = slowest.max(start.elapsed());
        // What is gone, an element of a list too, is held by nobody any more.
        let gone = ["null", "[]"].iter().any(|gone| edit.to_string().contains(gone));
        told(stage, kind, name, field, !gone).await;
    }
    eprintln!("slowest repair: {slowest:?}");
}

/// Waits for the event, which names whose hand it was if that can be known.
async fn told(stage: &Stage, kind: Kind, name: &str, field: &str, whose: bool) {
    let wanted = format!("{} {name}: {field}", kind.name());
    let told = || async {
        stage.events().await.iter().any(|(reason, note)| {
            reason == "DriftCorrected" && note.contains(&wanted) && (!whose || note.contains("(changed by vandal)"))
        })
    };
    until(&format!("an event names {field} of {name}"), SOON, told).await;
}

#[tokio::test]
async fn an_edited_field_is_put_back_within_two_seconds_and_the_event_names_it_and_whose_hand_it_was() {
    let stage = Stage::new("mend").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    mended(&stage, edits()).await;
    operator.stop().await;
}

#[tokio::test]
async fn an_edited_child_of_a_kind_that_not_every_service_has_is_put_back_and_told_of_all_the_same() {
    let stage = Stage::new("mend-more").await;
    stage.define_optional_kinds().await;
    let operator = Operator::running(&stage).await;
    stage.create("shots", whole::spec()).await.unwrap();
    stage.create("routed", whole::routed()).await.unwrap();
    let edits = edits_of_optional_children();
    for (kind, name, ..) in &edits {
        let api = stage.children(*kind);
        let made = || async { api.get_opt(name).await.unwrap().is_some() };
        until(&format!("{kind:?} {name} is made"), PATIENCE, made).await;
    }
    let tried: BTreeSet<Kind> = edits.iter().chain(&self::edits()).map(|(kind, ..)| *kind).collect();
    assert_eq!(tried, Kind::ALL.into(), "a kind is not tried");
    tokio::time::sleep(Duration::from_secs(1)).await;
    mended(&stage, edits).await;
    operator.stop().await;
}

/// What is in a Secret is not planned but a step of the rotation; that somebody edited it is drift like any other.
#[tokio::test]
async fn the_edited_content_of_a_secret_is_mended_and_told_of_without_what_was_in_it() {
    let stage = Stage::new("content").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let counted = || operator.count("drift", &["\"Secret\""]);
    let api = stage.children(Kind::Secret);
    for (number, (name, key, value)) in (1..).zip([
        ("shots-token", "token", json!("YWxpZW4=")),
        ("shots-token", "keyId", json!("YWxpZW4=")),
        ("shots-keyset", "keyset.json", json!("YWxpZW4=")),
        ("shots-internal", "key", json!("YWxpZW4=")),
        ("shots-token", "token", Value::Null),
    ]) {
        let edit = json!({"data": {key: value}});
        api.patch(name, &vandal(), &Patch::Merge(&edit)).await.expect("edit");
        let mended = || async {
            let data = api
                .get_opt(name)
                .await
                .unwrap()
                .map(|secret| secret.data["data"][key].clone());
            data.is_some_and(|data| data.is_string() && data != value)
        };
        until(&format!("{key} of {name} is mended"), SOON, mended).await;
        told(&stage, Kind::Secret, name, &format!("data.{key}"), value.is_string()).await;
        until("it is counted once", SOON, || async { counted() == number }).await;
        stage.settled("shots").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(counted(), 5, "a step of our own is taken for an edit");
    for (_, note) in stage.events().await {
        assert!(!note.contains("alien") && !note.contains("YWxpZW4"), "{note}");
    }
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
