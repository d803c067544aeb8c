//! The committed CRD is the generated one, and its schema keeps the rules of Kubernetes' API conventions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use serde_json::Value;

const COMMITTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../screenshot-operator.io_screenshotservices.yaml"
);

fn crd() -> Value {
    screenshot_api::schema::crd().expect("serialises")
}

fn root_schema(crd: &Value) -> &Value {
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("schema")
}

#[test]
fn the_committed_crd_is_the_generated_one() {
    let generated = screenshot_api::schema::crd_yaml().expect("serialises");
    let committed = std::fs::read_to_string(COMMITTED).expect("crds/*.yaml is committed");
    assert!(
        generated == committed,
        "run: cargo run -p screenshot-api --bin crdgen crds/screenshot-operator.io_screenshotservices.yaml"
    );
}

#[test]
fn the_committed_crd_reads_back_as_the_same_value() {
    let committed = std::fs::read_to_string(COMMITTED).expect("crds/*.yaml is committed");
    let read: Value = serde_saphyr::from_str(&committed).expect("YAML");
    assert_eq!(read, crd());
}

#[test]
fn every_field_is_bounded_and_described() {
    let crd = crd();
    let mut findings = Vec::new();
    for part in ["spec", "status"] {
        lint(
            &format!(".{part}"),
            &root_schema(&crd)["properties"][part],
            &mut findings,
        );
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn the_linter_sees_what_it_is_there_for() {
    let bad = serde_json::json!({"type": "object", "properties": {
        "text": {"type": "string"}, "list": {"type": "array", "items": {"type": "integer", "format": "uint16"}},
        "float": {"type": "number", "nullable": true}, "map": {"type": "object"}
    }});
    let mut findings = Vec::new();
    lint("", &bad, &mut findings);
    for expected in [
        ".text: string without maxLength",
        ".text: no description",
        ".list: list without maxItems",
        ".list: list without x-kubernetes-list-type",
        ".list[]: number without minimum",
        ".list[]: format uint16",
        ".float: type number",
        ".float: nullable",
        ".map: object without properties",
    ] {
        assert!(
            findings.iter().any(|f| f == expected),
            "missing {expected:?} in {findings:#?}"
        );
    }
}

#[test]
fn a_minimal_manifest_is_complete_and_safe() {
    let spec: screenshot_api::ScreenshotServiceSpec = serde_json::from_str("{}").expect("spec: {} is valid");
    assert_eq!(spec, screenshot_api::ScreenshotServiceSpec::default());
    assert_eq!((spec.replicas, spec.suspend), (2, false));
    assert_eq!(spec.sandbox.mode, screenshot_api::SandboxMode::Required);
    assert!(spec.network.egress.exceptions.is_empty());
}

#[test]
fn a_new_object_is_not_judged_finished_before_the_first_pass() {
    assert_eq!(
        root_schema(&crd())["properties"]["status"]["default"]["observedGeneration"],
        -1
    );
}

/// Kubernetes' API conventions as far as a schema can show them.
fn lint(path: &str, schema: &Value, findings: &mut Vec<String>) {
    let mut say = |what: String| findings.push(format!("{path}: {what}"));
    if schema.get("nullable").is_some() {
        say("nullable".into());
    }
    if !path.ends_with("[]") && schema.get("description").is_none() {
        say("no description".into());
    }
    if let Some(format) = schema["format"]
        .as_str()
        .filter(|f| !["int32", "int64", "date-time"].contains(f))
    {
        say(format!("format {format}"));
    }
    match schema["type"].as_str() {
        Some("object") => {
            if schema.get("properties").is_none() {
                say("object without properties".into());
            }
            for (name, child) in schema["properties"].as_object().into_iter().flatten() {
                lint(&format!("{path}.{name}"), child, findings);
            }
        }
        Some("array") => {
            if schema.get("maxItems").is_none() {
                say("list without maxItems".into());
            }
            if schema.get("x-kubernetes-list-type").is_none() {
                say("list without x-kubernetes-list-type".into());
            }
            lint(&format!("{path}[]"), &schema["items"], findings);
        }
        Some("string") => {
            if schema.get("maxLength").is_none() && schema.get("enum").is_none() && schema["format"] != "date-time" {
                say("string without maxLength".into());
            }
        }
        Some("integer") => {
            for bound in ["minimum", "maximum"] {
                if !schema[bound].is_i64() {
                    say(format!("number without {bound}"));
                }
            }
        }
        Some("boolean") => {}
        other => say(format!("type {}", other.unwrap_or("missing"))),
    }
}
