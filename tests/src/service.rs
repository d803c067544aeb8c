//! A ScreenshotService as its owner sees it: conditions, pods, token.

use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use crate::{Failure, Kind, eventually, find, get, list};

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True` or `False`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// A manifest of a service; `spec` is YAML in one line.
pub fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: screenshot-operator.io/v1alpha1\nkind: ScreenshotService\nmetadata:\n  name: {name}\nspec: {spec}\n"
    )
}

/// Part of the spec of a service that mostly waits: its browser asks the node for little, so that more find room on it.
pub const AT_REST: &str = "resources: {browser: {requests: {cpu: 20m}}}";

/// A condition of a service, if it has one of that type.
pub fn condition(namespace: &str, name: &str, kind: &str) -> Option<Condition> {
    of(&find(namespace, Kind::ScreenshotService, name).ok()??, kind)
}

fn of(object: &Value, kind: &str) -> Option<Condition> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some(Condition {
        status: text("status"),
        reason: text("reason"),
        message: text("message"),
    })
}

/// Every condition, one a line, for whoever reads why a test failed.
pub fn conditions(namespace: &str, name: &str) -> String {
    let object = find(namespace, Kind::ScreenshotService, name)
        .ok()
        .flatten()
        .unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let line = |c: &Value| {
        let text = |field: &str| c[field].as_str().unwrap_or_default().to_owned();
        format!(
            "{:<16} {:<5} {:<24} {}",
            text("type"),
            text("status"),
            text("reason"),
            text("message")
        )
    };
    conditions.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Waits until a service is ready for its present generation.
///
/// # Errors
/// It does not become so within two minutes; with its conditions.
pub fn wait_ready(namespace: &str, name: &str) -> Result<(), Failure> {
    let ready = || {
        let object = find(namespace, Kind::ScreenshotService, name).ok()??;
        let seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let calm = of(&object, "Reconciling").is_none();
        (seen && calm && of(&object, "Ready")?.status == "True").then_some(())
    };
    eventually(&format!("{namespace}/{name} Ready"), Duration::from_secs(120), ready)
        .map_err(|failure| format!("{failure}\n{}", conditions(namespace, name)))
}

/// The service's pods that are not on their way out.
///
/// # Errors
/// What the API server reports.
pub fn pods(namespace: &str, name: &str) -> Result<Vec<Value>, Failure> {
    let selector = format!("app.kubernetes.io/name=screenshot-service,app.kubernetes.io/instance={name}");
    let mut pods = list(namespace, Kind::Pod, &selector)?;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(pods)
}

/// The token that a client of the service reads.
///
/// # Errors
/// There is none.
pub fn token(namespace: &str, name: &str) -> Result<String, Failure> {
    let secret = get(namespace, Kind::Secret, &format!("{name}-token"))?;
    let encoded = secret["data"]["token"].as_str().ok_or("no token in the Secret")?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
