//! Who says how many pods there are.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use screenshot_operator::cache::Key;
use serde_json::json;

use crate::support::{Operator, PATIENCE, Stage, until};

#[tokio::test]
async fn what_an_autoscaler_wrote_stays_whatever_else_is_applied_and_is_the_operators_again_without_one() {
    let stage = Stage::new("scaling").await;
    let operator = Operator::running(&stage).await;
    let bounds = json!({"minReplicas": 1, "maxReplicas": 4});
    stage.create("shots", json!({"autoscaling": bounds})).await.unwrap();
    let api: Api<Deployment> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let replicas = async || api.get("shots").await.unwrap().spec.unwrap().replicas;
    until("the Deployment is made", PATIENCE, || async {
        api.get_opt("shots").await.unwrap().is_some()
    })
    .await;
    assert_eq!(replicas().await, Some(1), "starts at the fewest");

    // As the autoscaler's controller does it.
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaler = PatchParams {
        field_manager: Some("kube-controller-manager".into()),
        ..PatchParams::default()
    };
    api.patch_scale("shots", &scaler, &three).await.unwrap();
    let seen = || async {
        let known = operator.context.cache.of(&Key::new(&stage.namespace, "shots"));
        known.deployment.is_some_and(|deployment| deployment.desired == 3)
    };
    until("the watch shows it", PATIENCE, seen).await;
    for image in ["localhost/other:1", "localhost/other:2"] {
        stage.edit("shots", json!({"image": image})).await;
        let applied = || async {
            let live = api.get("shots").await.unwrap();
            let pod = live.spec.unwrap().template.spec.unwrap();
            pod.containers
                .iter()
                .all(|container| container.image.as_deref() == Some(image))
        };
        until("the Deployment is applied anew", PATIENCE, applied).await;
        assert_eq!(replicas().await, Some(3), "{image}");
    }

    // An autoscaler leaves a Deployment without pods alone: who scaled it there would have switched the service off.
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let person = PatchParams {
        field_manager: Some("kubectl".into()),
        ..PatchParams::default()
    };
    api.patch_scale("shots", &person, &none).await.unwrap();
    until("it has the fewest pods again", PATIENCE, || async {
        replicas().await == Some(1)
    })
    .await;
    until("it is told of", PATIENCE, || async {
        // Who scales to nothing holds no field by which he could be named.
        let told = "Deployment shots: spec.replicas (changed by ";
        let mut events = stage.events().await.into_iter();
        events.any(|(reason, note)| reason == "DriftCorrected" && note.contains(told))
    })
    .await;

    stage.edit("shots", json!({"autoscaling": null, "replicas": 0})).await;
    until("the spec's own number counts again", PATIENCE, || async {
        replicas().await == Some(0)
    })
    .await;
    operator.stop().await;
}
