//! Whole plans, as committed YAML: what a reviewer sees change when the plan changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use screenshot_api::{ScreenshotService, ScreenshotServiceSpec};
use screenshot_operator::cluster::{ClusterSettings, View};
use screenshot_operator::context::Settings;
use screenshot_operator::netpol::verify::{compare, read};
use screenshot_operator::plan::{
    Child, Kind, OperatorPods, Plan, PortTarget, ServiceTarget, Surroundings, Targets, plan, secrets,
};
use screenshot_operator::validate::{Invalid, Validated, identity, validate};
use screenshot_operator::views::DeploymentView;
use screenshot_policy::attest::InternalKey;
use screenshot_policy::cluster::ClusterRanges;
use screenshot_policy::keyset::{Key, KeyState, Keyset, Scope};
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
        cluster: ClusterSettings::default(),
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

/// Where nothing is missing and nothing exists yet.
fn planned(spec: &str, targets: &Targets) -> Plan {
    planned_where(spec, targets, &optional_kinds(), None)
}

fn planned_where(spec: &str, targets: &Targets, served: &BTreeSet<Kind>, live: Option<&DeploymentView>) -> Plan {
    let operator = OperatorPods {
        namespace: "screenshot-operator".into(),
        name: "screenshot-operator".into(),
    };
    let around = Surroundings {
        targets,
        operator: &operator,
        served,
        deployment: live,
    };
    plan(&try_validated(spec).unwrap(), &around, now())
}

fn optional_kinds() -> BTreeSet<Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.optional()).collect()
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
    let spec = "{sandbox: {mode: Degraded, isolation: PerCapture}, network: {egress: {enforcement: Advisory}}, image: 'example.com/own:1', resources: {server: {limits: {cpu: '1', memory: 1Gi}}, browser: {requests: {memory: 512Mi}}}}";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

const LISTED: &str = r#"
network:
  egress:
    ports: [443]
    domains:
      allow: ["*.example.com", example.com, example.net]
      deny: [ads.example.com]
    cidrs:
      allow: [93.184.0.0/16, 8.0.0.0/7, "2606:2800::/32"]
      deny: [8.8.8.0/24, "2606:2800:1::/48"]
    exceptions:
    - {host: web.shop.svc, ports: [80], reason: the shop itself, expires: "2027-01-01T00:00:00Z"}
    - {host: ads.example.com, ports: [443], cidr: 10.8.0.0/16, reason: denied all the same, expires: "2027-01-01T00:00:00Z"}
    - {host: intra.example.com, ports: [443], cidr: 10.9.0.0/16, reason: intranet, expires: "2027-01-01T00:00:00Z"}
"#;

#[test]
fn the_plan_of_a_service_with_lists() {
    insta::assert_snapshot!(whole(&planned(LISTED, &targets())));
}

/// What the cluster has of its own goes into the public rule and beside the policy, and leaves the pods alone.
#[test]
fn the_clusters_own_ranges_are_closed_without_touching_the_pods() {
    let ranges = ClusterRanges::closing(["20.1.2.3/32".parse().unwrap(), "10.0.0.7/32".parse().unwrap()]);
    let view = View {
        ranges: ranges.clone(),
        ..View::default()
    };
    let operator = OperatorPods {
        namespace: "screenshot-operator".into(),
        name: "screenshot-operator".into(),
    };
    let (none, served) = (Targets::new(), optional_kinds());
    let around = Surroundings {
        targets: &none,
        operator: &operator,
        served: &served,
        deployment: None,
    };
    let before = plan(&try_validated("{}").unwrap(), &around, now());
    let after = plan(&try_validated("{}").unwrap().in_cluster(view), &around, now());
    assert_eq!(after.deployment, before.deployment);
    assert_eq!(before.config_map.body["data"]["cluster-ranges.json"], Value::Null);
    assert_eq!(
        after.config_map.body["data"]["cluster-ranges.json"],
        r#"{"version":1,"cidrs":["20.1.2.3/32"]}"#
    );
    assert_eq!(
        after.config_map.body["data"]["policy.json"],
        before.config_map.body["data"]["policy.json"]
    );
    let egress = |plan: &Plan| yaml(plan.network_policies.iter());
    assert!(egress(&after).contains("- 20.1.2.3/32") && !egress(&before).contains("20.1.2.3"));
    assert!(!egress(&after).contains("10.0.0.7"), "closed as it is");
    // Offline it is read back, and the two halves agree.
    let (network, subjects) = read(&whole(&after)).unwrap();
    let [subject] = subjects.as_slice() else {
        panic!("one service")
    };
    assert_eq!(*subject.policy.cluster_ranges(), ranges);
    assert_eq!(
        compare(&subject.policy, &network, &subject.pod, now()).disagreements,
        []
    );
    let forgetful = whole(&after).replace("        - 20.1.2.3/32\n", "");
    let (network, subjects) = read(&forgetful).unwrap();
    let found = compare(&subjects[0].policy, &network, &subjects[0].pod, now());
    assert!(found.disagreements.iter().any(|differ| {
        differ
            .to_string()
            .contains("20.1.2.3:80: the proxy refuses (cluster_address)")
    }));
}

/// What an administrator says of the cluster is part of the policy.
#[test]
fn the_clusters_domain_prefixes_and_denied_ranges_are_in_every_policy() {
    let told = ClusterSettings {
        domain: "k8s.example.org".parse().unwrap(),
        nat64_prefixes: vec!["64:ff9b::/96".parse().unwrap()],
        denied: vec!["20.5.0.0/16".parse().unwrap()],
    };
    let service = service(
        r#"{network: {egress: {exceptions: [{host: web.shop.svc.k8s.example.org, ports: [80], reason: r, expires: "2027-01-01T00:00:00Z"}]}}}"#,
    );
    let settings = Settings {
        cluster: told,
        ..settings()
    };
    let wanted = validate(identity(&service).unwrap(), &service, &settings).unwrap();
    let rules = wanted.policy.egress();
    assert_eq!(rules.cluster.domain.to_string(), "k8s.example.org");
    assert_ne!(wanted.policy.digest(), try_validated("{}").unwrap().policy.digest());
    let operator = OperatorPods {
        namespace: "screenshot-operator".into(),
        name: "screenshot-operator".into(),
    };
    let (targets, served) = (targets(), optional_kinds());
    let around = Surroundings {
        targets: &targets,
        operator: &operator,
        served: &served,
        deployment: None,
    };
    let plan = plan(&wanted, &around, now());
    assert!(
        plan.unresolved.is_empty(),
        "the Service is found by the cluster's own domain"
    );
    let text = whole(&plan);
    for part in [
        "- 20.5.0.0/16",
        "64:ff9b::/96",
        "64:ff9b::a00:0/104",
        "64:ff9b::1405:0/112",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

const AUTOSCALED: &str = r"
autoscaling: {minReplicas: 3, maxReplicas: 12, targetCPUUtilizationPercentage: 70, scaleDownStabilizationSeconds: 600}
network:
  ingress:
    from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]
  exposure:
    ingress:
      className: nginx
      host: shots.example.com
      tlsSecretName: shots-tls
      annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: '60'}
";

#[test]
fn the_plan_of_an_autoscaled_service_behind_an_ingress() {
    insta::assert_snapshot!(whole(&planned(AUTOSCALED, &Targets::new())));
}

#[test]
fn the_plan_of_a_service_behind_a_gateway() {
    let spec = r"
network:
  exposure:
    httpRoute:
      parentRefs: [{name: public, namespace: gateways, sectionName: https}]
      hostnames: [shots.example.com, pictures.example.com]
";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

const MONITORED: &str = r"
monitoring:
  podMonitor: {enabled: true, intervalSeconds: 15, labels: {release: prometheus}}
  prometheusRule: {enabled: true, labels: {release: prometheus}}
  dashboard: {enabled: true, labels: {folder: screenshots}}
";

#[test]
fn the_plan_of_a_monitored_service() {
    insta::assert_snapshot!(whole(&planned(MONITORED, &Targets::new())));
}

#[test]
fn the_plan_of_a_service_that_is_picky_about_nodes() {
    let spec = r"
scheduling:
  nodeSelector: {pool: browsers}
  tolerations:
  - {key: browsers, value: 'yes', effect: NoSchedule}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  priorityClassName: captures
  topologySpread: Required
";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

#[test]
fn the_plan_of_a_service_with_its_own_sandbox() {
    let spec = "{sandbox: {seccompProfile: own/profile.json, hostUsers: false, runtimeClassName: gvisor}, scheduling: {topologySpread: Disabled}}";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

#[test]
fn the_plan_of_a_service_with_named_clients() {
    let spec = r"
network:
  ingress:
    from:
    - {podSelector: {matchLabels: {app: shop}}}
    - {namespaceSelector: {matchLabels: {team: web}}, podSelector: {matchLabels: {app: mailer}}}
    cidrs: [10.20.0.0/16, 'fd00:20::/32']
  egress: {ports: [443]}
monitoring: {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

#[test]
fn the_plan_of_a_service_that_nobody_reaches_and_that_reaches_nothing() {
    let spec = "{network: {ingress: {from: []}, egress: {ports: []}}}";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

#[test]
fn the_plan_of_a_service_with_its_own_metadata_and_registry() {
    let spec = r"
image: registry.example.com/capture-server@sha256:1111
imagePullPolicy: Always
imagePullSecrets: [{name: registry}]
podMetadata: {labels: {team: web, app.kubernetes.io/name: mine}, annotations: {example.com/restarted: 'monday'}}
objectMetadata: {labels: {team: web}, annotations: {example.com/owner: web}}
";
    insta::assert_snapshot!(whole(&planned(spec, &Targets::new())));
}

#[test]
fn the_plan_of_a_service_that_asks_for_kinds_which_the_cluster_lacks() {
    let spec = format!(
        "{MONITORED}\nnetwork: {{exposure: {{httpRoute: {{parentRefs: [{{name: public}}], hostnames: [shots.example.com], scheme: HTTP}}}}}}"
    );
    let plan = planned_where(&spec, &Targets::new(), &BTreeSet::new(), None);
    assert_eq!(plan.unserved, optional_kinds());
    insta::assert_snapshot!(whole(&plan));
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
        scopes: Scope::ALL.into(),
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
        secrets::internal(&identity, &InternalKey::from_bytes([3; 32]), None, now()),
        secrets::internal(
            &identity,
            &InternalKey::from_bytes([3; 32]),
            Some(&InternalKey::from_bytes([4; 32])),
            now(),
        ),
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
    let spec = format!("{AUTOSCALED}{MONITORED}");
    let plan = planned(&spec, &Targets::new());
    let kinds = |children: Vec<&Child>| children.iter().map(|child| child.kind.name()).collect::<Vec<_>>();
    let mut before = vec!["ServiceAccount"];
    before.extend(["NetworkPolicy"; 6]);
    before.push("ConfigMap");
    assert_eq!(kinds(plan.before_secrets().collect()), before);
    assert_eq!(
        kinds(plan.after_secrets().collect()),
        [
            "Service",
            "PodDisruptionBudget",
            "Deployment",
            "HorizontalPodAutoscaler",
            "Ingress",
            "PodMonitor",
            "PrometheusRule",
            "ConfigMap"
        ]
    );
}

fn template(spec: &str) -> Value {
    planned(spec, &Targets::new()).deployment.body["spec"]["template"].clone()
}

#[test]
fn pods_are_replaced_only_by_what_is_part_of_a_pod() {
    let before = template("{}");
    for same in [
        "{replicas: 7}",
        "{suspend: true}",
        "{objectMetadata: {labels: {a: b}, annotations: {c: d}}}",
        "{auth: {clientName: other, rotation: {periodDays: 3, nonce: x}}}",
        "{network: {ingress: {cidrs: [10.0.0.0/8]}}}",
        AUTOSCALED,
        MONITORED,
    ] {
        assert_eq!(template(same), before, "{same}");
    }
    for other in [
        "{image: 'other:1'}",
        "{imagePullPolicy: Always}",
        "{podMetadata: {annotations: {c: d}}}",
        "{network: {egress: {ports: [443]}}}",
        "{network: {egress: {domains: {deny: [example.com]}}}}",
        "{network: {egress: {cidrs: {allow: [8.0.0.0/8]}}}}",
        "{sandbox: {mode: Degraded}}",
        "{resources: {server: {limits: {cpu: '1'}}}}",
        "{scheduling: {priorityClassName: p}}",
    ] {
        assert_ne!(template(other), before, "{other}");
    }
}

/// The number of pods is the operator's until an autoscaler has written it; dropping it sooner would reset it to one.
#[test]
fn turning_autoscaling_on_never_drops_the_number_of_pods_before_the_autoscaler_owns_it() {
    let held = |held_replicas: Option<i32>| DeploymentView {
        held_replicas,
        ..DeploymentView::default()
    };
    for (live, expected) in [
        (None, Value::from(3)),
        (Some(held(Some(5))), Value::from(5)),
        (Some(held(Some(0))), Value::from(3)),
        (Some(held(Some(50))), Value::from(12)),
        (Some(held(None)), Value::Null),
    ] {
        let plan = planned_where(AUTOSCALED, &Targets::new(), &optional_kinds(), live.as_ref());
        assert_eq!(plan.deployment.body["spec"]["replicas"], expected, "{live:?}");
    }
    let fixed = planned_where("{}", &Targets::new(), &optional_kinds(), Some(&held(None)));
    assert_eq!(fixed.deployment.body["spec"]["replicas"], 2);
}

#[test]
fn a_rule_without_peers_or_ports_is_never_written_as_it_would_open_everything() {
    for spec in [
        "{}",
        AUTOSCALED,
        MONITORED,
        EXCEPTIONS,
        LISTED,
        "{network: {egress: {cidrs: {allow: [8.8.8.0/24], deny: [8.0.0.0/8]}}}}",
        "{network: {ingress: {from: []}, egress: {ports: []}}}",
    ] {
        for child in planned(spec, &targets()).network_policies {
            let spec = &child.body["spec"];
            assert_eq!(
                spec["podSelector"]["matchLabels"]["app.kubernetes.io/instance"], "shots",
                "{child:?}"
            );
            for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
                for rule in spec[rules].as_array().into_iter().flatten() {
                    for list in [peers, "ports"] {
                        assert!(rule[list].as_array().is_some_and(|l| !l.is_empty()), "{child:?} {rule}");
                    }
                }
            }
        }
    }
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
    for (spec, reason, message) in [
        (
            r"{network: {ingress: {cidrs: ['10.0.0.0/8', '::ffff:10.0.0.0/104']}}}",
            "InvalidRange",
            "spec.network.ingress.cidrs[1]: must be an IPv4 or IPv6 range; an IPv4 range must not be written as IPv6",
        ),
        (
            "{network: {egress: {domains: {allow: [example.com, 1.2.3.4]}}}}",
            "InvalidEntry",
            "spec.network.egress.domains.allow[1]: an IPv4 host must be written as four decimal numbers",
        ),
        (
            "{network: {egress: {domains: {deny: ['a.*.com']}}}}",
            "InvalidEntry",
            "spec.network.egress.domains.deny[0]: host must consist of letters, digits, '-', '_' and '.'",
        ),
        (
            "{network: {egress: {cidrs: {deny: [8.8.8.8/32, 8.8.8.8/24]}}}}",
            "InvalidEntry",
            "spec.network.egress.cidrs.deny[1]: a range must have no bits set beyond its length",
        ),
        (
            "{network: {egress: {cidrs: {allow: ['::ffff:8.0.0.0/104']}}}}",
            "InvalidEntry",
            "spec.network.egress.cidrs.allow[0]: a range must not be IPv4-mapped: write the IPv4 range",
        ),
        (
            "{network: {egress: {domains: {allow: [example.com, '*.svc']}}}}",
            "InvalidEntry",
            "spec.network.egress.domains.allow[1]: `*.svc` is no public name; an allow list only narrows what is public, anything else needs an entry in `exceptions`",
        ),
        (
            "{network: {egress: {cidrs: {allow: [8.0.0.0/8, 10.0.0.0/8]}}}}",
            "InvalidEntry",
            "spec.network.egress.cidrs.allow[1]: 10.0.0.0/8 holds no public address; an allow list only narrows what is public, anything else needs an entry in `exceptions`",
        ),
        (
            "{podMetadata: {labels: {'not a key': x}}}",
            "InvalidKey",
            "spec.podMetadata.labels: a key must end in 1 to 63 letters, digits, '-', '_' or '.', the first and last a letter or digit",
        ),
    ] {
        let error = try_validated(spec).unwrap_err();
        assert_eq!((error.reason(), error.to_string().as_str()), (reason, message));
    }
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

/// Names that a crate registers, as they stand in an answer to a scrape: `prefix_name` without a type's suffix.
fn registered(prefix: &str, directory: &str) -> BTreeSet<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut names = BTreeSet::new();
    let mut open = vec![root];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for call in text.split(".register(").skip(1) {
                let name = call.split('"').nth(1).unwrap_or_default();
                names.insert(format!("{prefix}_{name}"));
            }
        }
    }
    names
}

#[test]
fn alerts_and_dashboard_read_only_metrics_that_are_exported() {
    let mut exported = registered("screenshot_server", "../capture-server/src");
    exported.extend(registered("screenshot_operator", "src"));
    assert!(exported.contains("screenshot_server_ready"), "{exported:?}");
    let plan = planned(MONITORED, &Targets::new());
    let text = [plan.prometheus_rule, plan.dashboard]
        .into_iter()
        .flatten()
        .map(|child| child.body.to_string())
        .collect::<String>();
    let mut read = BTreeSet::new();
    for (start, _) in text.match_indices("screenshot_") {
        let name: String = text[start..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        let base = ["_total", "_bucket"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        read.insert(base.unwrap_or(&name).to_owned());
    }
    assert!(read.len() >= 8, "{read:?}");
    let unknown: Vec<_> = read.difference(&exported).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The words of the alerts are those that the capture server counts captures by.
#[test]
fn alerts_name_only_outcomes_that_captures_have() {
    let sources = ["capture/verdict.rs", "limits/queue.rs", "http/problem.rs"].map(|file| {
        let path = format!("{}/../capture-server/src/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    });
    let rule = planned(MONITORED, &Targets::new())
        .prometheus_rule
        .unwrap()
        .body
        .to_string();
    let mut words = 0;
    for list in rule.split("reason=~\\\"").skip(1) {
        for word in list.split("\\\"").next().unwrap().split('|') {
            let quoted = format!("\"{word}\"");
            assert!(sources.iter().any(|source| source.contains(&quoted)), "{word}");
            words += 1;
        }
    }
    assert_eq!(words, 8, "{rule}");
}

/// Every example is a service that the operator can plan, and holds no field that it does not know.
#[test]
fn every_example_is_planned() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut planned_services = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n") {
            let value: Value = serde_saphyr::from_str(document).unwrap();
            if value["kind"] != "ScreenshotService" {
                continue;
            }
            let spec: ScreenshotServiceSpec = serde_json::from_value(value["spec"].clone()).unwrap();
            let known = serde_json::to_value(&spec).unwrap();
            assert!(
                within(&value["spec"], &known),
                "{}: {} is not {known}",
                path.display(),
                value["spec"]
            );
            planned(&serde_json::to_string(&spec).unwrap(), &Targets::new());
            planned_services += 1;
        }
    }
    assert!(planned_services >= 7, "{planned_services}");
}

/// Whether everything that `part` says stands in `whole` as well.
fn within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|other| within(value, other))),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(value, other)| within(value, other))
        }
        (part, whole) => part == whole,
    }
}
