//! Makes the services that are measured. They have no replicas: nothing here runs pods.

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use screenshot_api::ScreenshotService;
use serde_json::json;

/// How many are made at a time.
const HANDS: usize = 16;

/// A namespace, if there is none of the name.
pub async fn namespace(client: &Client, name: &str) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("namespace");
    match namespaces.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        made => drop(made.expect("namespace")),
    }
}

/// One service.
pub async fn create(client: &Client, namespace: &str, name: &str) -> ScreenshotService {
    let object: ScreenshotService = serde_json::from_value(json!({
        "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
        "metadata": {"name": name}, "spec": {"replicas": 0},
    }))
    .expect("service");
    let api: Api<ScreenshotService> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &object).await.expect("created")
}

/// So many, in a namespace of their own.
pub async fn make(client: &Client, namespace: &str, count: usize) {
    self::namespace(client, namespace).await;
    stream::iter(0..count)
        .for_each_concurrent(HANDS, |n| async move {
            create(client, namespace, &format!("shots-{n}")).await;
        })
        .await;
}

/// How many there are.
pub async fn count(client: &Client) -> usize {
    let api: Api<ScreenshotService> = Api::all(client.clone());
    api.list_metadata(&ListParams::default())
        .await
        .expect("services")
        .items
        .len()
}
