//! The services that are planned and made here, as the operator would see them.

use screenshot_api::ScreenshotService;
use screenshot_operator::cluster::ClusterSettings;
use screenshot_operator::context::Settings;
use screenshot_operator::plan::OperatorPods;
use screenshot_operator::validate::{Validated, identity, validate};
use serde_json::{Value, json};

/// A service that asks for exceptions for these hosts, until these times.
pub fn wanted(namespace: &str, name: &str, uid: &str, exceptions: &[(&str, &str)]) -> Validated {
    let exceptions: Vec<Value> = exceptions
        .iter()
        .map(|(host, expires)| json!({"host": host, "ports": [80], "reason": "r", "expires": expires}))
        .collect();
    let service: ScreenshotService = serde_json::from_value(json!({
        "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": 1},
        "spec": {"replicas": 0, "network": {"egress": {"exceptions": exceptions}}},
    }))
    .unwrap();
    let settings = Settings {
        capture_image: Some("localhost/capture-server:dev".into()),
        operator_namespace: "default".into(),
        operator_name: "screenshot-operator".into(),
        cluster: ClusterSettings::default(),
    };
    validate(identity(&service).unwrap(), &service, &settings).unwrap()
}

/// The operator that they belong to.
pub fn operator() -> OperatorPods {
    OperatorPods {
        namespace: "default".into(),
        name: "screenshot-operator".into(),
    }
}
