//! What tools of others find at every resource of Kubernetes: columns, selectable fields, a scale.

use http::Request;
use http::header::ACCEPT;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Operator, Stage};

async fn table(stage: &Stage) -> Value {
    let path = format!(
        "/apis/screenshot-operator.io/v1alpha1/namespaces/{}/screenshotservices",
        stage.namespace
    );
    let request = Request::get(path).header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
    let text = stage
        .client
        .request_text(request.body(Vec::new()).unwrap())
        .await
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn columns_selectable_fields_and_scale_are_served_and_say_what_is_so() {
    let stage = Stage::new("tools").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage
        .create("quiet", json!({"suspend": true, "sandbox": {"mode": "Degraded"}}))
        .await
        .unwrap();
    stage.settled("shots").await;

    let table = table(&stage).await;
    let columns = table["columnDefinitions"].as_array().unwrap();
    let place = |name: &str| columns.iter().position(|column| column["name"] == name).unwrap();
    let row = |name: &str| {
        let mut rows = table["rows"].as_array().unwrap().iter();
        rows.find(|row| row["cells"][0] == name).unwrap()["cells"].clone()
    };
    let shots = row("shots");
    assert_eq!(
        (&shots[place("Ready")], &shots[place("Replicas")]),
        (&json!("True"), &json!(0))
    );
    let url = format!("http://shots.{}.svc", stage.namespace);
    assert!(shots[place("URL")].as_str().unwrap().starts_with(&url), "{shots}");

    let services = stage.services();
    for (selector, expected) in [
        ("spec.suspend=true", "quiet"),
        ("spec.suspend=false", "shots"),
        ("spec.sandbox.mode=Degraded", "quiet"),
        ("spec.sandbox.mode=Required", "shots"),
    ] {
        let found = services
            .list(&ListParams::default().fields(selector))
            .await
            .unwrap()
            .items;
        let names: Vec<_> = found.into_iter().filter_map(|service| service.metadata.name).collect();
        assert_eq!(names, [expected], "{selector}");
    }

    let scale = services.get_scale("shots").await.unwrap();
    let selector = scale.status.as_ref().and_then(|status| status.selector.clone());
    assert!(
        selector.is_some_and(|selector| selector.contains("instance=shots")),
        "{scale:?}"
    );
    let more = Patch::Merge(json!({"spec": {"replicas": 3}}));
    services
        .patch_scale("shots", &PatchParams::default(), &more)
        .await
        .unwrap();
    assert_eq!(services.get("shots").await.unwrap().spec.replicas, 3);
    operator.stop().await;
}
