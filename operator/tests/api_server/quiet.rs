//! What changes nothing costs nothing.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use screenshot_operator::cache::Key;
use screenshot_operator::plan::Kind;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Operator, PATIENCE, Stage, until};

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

/// Each write costs the API server of the tests 20 ms of CPU: how many a second there are, the machine decides. That none
/// makes a pass does not hang on it.
const WRITERS: u32 = 4;
const WRITES: u32 = 125;
/// No longer than this: a service at rest is looked at again after forty seconds.
const FLOOD: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_flood_of_status_writes_on_an_owned_deployment_makes_no_pass() {
    let stage = Stage::new("flood").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (calls, passes) = (operator.calls(), operator.passes());
    let api = stage.children(Kind::Deployment);
    let before = api.get("shots").await.unwrap().metadata.resource_version;
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let api = api.clone();
        writers.spawn(async move {
            let mut written = 0_u32;
            for n in 0..WRITES {
                if begun.elapsed() > FLOOD {
                    break;
                }
                let message = format!("{writer} {n}");
                let condition = json!({"type": "Noise", "status": "True", "message": message, "reason": "Flood",
                    "lastUpdateTime": null, "lastTransitionTime": null});
                let noise = Patch::Merge(json!({"status": {"conditions": [condition]}}));
                match api.patch_status("shots", &PatchParams::default(), &noise).await {
                    Ok(_) => written += 1,
                    // Another writer was faster, again and again.
                    Err(kube::Error::Api(status)) if status.is_conflict() => {}
                    Err(error) => panic!("noise: {error}"),
                }
            }
            written
        });
    }
    let written: u32 = writers.join_all().await.into_iter().sum();
    eprintln!("{:.0} writes/s", f64::from(written) / begun.elapsed().as_secs_f64());
    assert!(written > WRITES, "{written} writes");
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

/// Most of what the API server tells of an object is who wrote which field, and kubectl's copy of the manifest.
#[tokio::test]
async fn who_wrote_which_field_and_the_copy_of_the_manifest_are_not_kept() {
    let stage = Stage::new("pruned").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let copy = "kubectl.kubernetes.io/last-applied-configuration";
    let edit = json!({"metadata": {"annotations": {copy: "{}", "example.com/a": "b"}}});
    let services = stage.services();
    services
        .patch("shots", &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .unwrap();
    let whole = services.get("shots").await.unwrap();
    assert!(!whole.managed_fields().is_empty() && whole.annotations().contains_key(copy));
    let key = Key::of(&whole.metadata);
    let kept = || operator.context.services.readable(&key).unwrap();
    until("the watch shows the edit", PATIENCE, || async {
        kept().annotations().contains_key("example.com/a")
    })
    .await;
    let kept = kept();
    assert!(
        kept.metadata.managed_fields.is_none(),
        "{:?}",
        kept.metadata.managed_fields
    );
    assert!(!kept.annotations().contains_key(copy), "{:?}", kept.annotations());
    operator.stop().await;
}
