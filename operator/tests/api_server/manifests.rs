//! Manifests that the API server takes and manifests that it refuses, with every word that it then says.
//!
//! The schema and its rules are judged by the real API server: what is refused, at which field, with which message. A
//! message is compared whole, as a person reads it.

use kube::api::{DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::{Api, Client};
use screenshot_api::{ScreenshotService, ScreenshotServiceSpec};
use serde_json::{Value, json};

use crate::manifests_tls;
use crate::support::Stage;

/// What the API server adds when the schema alone refuses: the rules are looked at when it no longer does.
const UNCHECKED: &str = "some validation rules were not checked because the object was invalid";

/// Field and message of everything that is wrong with a spec; empty if it is taken. Nothing is stored.
async fn causes(stage: &Stage, name: &str, spec: &Value) -> Vec<(String, String)> {
    match dry_run(stage, name, spec).await {
        Ok(_) => Vec::new(),
        Err(kube::Error::Api(status)) => {
            let causes = status
                .details
                .as_ref()
                .map(|details| details.causes.clone())
                .unwrap_or_default();
            assert!(!causes.is_empty(), "{spec}: {status:?}");
            causes
                .into_iter()
                .filter(|cause| !cause.message.contains(UNCHECKED))
                .map(|cause| (cause.field, cause.message))
                .collect()
        }
        Err(error) => panic!("{spec}: {error}"),
    }
}

async fn dry_run(stage: &Stage, name: &str, spec: &Value) -> Result<DynamicObject, kube::Error> {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
        "metadata": {"name": name}, "spec": spec,
    }))
    .expect("object");
    let resource = kube::api::ApiResource::erase::<ScreenshotService>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(Client::clone(&stage.client), &stage.namespace, &resource);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&params, &object).await
}

fn upstream(spec: &Value) -> Value {
    json!({"network": {"egress": {"upstreamProxy": spec}}})
}

fn exception(more: &Value) -> Value {
    let mut exception = json!({"host": "h.example", "ports": [80], "reason": "r", "expires": "2030-01-01T00:00:00Z"});
    exception
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"network": {"egress": {"exceptions": [exception]}}})
}

#[tokio::test]
async fn manifests_are_refused_at_the_field_and_with_the_rule_that_they_break() {
    let stage = Stage::new("refused").await;
    let mut wrong = Vec::new();
    for (spec, field, message) in refused().into_iter().chain(manifests_tls::refused()) {
        let causes = causes(&stage, "bad", &spec).await;
        if causes != [(field.to_owned(), message.to_owned())] {
            wrong.push((spec.to_string(), causes));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let long = "n".repeat(53);
    let expected = "Invalid value: `metadata.name` must be no longer than 52 characters";
    assert_eq!(
        causes(&stage, &long, &json!({})).await,
        [(String::from("<nil>"), expected.to_owned())]
    );
    // The API server itself takes both.
    let expected = "Invalid value: `metadata.name` must be lower case letters, digits and `-`, begin with a letter and not end with `-`: a Service is named so";
    for name in ["my.shots", "1shots"] {
        assert_eq!(
            causes(&stage, name, &json!({})).await,
            [(String::from("<nil>"), expected.to_owned())]
        );
    }
}

fn many(count: usize, item: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(item).collect()
}

/// Each of these is no name that a page could ask for, and is refused with the same words.
#[tokio::test]
async fn an_entry_that_is_no_name_is_refused_in_both_lists_of_names() {
    let stage = Stage::new("names").await;
    let message = "must be a host name in lower case such as 'example.com', or '*.example.com' for every name below it; an address has its place in `cidrs`";
    for name in [
        "*",
        "*.",
        "**.com",
        "*.*.com",
        "a.*.com",
        "*a.com",
        ".a.com",
        "a..com",
        "a.com.",
        "-a.com",
        "a-.com",
        "A.com",
        "a com",
        "1.2.3.4",
        "a.1",
        "a.0x1f",
        "[::1]",
        "::1",
        "a.com:443",
        "a.com/",
        "*.1.2.3.4",
        "\u{e4}.com",
    ] {
        for list in ["allow", "deny"] {
            let spec = json!({"network": {"egress": {"domains": {list: [name]}}}});
            let expected = (
                format!("spec.network.egress.domains.{list}[0]"),
                format!("Invalid value: {name:?}: {message}"),
            );
            assert_eq!(causes(&stage, "bad", &spec).await, [expected], "{name}");
        }
    }
}

#[allow(clippy::too_many_lines)] // A table.
fn refused() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (
            json!({"replicas": 101}),
            "spec.replicas",
            "Invalid value: 101: spec.replicas in body should be less than or equal to 100",
        ),
        (
            json!({"resources": {"browser": {"requests": {"cpu": "1001m"}, "limits": {"cpu": "1"}}}}),
            "spec.resources.browser.requests.cpu",
            "Invalid value: `requests.cpu` must not be greater than `limits.cpu`",
        ),
        (
            json!({"resources": {"server": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2047Mi"}}}}),
            "spec.resources.server.requests.memory",
            "Invalid value: `requests.memory` must not be greater than `limits.memory`",
        ),
        (
            json!({"autoscaling": {"minReplicas": 5, "maxReplicas": 4}}),
            "spec.autoscaling.minReplicas",
            "Invalid value: `minReplicas` must not be greater than `maxReplicas`",
        ),
        (
            json!({"autoscaling": {}}),
            "spec.autoscaling.maxReplicas",
            "Required value",
        ),
        (
            json!({"auth": {"rotation": {"periodDays": 1, "overlapHours": 24}}}),
            "spec.auth.rotation.overlapHours",
            "Invalid value: `overlapHours` must be less than `periodDays` times 24",
        ),
        (
            json!({"sandbox": {"mode": "Off"}}),
            "spec.sandbox.mode",
            "Unsupported value: \"Off\": supported values: \"Required\", \"Degraded\"",
        ),
        (
            json!({"sandbox": {"seccompProfile": "../etc/passwd"}}),
            "spec.sandbox.seccompProfile",
            r#"Invalid value: "../etc/passwd": spec.sandbox.seccompProfile in body should match '^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*)*$'"#,
        ),
        (
            json!({"network": {"ingress": {"from": [{}]}}}),
            "spec.network.ingress.from[0]",
            "Required value: must set `podSelector`, `namespaceSelector` or both",
        ),
        (
            json!({"network": {"ingress": {"cidrs": ["10.0.0.1/8"]}}}),
            "spec.network.ingress.cidrs[0]",
            "Invalid value: \"10.0.0.1/8\": must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
        ),
        (
            json!({"network": {"egress": {"ports": [80, 22]}}}),
            "spec.network.egress.ports",
            "Invalid value: must be 80 or 443; any other port needs an entry in `exceptions`",
        ),
        (
            json!({"network": {"egress": {"domains": {"allow": ["https://example.com/"]}}}}),
            "spec.network.egress.domains.allow[0]",
            "Invalid value: \"https://example.com/\": must be a host name in lower case such as 'example.com', or '*.example.com' for every name below it; an address has its place in `cidrs`",
        ),
        (
            json!({"network": {"egress": {"domains": {"deny": ["a.com", "a.com"]}}}}),
            "spec.network.egress.domains.deny[1]",
            "Duplicate value: \"a.com\"",
        ),
        (
            json!({"network": {"egress": {"domains": {"deny": many(257, |n| format!("a{n}.com"))}}}}),
            "spec.network.egress.domains.deny",
            "Too many: 257: must have at most 256 items",
        ),
        (
            json!({"network": {"egress": {"cidrs": {"allow": ["8.8.8.8"]}}}}),
            "spec.network.egress.cidrs.allow[0]",
            "Invalid value: \"8.8.8.8\": must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
        ),
        (
            json!({"network": {"egress": {"cidrs": {"allow": ["example.com"]}}}}),
            "spec.network.egress.cidrs.allow[0]",
            "Invalid value: \"example.com\": must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
        ),
        (
            json!({"network": {"egress": {"cidrs": {"deny": ["8.8.8.8/24"]}}}}),
            "spec.network.egress.cidrs.deny[0]",
            "Invalid value: \"8.8.8.8/24\": must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
        ),
        (
            json!({"network": {"egress": {"cidrs": {"deny": many(129, |n| format!("1.{n}.0.0/16"))}}}}),
            "spec.network.egress.cidrs.deny",
            "Too many: 129: must have at most 128 items",
        ),
        (
            upstream(&json!({"url": "http://user:secret@proxy.example.com:3128"})),
            "spec.network.egress.upstreamProxy.url",
            "Invalid value: \"http://user:secret@proxy.example.com:3128\": must not hold a user name or a password: put them into a Secret and name it in `credentialsSecretName`",
        ),
        (
            upstream(&json!({"url": "http://proxy.example.com"})),
            "spec.network.egress.upstreamProxy.url",
            "Invalid value: \"http://proxy.example.com\": must be 'http://', 'https://' or 'socks5://', a lower-case host and a port, such as 'http://proxy.example.com:3128'",
        ),
        (
            upstream(&json!({"url": "http://proxy.example.com:65536"})),
            "spec.network.egress.upstreamProxy.url",
            "Invalid value: \"http://proxy.example.com:65536\": must be 'http://', 'https://' or 'socks5://', a lower-case host and a port, such as 'http://proxy.example.com:3128'",
        ),
        (
            upstream(&json!({"url": "ftp://proxy.example.com:21"})),
            "spec.network.egress.upstreamProxy.url",
            "Invalid value: \"ftp://proxy.example.com:21\": must be 'http://', 'https://' or 'socks5://', a lower-case host and a port, such as 'http://proxy.example.com:3128'",
        ),
        (
            upstream(&json!({})),
            "spec.network.egress.upstreamProxy.url",
            "Required value",
        ),
        (
            upstream(&json!({"url": "http://proxy.example.com:3128", "resolve": "Elsewhere"})),
            "spec.network.egress.upstreamProxy.resolve",
            "Unsupported value: \"Elsewhere\": supported values: \"Local\", \"Remote\"",
        ),
        (
            upstream(&json!({"url": "http://proxy.example.com:3128", "cidr": "10.0.0.1/8"})),
            "spec.network.egress.upstreamProxy.cidr",
            "Invalid value: \"10.0.0.1/8\": must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
        ),
        (
            upstream(&json!({"url": "http://proxy.example.com:3128", "caBundleConfigMapName": "ca"})),
            "spec.network.egress.upstreamProxy.caBundleConfigMapName",
            "Invalid value: `caBundleConfigMapName` must not be set unless `url` begins with 'https://'",
        ),
        (
            json!({"network": {"egress": {"cidrs": {"deny": ["9.9.9.0/24"]},
                "upstreamProxy": {"url": "http://proxy.example.com:3128", "resolve": "Remote"}}}}),
            "spec.network.egress.cidrs",
            "Invalid value: `cidrs` must not be set where the upstream proxy resolves names: nothing would hold it",
        ),
        (
            json!({"network": {"exposure": {}}}),
            "spec.network.exposure",
            "Invalid value: must set exactly one of `ingress` and `httpRoute`",
        ),
        (
            json!({"network": {"exposure": {"ingress": {"host": "a.example"}, "httpRoute": {"parentRefs": [{"name": "g"}], "hostnames": ["a.example"]}}}}),
            "spec.network.exposure",
            "Invalid value: must set exactly one of `ingress` and `httpRoute`",
        ),
        (
            json!({"network": {"exposure": {"ingress": {"host": "*.example"}}}}),
            "spec.network.exposure.ingress.host",
            r#"Invalid value: "*.example": spec.network.exposure.ingress.host in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'"#,
        ),
        (
            json!({"network": {"exposure": {"httpRoute": {"parentRefs": [], "hostnames": ["a.example"]}}}}),
            "spec.network.exposure.httpRoute.parentRefs",
            "Invalid value: 0: spec.network.exposure.httpRoute.parentRefs in body should have at least 1 items",
        ),
        (
            json!({"scheduling": {"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]}}),
            "spec.scheduling.tolerations[0].value",
            "Forbidden: `value` may not be specified when `operator` is 'Exists'",
        ),
        (
            json!({"scheduling": {"tolerations": [{}]}}),
            "spec.scheduling.tolerations[0].operator",
            "Invalid value: `operator` must be 'Exists' when `key` is not specified",
        ),
        (
            json!({"scheduling": {"tolerations": [{"key": "k", "tolerationSeconds": 5}]}}),
            "spec.scheduling.tolerations[0].tolerationSeconds",
            "Forbidden: `tolerationSeconds` may not be specified unless `effect` is 'NoExecute'",
        ),
        (
            json!({"podMetadata": {"labels": {"app.kubernetes.io/name": "mine"}}}),
            "spec.podMetadata.labels",
            "Forbidden: must not use keys under 'app.kubernetes.io/' or 'screenshot-operator.io/', which the operator sets",
        ),
        (
            json!({"objectMetadata": {"annotations": {"screenshot-operator.io/x": "y"}}}),
            "spec.objectMetadata.annotations",
            "Forbidden: must not use keys under 'screenshot-operator.io/', which the operator sets",
        ),
        (
            json!({"monitoring": {"podMonitor": {"enabled": true, "intervalSeconds": 1}}}),
            "spec.monitoring.podMonitor.intervalSeconds",
            "Invalid value: 1: spec.monitoring.podMonitor.intervalSeconds in body should be greater than or equal to 5",
        ),
        (
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}),
            "spec.imagePullSecrets[1]",
            "Duplicate value: {\"name\":\"a\"}",
        ),
        (
            json!({"resources": {"server": {"limits": {"memory": "lots"}}}}),
            "spec.resources.server.limits.memory",
            r#"Invalid value: "lots": spec.resources.server.limits.memory in body should match '^[1-9][0-9]{0,5}(Mi|Gi)$'"#,
        ),
        (
            exception(&json!({})),
            "spec.network.egress.exceptions[0].cidr",
            "Required value: `cidr` must be set unless `host` is an IP address or the name of a Service such as 'web.shop.svc'",
        ),
        (
            exception(&json!({"cidr": "10.0.0.0/8", "ports": [0]})),
            "spec.network.egress.exceptions[0].ports[0]",
            "Invalid value: 0: spec.network.egress.exceptions[0].ports[0] in body should be greater than or equal to 1",
        ),
        (
            exception(&json!({"cidr": "10.0.0.0/8", "ports": [80, 80]})),
            "spec.network.egress.exceptions[0].ports[1]",
            "Duplicate value: 80",
        ),
        (
            exception(&json!({"cidr": "10.0.0.0/8", "expires": "soon"})),
            "spec.network.egress.exceptions[0].expires",
            r#"Invalid value: "soon": spec.network.egress.exceptions[0].expires in body must be of type date-time: "soon""#,
        ),
        (
            exception(&json!({"host": "UPPER.example", "cidr": "10.0.0.0/8"})),
            "spec.network.egress.exceptions[0].host",
            r#"Invalid value: "UPPER.example": spec.network.egress.exceptions[0].host in body should match '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*|\[[0-9a-f:.]+\])$'"#,
        ),
    ]
}

#[tokio::test]
async fn manifests_that_break_no_rule_are_taken() {
    let stage = Stage::new("taken").await;
    for spec in [
        json!({}),
        json!({"autoscaling": {"maxReplicas": 2}}),
        json!({"sandbox": {"seccompProfile": "profiles/a.b/c_d-1.json", "hostUsers": false}}),
        json!({"network": {"ingress": {"from": [], "cidrs": ["10.0.0.0/8", "fd00::/8"]}, "egress": {"ports": []}}}),
        json!({"network": {"egress": {"domains": {"allow": ["example.com", "*.example.com", "_dmarc.a-b.example", "xn--bcher-kva.example", "*.com", "com"],
            "deny": many(256, |n| format!("*.{}.{n}.com", "l".repeat(63)))}}}}),
        json!({"network": {"egress": {"cidrs": {"allow": ["8.0.0.0/7", "2606:4700::/32", "0.0.0.0/0"], "deny": many(128, |n| format!("1.{n}.0.0/16"))}}}}),
        json!({"network": {"exposure": {"ingress": {"host": "a.example", "annotations": {"k": "v"}}}}}),
        json!({"network": {"exposure": {"httpRoute": {"parentRefs": [{"name": "g", "sectionName": "s"}], "hostnames": ["a.example"]}}}}),
        json!({"scheduling": {"tolerations": [{"operator": "Exists"}, {"key": "k", "value": "v"}]}}),
        json!({"podMetadata": {"labels": {"example.com/a": "b", "c": ""}}}),
        upstream(
            &json!({"url": "http://proxy.example.com:3128", "resolve": "Remote", "credentialsSecretName": "proxy-login"}),
        ),
        upstream(&json!({"url": "https://squid.proxies.svc.cluster.local:443/", "caBundleConfigMapName": "ca"})),
        upstream(&json!({"url": "socks5://[fd00::1]:65535", "cidr": "10.0.0.0/8"})),
        exception(&json!({"host": "web.shop.svc"})),
        exception(&json!({"host": "10.1.2.3"})),
        exception(&json!({"host": "[fd00::1]"})),
        exception(&json!({"cidr": "10.0.0.0/8"})),
    ]
    .into_iter()
    .chain(manifests_tls::taken())
    {
        assert_eq!(causes(&stage, "good", &spec).await, [], "{spec}");
    }
}

#[tokio::test]
async fn the_schemas_defaults_are_those_of_the_code_and_a_new_object_does_not_look_finished() {
    let stage = Stage::new("defaults").await;
    let stored = stage.create("shots", json!({})).await.expect("created");
    assert_eq!(stored.status.expect("status").observed_generation, -1);
    assert_eq!(stored.spec, ScreenshotServiceSpec::default());
    // What stands behind a switch that is off has its defaults as well.
    let spec = json!({"autoscaling": {"maxReplicas": 9}, "monitoring": {"podMonitor": {}},
        "scheduling": {"tolerations": [{"key": "k"}]},
        "network": {"exposure": {"httpRoute": {"parentRefs": [{"name": "g"}], "hostnames": ["a.example"]}}}});
    let stored = stage.create("more", spec.clone()).await.expect("created");
    assert_eq!(stored.spec, serde_json::from_value(spec).expect("spec"));
}

#[tokio::test]
async fn the_examples_are_taken_strictly() {
    let stage = Stage::new("examples").await;
    let resource = kube::api::ApiResource::erase::<ScreenshotService>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
    let params = PatchParams {
        dry_run: true,
        field_manager: Some("test".into()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let mut services = 0;
    for (file, mut document) in examples() {
        if document["kind"] == "ScreenshotService" {
            document["metadata"]["namespace"] = json!(stage.namespace);
            let name = document["metadata"]["name"].as_str().expect("name").to_owned();
            api.patch(&name, &params, &Patch::Apply(&document))
                .await
                .unwrap_or_else(|e| panic!("{file}: {e}"));
            services += 1;
        }
    }
    assert!(services >= 7, "{services} examples found");
}

/// Every document of every example, with the name of its file.
fn examples() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples")).expect("examples");
    let paths = files.map(|file| file.expect("file").path());
    let manifests = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    manifests
        .flat_map(|path| {
            let text = std::fs::read_to_string(&path).expect("text");
            let documents: Vec<_> = text
                .split("\n---\n")
                .map(|document| {
                    let value = serde_saphyr::from_str(document).expect("YAML");
                    (path.display().to_string(), value)
                })
                .collect();
            documents
        })
        .collect()
}
