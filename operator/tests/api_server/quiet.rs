//! What changes nothing costs nothing.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use screenshot_operator::plan::Kind;
use serde_json::json;

use crate::support::{Operator, Stage, until};

#[tokio::test]
async fn a_service_at_rest_costs_no_call_and_no_pass() {
    let stage = Stage::new("idle").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (calls, passes) = (operator.calls(), operator.passes());
    let version = stage.services().get("shots").await.unwrap().metadata.resource_version;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(
        (operator.calls(), operator.passes()),
        (calls, passes),
        "{}",
        operator.context.metrics.counters()
    );
    assert_eq!(
        stage.services().get("shots").await.unwrap().metadata.resource_version,
        version
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_hundred_status_writes_a_second_on_an_owned_deployment_make_no_pass() {
    let stage = Stage::new("flood").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (calls, passes) = (operator.calls(), operator.passes());
    let api = stage.children(Kind::Deployment);
    let before = api.get("shots").await.unwrap().metadata.resource_version;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for n in 0..500 {
        tick.tick().await;
        let condition = json!({"type": "Noise", "status": "True", "message": n.to_string(), "reason": "Flood",
            "lastUpdateTime": null, "lastTransitionTime": null});
        let noise = json!({"status": {"conditions": [condition]}});
        api.patch_status("shots", &PatchParams::default(), &Patch::Merge(&noise))
            .await
            .expect("noise");
    }
    assert_ne!(
        api.get("shots").await.unwrap().metadata.resource_version,
        before,
        "the flood was none"
    );
    assert_eq!(
        (operator.passes(), operator.calls()),
        (passes, calls),
        "{}",
        operator.context.metrics.counters()
    );
    // A change that matters still gets through.
    api.patch(
        "shots",
        &PatchParams::default(),
        &Patch::Merge(json!({"spec": {"replicas": 5}})),
    )
    .await
    .unwrap();
    until("the edit is put back", Duration::from_secs(2), || async {
        api.get("shots").await.unwrap().data["spec"]["replicas"] == json!(0)
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn changes_of_the_spec_without_effect_on_children_write_only_the_status() {
    let stage = Stage::new("spec").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let before = stage.versions().await;
    stage
        .edit("shots", json!({"auth": {"rotation": {"periodDays": 31}}}))
        .await;
    stage.settled("shots").await;
    assert_eq!(stage.versions().await, before);
    operator.stop().await;
}
