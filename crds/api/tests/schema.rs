//! The committed CRD is the generated one, and its schema keeps the rules of Kubernetes' API conventions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use screenshot_api::DefaultResources;
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
    let bad = serde_json::json!({"type": "object", "description": "d", "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "text": {"type": "string"}, "list": {"type": "array", "items": {"type": "integer", "format": "uint16"}},
        "float": {"type": "number", "nullable": true}, "map": {"type": "object"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "unions": {"type": "string", "oneOf": []},
        "wait": {"type": "integer", "minimum": 0, "maximum": 5, "description": "Seconds to wait. Default: 1."},
        "tries": {"type": "integer", "minimum": 0, "maximum": 5, "description": "How often. Default: 1."},
        "lyingSeconds": {"type": "integer", "minimum": 0, "maximum": 5, "default": 3, "description": "Seconds, 1 to 5. Default: 30."},
        "lyingText": {"type": "string", "maxLength": 5, "default": "a", "description": "A text. Default: b."},
        "ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 5}},
        "waitMinutes": {"type": "integer", "minimum": 0, "maximum": 5, "description": "How long to wait."},
        "ruled": {"type": "string", "description": "A text. Default: none.", "x-kubernetes-validations": [{"rule": "true", "message": "No good"}]},
        "badKey": {"type": "string", "description": "Required."}, "bad_name": {"type": "boolean", "description": "Default: false."}
    }});
    let mut findings = Vec::new();
    lint(".spec", &bad, &mut findings);
    assert!(
        !findings.iter().any(|f| f.starts_with(".spec.ports[]:")),
        "a port has no unit: {findings:#?}"
    );
    for expected in [
        ".spec: x-kubernetes-preserve-unknown-fields",
        ".spec.text: string without maxLength",
        ".spec.text: string that may be empty without a pattern",
        ".spec.text: no description",
        ".spec.list: list without maxItems",
        ".spec.list: list without x-kubernetes-list-type",
        ".spec.list[]: number without minimum",
        ".spec.list[]: format uint16",
        ".spec.float: type number",
        ".spec.float: nullable",
        ".spec.map: object without properties",
        ".spec.labels: map without maxProperties",
        ".spec.labels{}: string without maxLength",
        ".spec.keyed: key name is neither required nor defaulted",
        ".spec.unions: oneOf",
        ".spec.waitMinutes: description names no default and is not required",
        ".spec.waitMinutes: description names no unit",
        ".spec.wait: number without a unit in its name",
        ".spec.tries: number without a unit in its name",
        ".spec.lyingSeconds: description does not say \"Default: 3.\"",
        ".spec.lyingSeconds: description does not say \"0 to 5\"",
        ".spec.lyingText: description does not say \"Default: `a`\"",
        ".spec.ruled: rule without reason",
        ".spec.ruled: message \"No good\" does not say what must be",
        ".spec.bad_name: name is not camelCase",
    ] {
        assert!(
            findings.iter().any(|f| f == expected),
            "missing {expected:?} in {findings:#?}"
        );
    }
}

#[test]
fn the_crd_is_small_and_says_what_tools_need() {
    let text = screenshot_api::schema::crd_yaml().expect("serialises");
    assert!(text.len() < 100 * 1024, "{} bytes", text.len());
    let crd = crd();
    let version = &crd["spec"]["versions"][0];
    let columns = |priority: i64| -> Vec<&str> {
        let columns = version["additionalPrinterColumns"].as_array().expect("columns");
        let shown = columns
            .iter()
            .filter(|c| c["priority"].as_i64().unwrap_or(0) == priority);
        shown.map(|c| c["name"].as_str().expect("name")).collect()
    };
    assert_eq!(
        columns(0),
        [
            "Ready", "URL", "Replicas", "Key Age", "Sandbox", "Egress", "Browser", "Age"
        ]
    );
    assert_eq!(
        columns(1),
        ["Reason", "Browser Age", "Addresses", "Next Rotation", "Suspended"]
    );
    assert_eq!(
        version["subresources"],
        serde_json::json!({"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"
        }})
    );
    assert_eq!(
        version["selectableFields"],
        serde_json::json!([{"jsonPath": ".spec.suspend"}, {"jsonPath": ".spec.sandbox.mode"}])
    );
    assert_eq!(
        crd["spec"]["names"],
        serde_json::json!({"kind": "ScreenshotService", "plural": "screenshotservices", "singular": "screenshotservice",
            "shortNames": ["shot"], "categories": ["screenshots"]})
    );
    for absent in ["/status", "/metadata/creationTimestamp", "/spec/preserveUnknownFields"] {
        assert!(
            crd.pointer(absent).is_none(),
            "{absent} is a drift that GitOps tools show for ever"
        );
    }
}

/// Every column reads a field that the schema has.
#[test]
fn every_column_shows_data_that_exists() {
    let crd = crd();
    let root = root_schema(&crd);
    for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .expect("columns")
    {
        let path = column["jsonPath"].as_str().expect("path");
        if path == ".metadata.creationTimestamp" {
            continue;
        }
        let field = path.split("[?").next().expect("path");
        let pointer = field.trim_start_matches('.').replace('.', "/properties/");
        assert!(root.pointer(&format!("/properties/{pointer}")).is_some(), "{path}");
    }
}

#[test]
fn a_minimal_manifest_is_complete_and_safe() {
    let spec: screenshot_api::ScreenshotServiceSpec = serde_json::from_str("{}").expect("spec: {} is valid");
    assert_eq!(spec, screenshot_api::ScreenshotServiceSpec::default());
    assert_eq!((spec.replicas, spec.suspend), (2, false));
    assert_eq!(spec.sandbox.mode, screenshot_api::SandboxMode::Required);
    assert_eq!(spec.sandbox.isolation, screenshot_api::Isolation::PerClient);
    assert!(spec.network.egress.exceptions.is_empty());
}

#[test]
fn what_is_said_of_default_resources_is_what_pods_get() {
    let crd = crd();
    let resources = &root_schema(&crd)["properties"]["spec"]["properties"]["resources"]["properties"];
    for (container, defaults) in [
        ("server", DefaultResources::SERVER),
        ("browser", DefaultResources::BROWSER),
    ] {
        let said = resources[container]["description"].as_str().unwrap();
        let requests = format!("requests {} and {},", defaults.cpu_request, defaults.memory_request);
        assert!(said.contains(&requests), "{container}: {said}");
        let limits = said.split("limits ").nth(1).unwrap();
        assert!(limits.starts_with(defaults.cpu_limit), "{container}: {said}");
        assert!(
            limits.contains(&format!("and {},", defaults.memory_limit)),
            "{container}: {said}"
        );
    }
}

#[test]
fn a_new_object_is_not_judged_finished_before_the_first_pass() {
    assert_eq!(
        root_schema(&crd())["properties"]["status"]["default"]["observedGeneration"],
        -1
    );
}

/// Kubernetes' API conventions as far as a schema can show them. A path that ends in `[]` is an item of a list, in `{}` a
/// value of a map.
fn lint(path: &str, schema: &Value, findings: &mut Vec<String>) {
    for keyword in [
        "nullable",
        "oneOf",
        "anyOf",
        "allOf",
        "not",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if schema.get(keyword).is_some() {
            findings.push(format!("{path}: {keyword}"));
        }
    }
    lint_text(path, schema, findings);
    lint_rules(path, schema, findings);
    match schema["type"].as_str() {
        Some("object") => lint_object(path, schema, findings),
        Some("array") => lint_list(path, schema, findings),
        Some("string") => lint_string(path, schema, findings),
        Some("integer") => {
            lint_unit(path, findings);
            for bound in ["minimum", "maximum"] {
                if !schema[bound].is_i64() {
                    findings.push(format!("{path}: number without {bound}"));
                }
            }
        }
        Some("boolean") => {}
        other => findings.push(format!("{path}: type {}", other.unwrap_or("missing"))),
    }
    if let Some(format) = schema["format"]
        .as_str()
        .filter(|f| !["int32", "int64", "date-time"].contains(f))
    {
        findings.push(format!("{path}: format {format}"));
    }
}

/// Descriptions are what `kubectl explain` shows: each says what its field does, and in the spec its default and unit.
fn lint_text(path: &str, schema: &Value, findings: &mut Vec<String>) {
    let item = path.ends_with(['[', ']', '{', '}']);
    let Some(text) = schema["description"].as_str() else {
        if !item {
            findings.push(format!("{path}: no description"));
        }
        return;
    };
    if !path.starts_with(".spec.") || item {
        return;
    }
    if !text.contains("Default: ") && !text.contains("Required.") {
        findings.push(format!("{path}: description names no default and is not required"));
    }
    for value in named_values(schema) {
        if !text.contains(&value) {
            findings.push(format!("{path}: description does not say {value:?}"));
        }
    }
    for (suffix, unit) in [
        ("Seconds", "seconds"),
        ("Minutes", "minutes"),
        ("Hours", "hours"),
        ("Days", "days"),
        ("Percentage", "percent"),
        ("Bytes", "bytes"),
    ] {
        if path.ends_with(suffix) && !text.to_lowercase().contains(unit) {
            findings.push(format!("{path}: description names no unit"));
        }
    }
}

/// Values of the schema as a description says them: a scalar's default, and both bounds of a number.
fn named_values(schema: &Value) -> impl Iterator<Item = String> {
    let default = match &schema["default"] {
        Value::String(text) => Some(format!("Default: `{text}`")),
        // With what ends it: 3 is not named by 30.
        value @ (Value::Number(_) | Value::Bool(_)) => Some(format!("Default: {value}.")),
        _ => None,
    };
    let bounds = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
    let range = if let (Some(min), Some(max)) = bounds {
        Some(format!("{min} to {max}"))
    } else {
        None
    };
    default.into_iter().chain(range)
}

/// Units that a number's name may end in; one name begins with it.
const UNITS: [&str; 9] = [
    "Seconds",
    "Minutes",
    "Hours",
    "Days",
    "daysLeft",
    "Milliseconds",
    "Bytes",
    "Pixels",
    "Percentage",
];
/// Numbers of things, which have no unit.
const COUNTS: [&str; 5] = ["replicas", "Replicas", "Generation", "port", "ports[]"];

/// A number's name says what it counts: nobody has to look up whether a wait is in seconds.
fn lint_unit(path: &str, findings: &mut Vec<String>) {
    if !UNITS.iter().chain(&COUNTS).any(|end| path.ends_with(end)) {
        findings.push(format!("{path}: number without a unit in its name"));
    }
}

/// A refusal says what must be, and why it is one in a word for programs.
fn lint_rules(path: &str, schema: &Value, findings: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        if rule.get("reason").is_none() {
            findings.push(format!("{path}: rule without reason"));
        }
        let message = rule["message"].as_str().unwrap_or_default();
        if !message.contains("must ") && !message.contains("may not ") {
            findings.push(format!("{path}: message {message:?} does not say what must be"));
        }
    }
}

fn lint_object(path: &str, schema: &Value, findings: &mut Vec<String>) {
    if let Some(values) = schema.get("additionalProperties") {
        if schema.get("maxProperties").is_none() {
            findings.push(format!("{path}: map without maxProperties"));
        }
        lint(&format!("{path}{{}}"), values, findings);
    } else if schema.get("properties").is_none() {
        findings.push(format!("{path}: object without properties"));
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let camel =
            name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(|c| c.is_ascii_alphanumeric());
        if !camel {
            findings.push(format!("{path}.{name}: name is not camelCase"));
        }
        lint(&format!("{path}.{name}"), child, findings);
    }
}

fn lint_list(path: &str, schema: &Value, findings: &mut Vec<String>) {
    if schema.get("maxItems").is_none() {
        findings.push(format!("{path}: list without maxItems"));
    }
    let items = &schema["items"];
    match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
                let required = items["required"]
                    .as_array()
                    .is_some_and(|required| required.contains(key));
                let name = key.as_str().unwrap_or_default();
                if !required && items["properties"][name].get("default").is_none() {
                    findings.push(format!("{path}: key {name} is neither required nor defaulted"));
                }
            }
        }
        Some("set" | "atomic") => {}
        _ => findings.push(format!("{path}: list without x-kubernetes-list-type")),
    }
    lint(&format!("{path}[]"), items, findings);
}

fn lint_string(path: &str, schema: &Value, findings: &mut Vec<String>) {
    if schema.get("enum").is_some() || schema["format"] == "date-time" {
        return;
    }
    if schema.get("maxLength").is_none() {
        findings.push(format!("{path}: string without maxLength"));
    }
    let free = path.ends_with("annotations{}") || path.ends_with(".message");
    if schema.get("minLength").is_none() && schema.get("pattern").is_none() && !free {
        findings.push(format!("{path}: string that may be empty without a pattern"));
    }
}
