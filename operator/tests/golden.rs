//! Whole plans, as committed YAML: what a reviewer sees change when the plan changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

#[path = "golden/refusals.rs"]
mod refusals;
#[path = "golden/rules.rs"]
mod rules;
#[path = "golden/shipped.rs"]
mod shipped;
#[path = "golden/upgrade.rs"]
mod upgrade;
#[path = "golden/upstream.rs"]
mod upstream;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use screenshot_api::{ScreenshotService, ScreenshotServiceSpec};
use screenshot_operator::cluster::{ClusterSettings, View};
use screenshot_operator::context::Settings;
use screenshot_operator::netpol::verify::{compare, read};
use screenshot_operator::plan::{Child, Kind, Plan, Surroundings, Targets, plan, secrets};
use screenshot_operator::validate::{Invalid, Validated, identity, validate};
use screenshot_operator::views::DeploymentView;
use screenshot_policy::attest::InternalKey;
use screenshot_policy::cluster::ClusterRanges;
use screenshot_policy::keyset::{Key, KeyState, Keyset, Scope};
use screenshot_policy::token::{Kid, Token};
use serde_json::Value;

use world::{now, operator, settings, targets};

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
    let around = Surroundings {
        targets,
        operator: &operator(),
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
    tls:
      hosts:
      - {host: pay.example.com, spkiPins: ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]}
      - host: intra.example.com
        trust: PinnedKey
        spkiPins: ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
        reason: an authority of our own
        expires: "2026-08-01T00:00:00Z"
"#;

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
        Some("2026-08-01T00:00:00Z".parse().unwrap()),
        "the service changes when the first one ends"
    );
}

#[test]
fn the_plan_of_a_service_behind_an_upstream_proxy() {
    insta::assert_snapshot!(whole(&planned(upstream::UPSTREAM, &targets())));
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
    let (none, served) = (Targets::new(), optional_kinds());
    let around = Surroundings {
        targets: &none,
        operator: &operator(),
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
    let (targets, served) = (targets(), optional_kinds());
    let around = Surroundings {
        targets: &targets,
        operator: &operator(),
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
