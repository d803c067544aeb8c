//! Services behind an upstream proxy.

use super::*;

pub const UPSTREAM: &str = r#"
network:
  egress:
    upstreamProxy:
      url: https://proxy.corp.example.com:3128
      cidr: 10.30.0.0/24
      credentialsSecretName: proxy-login
      caBundleConfigMapName: corp-authorities
    exceptions:
    - {host: web.shop.svc, ports: [80], reason: the shop itself, expires: "2027-01-01T00:00:00Z"}
"#;

/// Where the upstream is a Service that is not there, nothing is opened in its place.
#[test]
fn an_upstream_that_does_not_exist_is_named_and_opens_nothing() {
    let spec = "{network: {egress: {upstreamProxy: {url: 'http://squid.shop.svc:3128'}}}}";
    let plan = planned(spec, &targets());
    assert_eq!(plan.unresolved.iter().collect::<Vec<_>>(), ["squid.shop.svc"]);
    assert!(plan.network_policies.iter().all(|child| child.name != "shots-egress"));
    let found = planned(&spec.replace("squid.shop.svc:3128", "web.shop.svc:80"), &targets());
    assert!(found.unresolved.is_empty());
}

/// The proxy sees the pods of a headless Service themselves, and asks none outside of the range.
#[test]
fn a_headless_upstream_with_a_range_is_its_range_alone() {
    let peers = |cidr: &str| {
        let url = "http://db.shop.svc.cluster.local:9000";
        let spec = format!("{{network: {{egress: {{upstreamProxy: {{url: '{url}'{cidr}}}}}}}}}");
        let plan = planned(&spec, &targets());
        let egress = plan
            .network_policies
            .iter()
            .find(|child| child.name == "shots-egress")
            .unwrap();
        egress.body["spec"]["egress"].to_string()
    };
    let (pods, range) = (peers(""), peers(", cidr: 10.244.1.0/24"));
    assert!(
        pods.contains("podSelector") && !pods.contains("10.244.1.0/24"),
        "{pods}"
    );
    assert!(
        !range.contains("podSelector") && range.contains("10.244.1.0/24"),
        "{range}"
    );
}

/// What is secret is mounted by the server alone, and is in no object that the operator writes.
#[test]
fn only_the_servers_container_mounts_what_the_upstream_is_asked_with() {
    let plan = planned(UPSTREAM, &targets());
    let containers = plan.deployment.body["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    let mounting: Vec<&Value> = containers
        .iter()
        .filter(|container| container["volumeMounts"].to_string().contains("upstream"))
        .map(|container| &container["name"])
        .collect();
    assert_eq!(mounting, ["server"]);
    assert!(!plan.config_map.body.to_string().contains("proxy-login"));
}
