//! The schema of the resource as the API server gets it.
//!
//! In: what the derive macros produce. Out: the CRD as JSON ([`crd`]) and as YAML ([`crd_yaml`]).
//! Repairs what is legal but troublesome: `nullable` (an explicit null would fight with server-side apply), formats that
//! Kubernetes does not know, bounds printed as floats (GitOps tools see drift). Must not change what a field means.

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{MAX_NAME, ScreenshotService};

/// Formats that Kubernetes knows and that this schema uses; any other is dropped.
const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// The CRD of `ScreenshotService`.
///
/// # Errors
/// Never in practice: the types serialise. A test holds it.
pub fn crd() -> Result<Value, serde_json::Error> {
    let mut crd = serde_json::to_value(ScreenshotService::crd())?;
    if let Some(versions) = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                repair(schema);
                add_root_rules(schema);
            }
        }
    }
    if let Some(top) = crd.as_object_mut() {
        top.remove("status");
    }
    if let Some(metadata) = crd.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert(
            "labels".into(),
            json!({"app.kubernetes.io/part-of": "screenshot-operator"}),
        );
    }
    Ok(crd)
}

/// The file that is committed: [`crd`] in YAML, with a header.
///
/// # Errors
/// What the JSON or YAML writer reports; never in practice.
pub fn crd_yaml() -> Result<String, Box<dyn std::error::Error>> {
    let body = serde_saphyr::to_string(&crd()?)?;
    Ok(format!(
        "# Generated from crds/api by crdgen. Do not edit; a test compares.\n---\n{}\n",
        body.trim_end()
    ))
}

fn add_root_rules(schema: &mut Value) {
    let Some(root) = schema.as_object_mut() else { return };
    root.insert(
        "x-kubernetes-validations".into(),
        json!([
            {
                "rule": format!("oldSelf.hasValue() || self.metadata.name.size() <= {MAX_NAME}"),
                "optionalOldSelf": true,
                "message": format!("`metadata.name` must be no longer than {MAX_NAME} characters"),
                "reason": "FieldValueInvalid"
            },
            {
                // Names never change: what is there already can be edited and deleted.
                "rule": "oldSelf.hasValue() || self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "message": "`metadata.name` must be lower case letters, digits and `-`, begin with a letter and not end with `-`: a Service is named so",
                "optionalOldSelf": true,
                "reason": "FieldValueInvalid"
            }
        ]),
    );
    if let Some(spec) = root
        .get_mut("properties")
        .and_then(|p| p.get_mut("spec"))
        .and_then(Value::as_object_mut)
    {
        spec.insert("default".into(), json!({}));
        spec.insert(
            "description".into(),
            json!("What is wanted. Default: {}, which is complete and safe."),
        );
    }
    if let Some(status) = root
        .get_mut("properties")
        .and_then(|p| p.get_mut("status"))
        .and_then(Value::as_object_mut)
    {
        // Without it a service that was just created looks finished to everything that computes status the kstatus way.
        status.insert("default".into(), json!({"observedGeneration": -1}));
    }
}

fn repair(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if is_schema(map) {
                repair_one(map);
            }
            map.iter_mut()
                .filter(|(key, _)| *key != "default")
                .for_each(|(_, child)| repair(child));
        }
        Value::Array(items) => items.iter_mut().for_each(repair),
        _ => {}
    }
}

fn is_schema(map: &Map<String, Value>) -> bool {
    map.get("type").is_some_and(Value::is_string)
}

fn repair_one(map: &mut Map<String, Value>) {
    map.remove("nullable");
    if map
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| !FORMATS.contains(&format))
    {
        map.remove("format");
    }
    for bound in ["minimum", "maximum"] {
        if let Some(whole) = map.get(bound).and_then(Value::as_f64).and_then(whole) {
            map.insert(bound.into(), json!(whole));
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9.1e15).then_some(number as i64)
}
