//! The API's rules one by one. `tests/netpol_engine.rs` holds the same connections against a real engine.

use serde_json::json;

use super::*;

fn network(policies: serde_json::Value) -> Network {
    let name = |name: &str| {
        let labels = Labels::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        (name.to_owned(), labels)
    };
    Network {
        policies: serde_json::from_value(policies).unwrap(),
        namespaces: ["a", "b"].map(name).into(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "literals read better without a borrow")]
fn policy(spec: serde_json::Value) -> serde_json::Value {
    json!([{"metadata": {"namespace": "a", "name": "p"}, "spec": spec}])
}

fn pod(namespace: &str, app: &str, ip: &str) -> Pod {
    Pod {
        namespace: namespace.into(),
        labels: Labels::from([("app".to_owned(), app.to_owned())]),
        ip: ip.parse().unwrap(),
        ports: vec![("web".into(), Protocol::Tcp, 8080), ("dns".into(), Protocol::Udp, 53)],
    }
}

fn outside(ip: &str) -> Endpoint<'static> {
    Endpoint::Outside(ip.parse().unwrap())
}

/// From the pod `a/shot` under one policy with this spec.
fn leaves(spec: serde_json::Value, to: Endpoint<'_>, protocol: Protocol, port: u16) -> bool {
    let shot = pod("a", "shot", "10.1.0.1");
    network(policy(spec)).allows(Endpoint::Pod(&shot), to, protocol, port)
}

#[test]
fn a_pod_that_no_policy_selects_is_open() {
    let other = json!({"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Egress"]});
    assert!(leaves(other, outside("1.1.1.1"), Protocol::Udp, 9));
}

#[test]
fn a_policy_of_another_namespace_is_not_about_the_pod() {
    let shot = pod("b", "shot", "10.1.0.1");
    let deny = network(policy(json!({"podSelector": {}, "policyTypes": ["Egress"]})));
    assert!(deny.allows(Endpoint::Pod(&shot), outside("1.1.1.1"), Protocol::Tcp, 80));
}

#[test]
fn a_selected_pod_is_closed_in_the_directions_that_the_policy_names_or_implies() {
    let shot = pod("a", "shot", "10.1.0.1");
    for (spec, out, into) in [
        (json!({"podSelector": {}, "policyTypes": ["Egress"]}), false, true),
        (json!({"podSelector": {}, "policyTypes": ["Ingress"]}), true, false),
        (
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            false,
            false,
        ),
        (json!({"podSelector": {}}), true, false),
        (json!({"podSelector": {}, "egress": []}), false, false),
        (json!({"podSelector": {}, "egress": [{}]}), true, false),
    ] {
        let network = network(policy(spec.clone()));
        let far = outside("1.1.1.1");
        assert_eq!(
            network.allows(Endpoint::Pod(&shot), far, Protocol::Tcp, 80),
            out,
            "{spec}"
        );
        assert_eq!(
            network.allows(far, Endpoint::Pod(&shot), Protocol::Tcp, 80),
            into,
            "{spec}"
        );
    }
}

#[test]
fn policies_add_up_and_a_pod_always_reaches_itself() {
    let shot = pod("a", "shot", "10.1.0.1");
    let mut both = network(policy(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})));
    assert!(both.allows(Endpoint::Pod(&shot), Endpoint::Pod(&shot), Protocol::Tcp, 80));
    let open =
        json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "1.0.0.0/8"}}]}], "policyTypes": ["Egress"]});
    both.policies.extend(network(policy(open)).policies);
    assert!(both.allows(Endpoint::Pod(&shot), outside("1.1.1.1"), Protocol::Tcp, 80));
    assert!(!both.allows(Endpoint::Pod(&shot), outside("2.1.1.1"), Protocol::Tcp, 80));
}

#[test]
fn a_block_opens_its_range_less_the_excepts_for_pods_too() {
    let spec = || {
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16"]}}, {"ipBlock": {"cidr": "2000::/3"}}]
        }]})
    };
    for (ip, open) in [
        ("10.0.0.0", true),
        ("10.1.255.255", true),
        ("10.2.0.0", false),
        ("10.2.255.255", false),
        ("10.3.0.0", true),
        ("11.0.0.0", false),
        ("2606::1", true),
        ("fd00::1", false),
    ] {
        assert_eq!(leaves(spec(), outside(ip), Protocol::Tcp, 1), open, "{ip}");
    }
    let (near, excepted) = (pod("b", "web", "10.3.0.1"), pod("b", "web", "10.2.0.1"));
    assert!(leaves(spec(), Endpoint::Pod(&near), Protocol::Tcp, 1));
    assert!(!leaves(spec(), Endpoint::Pod(&excepted), Protocol::Tcp, 1));
}

#[test]
fn a_block_that_cannot_be_read_opens_nothing() {
    for block in [
        json!({"cidr": "10.0.0.0"}),
        json!({"cidr": "10.0.0.0/8", "except": ["10.2.0.0"]}),
    ] {
        let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": block}]}]});
        assert!(!leaves(spec, outside("10.0.0.1"), Protocol::Tcp, 1));
    }
}

#[test]
fn selectors_in_one_peer_must_both_hold_and_peers_are_alternatives() {
    let name = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    let spec = |to: serde_json::Value| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": to}]});
    let both = || spec(json!([{"namespaceSelector": name("b"), "podSelector": app("web")}]));
    let either = || spec(json!([{"namespaceSelector": name("b")}, {"podSelector": app("web")}]));
    let here = || spec(json!([{"podSelector": app("web")}]));
    for (namespace, label, expected) in [
        ("b", "web", [true, true, false]),
        ("b", "db", [false, true, false]),
        ("a", "web", [false, true, true]),
        ("a", "db", [false, false, false]),
    ] {
        let far = pod(namespace, label, "10.9.0.1");
        let got = [both(), either(), here()].map(|spec| leaves(spec, Endpoint::Pod(&far), Protocol::Tcp, 1));
        assert_eq!(got, expected, "{namespace}/{label}");
    }
    assert!(
        !leaves(either(), outside("10.9.0.1"), Protocol::Tcp, 1),
        "no selector holds the outside"
    );
}

#[test]
fn ports_are_numbers_ranges_or_names_of_the_target_for_one_protocol() {
    let spec =
        |ports: serde_json::Value| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": ports}]});
    let web = pod("b", "web", "10.9.0.1");
    for (ports, protocol, port, open) in [
        (json!([]), Protocol::Udp, 9, true),
        (json!([{"port": 80}]), Protocol::Tcp, 80, true),
        (json!([{"port": 80}]), Protocol::Tcp, 81, false),
        (json!([{"port": 80}]), Protocol::Udp, 80, false),
        (json!([{"port": 53, "protocol": "UDP"}]), Protocol::Udp, 53, true),
        (json!([{"protocol": "UDP"}]), Protocol::Udp, 9, true),
        (json!([{"protocol": "UDP"}]), Protocol::Tcp, 9, false),
        (json!([{"port": 80, "endPort": 90}]), Protocol::Tcp, 90, true),
        (json!([{"port": 80, "endPort": 90}]), Protocol::Tcp, 91, false),
        (json!([{"port": "web"}]), Protocol::Tcp, 8080, true),
        (json!([{"port": "web"}]), Protocol::Tcp, 80, false),
        (json!([{"port": "dns"}]), Protocol::Tcp, 53, false),
        (json!([{"port": "none"}]), Protocol::Tcp, 8080, false),
    ] {
        let got = leaves(spec(ports.clone()), Endpoint::Pod(&web), protocol, port);
        assert_eq!(got, open, "{ports} {protocol:?} {port}");
    }
    assert!(!leaves(
        spec(json!([{"port": "web"}])),
        outside("10.9.0.1"),
        Protocol::Tcp,
        8080
    ));
}

#[test]
fn a_connection_between_pods_needs_both_ends() {
    let (shot, web) = (pod("a", "shot", "10.1.0.1"), pod("a", "web", "10.1.0.2"));
    let egress = json!({"metadata": {"namespace": "a", "name": "e"}, "spec": {
        "podSelector": {"matchLabels": {"app": "shot"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]
    }});
    let ingress = |from: &str| {
        json!({"metadata": {"namespace": "a", "name": "i"}, "spec": {
            "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": from}}}]}]
        }})
    };
    for (from, open) in [("shot", true), ("other", false)] {
        let network = network(json!([egress, ingress(from)]));
        assert_eq!(
            network.allows(Endpoint::Pod(&shot), Endpoint::Pod(&web), Protocol::Tcp, 80),
            open
        );
    }
}

#[test]
fn expressions_select_as_the_api_says() {
    let expression = |operator: &str, values: serde_json::Value| json!({"matchExpressions": [{"key": "app", "operator": operator, "values": values}]});
    let with = Labels::from([("app".to_owned(), "web".to_owned())]);
    let without = Labels::new();
    for (operator, values, has, has_not) in [
        ("In", json!(["web", "db"]), true, false),
        ("In", json!(["db"]), false, false),
        ("NotIn", json!(["db"]), true, true),
        ("NotIn", json!(["web"]), false, true),
        ("Exists", json!([]), true, false),
        ("DoesNotExist", json!([]), false, true),
        ("Near", json!([]), false, false),
    ] {
        let selector: LabelSelector = serde_json::from_value(expression(operator, values.clone())).unwrap();
        assert_eq!(
            (selects(&selector, &with), selects(&selector, &without)),
            (has, has_not),
            "{operator} {values}"
        );
    }
}
