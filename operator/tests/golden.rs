//! Whole plans, as committed YAML: what a reviewer sees change when the plan changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use std::collections::BTreeMap;

use jiff::Timestamp;
use screenshot_api::{ScreenshotService, ScreenshotServiceSpec};
use screenshot_operator::context::Settings;
use screenshot_operator::plan::{Child, OperatorPods, Plan, PortTarget, ServiceTarget, Targets, plan, secrets};
use screenshot_operator::validate::{Invalid, Validated, identity, validate};
use screenshot_policy::attest::InternalKey;
use screenshot_policy::keyset::{Key, KeyState, Keyset};
use screenshot_policy::token::{Kid, Token};
use serde_json::Value;

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn settings() -> Settings {
    Settings {
        capture_image: Some("example.com/capture-server@sha256:0000".into()),
        operator_namespace: "screenshot-operator".into(),
        operator_name: "screenshot-operator".into(),
    }
}

fn service(spec: &str) -> ScreenshotService {
    let spec: ScreenshotServiceSpec = serde_saphyr::from_str(spec).unwrap();
    let mut service = ScreenshotService::new("shots", spec);
    service.metadata.namespace = Some("web".into());
    service.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    service.metadata.generation = Some(3);
    service.metadata.labels = Some(BTreeMap::from([("argocd.argoproj.io/instance".into(), "app".into())]));
    service
}

fn try_validated(spec: &str) -> Result<Validated, Invalid> {
    let service = service(spec);
    validate(identity(&service).unwrap(), &service, &settings())
}

fn planned(spec: &str, targets: &Targets) -> Plan {
    let operator = OperatorPods {
        namespace: "screenshot-operator".into(),
        name: "screenshot-operator".into(),
    };
    plan(&try_validated(spec).unwrap(), targets, &operator, now())
}

fn yaml<'a>(children: impl Iterator<Item = &'a Child>) -> String {
    let documents: Vec<String> = children
        .map(|child| serde_saphyr::to_string(&child.body).unwrap())
        .collect();
    documents.join("---\n")
}

fn whole(plan: &Plan) -> String {
    yaml(plan.before_secrets().chain(plan.after_secrets()))
}

const EXCEPTIONS: &str = r#"
network:
  egress:
    exceptions:
    - {host: web.shop.svc, ports: [80, 8443], reason: the shop itself, expires: "2027-01-01T00:00:00Z"}
    - {host: db.shop.svc.cluster.local, ports: [9000], reason: headless, expires: "2027-01-01T00:00:00Z"}
    - {host: 10.20.30.40, ports: [8080], reason: a printer, expires: "2026-09-01T00:00:00Z"}
    - {host: intra.example.com, ports: [443], cidr: 10.9.0.0/16, reason: intranet, expires: "2027-01-01T00:00:00Z"}
    - {host: old.example.com, ports: [443], cidr: 10.8.0.0/16, reason: over, expires: "2026-01-01T00:00:00Z"}
    - {host: gone.shop.svc, ports: [80], reason: no such Service, expires: "2027-01-01T00:00:00Z"}
"#;

fn targets() -> Targets {
    let selector = |app: &str| BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let web = ServiceTarget {
        selector: selector("web"),
        ports: BTreeMap::from([(80, PortTarget::Number(8080)), (8443, PortTarget::Name("tls".into()))]),
        headless: false,
    };
    let db = ServiceTarget {
        selector: selector("db"),
        ports: BTreeMap::new(),
        headless: true,
    };
    Targets::from([(("shop".into(), "web".into()), web), (("shop".into(), "db".into()), db)])
}

#[test]
fn the_plan_of_a_minimal_service() {
    insta::assert_snapshot!(whole(&planned("{}", &Targets::new())));
}

#[test]
fn the_plan_of_a_service_with_exceptions() {
    let plan = planned(EXCEPTIONS, &targets());
    insta::assert_snapshot!(whole(&plan));
    assert_eq!(plan.unresolved.iter().collect::<Vec<_>>(), ["gone.shop.svc"]);
    assert_eq!(
        plan.changes_at,
        Some("2026-09-01T00:00:00Z".parse().unwrap()),
        "the plan changes when the first one ends"
    );
}

#[test]
fn the_plan_of_a_suspended_service() {
    insta::assert_snapshot!(whole(&planned("{suspend: true, replicas: 5}", &Targets::new())));
}

#[test]
fn the_plan_of_a_degraded_service_with_own_resources() {
    let spec = "{sandbox: {mode: Degraded}, image: 'example.com/own:1', resources: {server: {limits: {cpu: '1', memory: 1Gi}}, browser: {requests: {memory: 512Mi}}}}";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

#[test]
fn a_restart_nonce_changes_the_pod_template_and_nothing_else() {
    let nonce = "/spec/template/metadata/annotations/screenshot-operator.io~1restart-nonce";
    let [without, mut with] = ["{}", "{restartNonce: argocd-3}"].map(|spec| planned(spec, &Targets::new()));
    assert_eq!(without.deployment.body.pointer(nonce), None);
    assert_eq!(with.deployment.body.pointer(nonce), Some(&Value::from("argocd-3")));
    let annotations = "/spec/template/metadata/annotations";
    let body = with.deployment.body.pointer_mut(annotations).unwrap();
    body.as_object_mut()
        .unwrap()
        .remove("screenshot-operator.io/restart-nonce");
    assert_eq!(with, without);
}

#[test]
fn the_shape_of_the_secrets() {
    let identity = try_validated("{}").unwrap().identity;
    let kid = Kid::from_bytes([1; 5]);
    let token = Token::generate(&kid, [2; 32]);
    let key = Key {
        kid,
        client: "default".into(),
        digest: token.digest_hex(),
        state: KeyState::Active,
        not_before: None,
        retire_after: None,
    };
    let keyset = Keyset {
        version: 1,
        revision: 1,
        keys: vec![key],
    };
    let children = [
        secrets::internal(&identity, &InternalKey::from_bytes([3; 32])),
        secrets::keyset(&identity, &keyset),
        secrets::pending(&identity, &token, now(), Some("again")),
        secrets::client(&identity, &token, now(), None),
    ];
    insta::assert_snapshot!(yaml(children.iter()));
    assert!(
        !format!("{children:?}").contains("data"),
        "Debug of a child shows its body"
    );
}

#[test]
fn labels_of_the_resource_are_never_copied_and_every_child_is_owned() {
    let plan = planned("{}", &Targets::new());
    for child in plan.before_secrets().chain(plan.after_secrets()) {
        assert!(!child.body.to_string().contains("argocd"), "{child:?}");
        assert_eq!(
            child.body["metadata"]["ownerReferences"][0]["controller"], true,
            "{child:?}"
        );
    }
}

#[test]
fn network_rules_come_before_everything_that_can_start_a_pod() {
    let plan = planned("{}", &Targets::new());
    let kinds: Vec<_> = plan.before_secrets().map(|child| child.kind.name()).collect();
    assert_eq!(
        kinds,
        [
            "ServiceAccount",
            "NetworkPolicy",
            "NetworkPolicy",
            "NetworkPolicy",
            "ConfigMap"
        ]
    );
    assert!(
        plan.after_secrets()
            .last()
            .is_some_and(|child| child.kind.name() == "Deployment")
    );
}

/// Pod Security `restricted`, as its rules are written: red when any of the fields is taken away.
#[test]
fn every_container_is_restricted() {
    for spec in ["{}", "{sandbox: {mode: Degraded}}"] {
        let plan = planned(spec, &Targets::new());
        let pod = &plan.deployment.body["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[host], Value::Null);
        }
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}));
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert!(["RuntimeDefault", "Localhost"].contains(&security["seccompProfile"]["type"].as_str().unwrap()));
        }
    }
}

#[test]
fn the_browser_container_mounts_nothing_worth_stealing() {
    let plan = planned("{}", &Targets::new());
    let browser = &plan.deployment.body["spec"]["template"]["spec"]["containers"][1];
    assert_eq!(browser["name"], "browser");
    let mounts: Vec<_> = browser["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["name"].as_str().unwrap())
        .collect();
    assert_eq!(mounts, ["jail", "browser-tmp"]);
    assert_eq!(browser["env"], Value::Null);
}

#[test]
fn the_policy_of_the_config_map_has_the_digest_of_the_template() {
    let plan = planned(EXCEPTIONS, &targets());
    let text = plan.config_map.body["data"]["policy.json"].as_str().unwrap();
    let template = &plan.deployment.body["spec"]["template"];
    let digest = template["metadata"]["annotations"]["screenshot-operator.io/policy-digest"]
        .as_str()
        .unwrap();
    assert!(screenshot_policy::policy::EffectivePolicy::load_expecting(text.as_bytes(), digest).is_ok());
}

#[test]
fn what_the_schema_cannot_see_is_refused_with_the_field_and_the_rule() {
    let metadata = r#"{network: {egress: {exceptions: [{host: 169.254.169.254, ports: [80], reason: r, expires: "2027-01-01T00:00:00Z"}]}}}"#;
    let error = try_validated(metadata).unwrap_err();
    assert_eq!(error.reason(), "InvalidPolicy");
    assert!(
        error
            .to_string()
            .starts_with("spec.network.egress: egress exception 0:"),
        "{error}"
    );
    let service = service("{}");
    let none = Settings {
        capture_image: None,
        ..settings()
    };
    assert_eq!(
        validate(identity(&service).unwrap(), &service, &none).unwrap_err(),
        Invalid::NoImage
    );
}
