//! One policy, two enforcers: what the proxy lets through and what the planned NetworkPolicies let through.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

#[path = "equivalence/hosts.rs"]
mod hosts;
#[path = "equivalence/upstream.rs"]
mod upstream;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use screenshot_api::{EgressExceptionSpec, ScreenshotService, ScreenshotServiceSpec};
use screenshot_operator::netpol::verify::{Proxy, compare, one, read};
use screenshot_operator::netpol::{Endpoint, Network, Pod, Protocol};
use screenshot_operator::plan::{Kind, Plan, Surroundings, Targets, plan};
use screenshot_operator::validate::{Validated, identity, validate};
use screenshot_policy::egress::EgressException;
use screenshot_policy::host::{Host, HostName};
use screenshot_policy::policy::{Ceiling, EffectivePolicy, EgressRules, PolicyDocument};
use screenshot_policy::unit::Port;

use world::{now, operator, settings, targets};

fn policy(change: impl FnOnce(&mut EgressRules)) -> EffectivePolicy {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    change(&mut document.egress);
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

fn validated(policy: &EffectivePolicy) -> Validated {
    let mut wanted = validated_as(ScreenshotServiceSpec::default());
    wanted.policy = policy.clone();
    wanted
}

fn validated_as(spec: ScreenshotServiceSpec) -> Validated {
    let mut service = ScreenshotService::new("shots", spec);
    service.metadata.namespace = Some("web".into());
    service.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    validate(identity(&service).unwrap(), &service, &settings()).unwrap()
}

fn plan_of(wanted: &Validated, targets: &Targets) -> Plan {
    let around = Surroundings {
        targets,
        operator: &operator(),
        served: &BTreeSet::new(),
        deployment: None,
    };
    plan(wanted, &around, now())
}

/// The NetworkPolicies that the operator plans for the policy, and a pod of the service.
fn planned(policy: &EffectivePolicy) -> (Network, Pod) {
    planned_for(&validated(policy))
}

fn planned_for(wanted: &Validated) -> (Network, Pod) {
    let plan = plan_of(wanted, &targets());
    let policies = plan.before_secrets().filter(|child| child.kind == Kind::NetworkPolicy);
    let policies = policies
        .map(|child| serde_json::from_value(child.body.clone()).unwrap())
        .collect();
    let namespaces = ["web", "shop", "kube-system"].map(|name| {
        let labels = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        (name.to_owned(), labels)
    });
    let network = Network {
        policies,
        namespaces: namespaces.into(),
    };
    let selector = wanted.identity.names.selector();
    let pod = Pod {
        namespace: "web".into(),
        labels: selector
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ip: "10.244.0.5".parse().unwrap(),
        ports: vec![],
    };
    (network, pod)
}

fn shop(app: &str, ip: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        ip: ip.parse().unwrap(),
        ports: vec![("tls".into(), Protocol::Tcp, 9443)],
    }
}

fn exception(host: &str, ports: &[u64], cidr: Option<&str>, expires: &str) -> EgressException {
    EgressException {
        host: host.parse().unwrap(),
        ports: ports.iter().map(|port| Port::try_from(*port).unwrap()).collect(),
        cidr: cidr.map(|text| text.parse().unwrap()),
        reason: "a test".parse().unwrap(),
        expires: expires.parse().unwrap(),
    }
}

const LATER: &str = "2027-01-01T00:00:00Z";

fn some_exceptions() -> impl Strategy<Value = Vec<EgressException>> {
    let all = vec![
        exception("web.shop.svc", &[80, 8443], None, LATER),
        exception("web.shop.svc.cluster.local", &[8443], None, LATER),
        exception("db.shop.svc", &[9000], None, LATER),
        exception("db.shop.svc.cluster.local", &[9000], Some("10.244.1.0/24"), LATER),
        exception("10.20.30.40", &[8080], None, LATER),
        exception("[fd12::40]", &[8080, 443], None, LATER),
        exception("[::ffff:10.20.30.43]", &[8080], None, LATER),
        // 10.20.30.40 and 10.0.0.0/8 where there is such a prefix, and all that is around it.
        exception("[fd64:ff9b::a14:1e28]", &[80], None, LATER),
        exception(
            "translated.example.com",
            &[443, 9000],
            Some("fd64:ff9b::a00:0/104"),
            LATER,
        ),
        exception("around.example.com", &[2222], Some("fd64::/16"), LATER),
        exception("intra.example.com", &[443, 9000], Some("10.9.0.0/16"), LATER),
        exception("10.20.30.41", &[6443], Some("10.0.0.0/8"), LATER),
        exception("10.20.30.42", &[6443], Some("192.168.0.0/16"), LATER),
        exception("intra.example.com", &[443], Some("10.64.0.0/16"), LATER),
        exception("lab.example.com", &[80], Some("198.18.0.0/15"), LATER),
        exception("paper.example.com", &[80], Some("192.0.2.0/24"), LATER),
        exception("wide.example.com", &[2222], Some("160.0.0.0/5"), LATER),
        exception("old.example.com", &[443], Some("10.8.0.0/16"), "2026-01-01T00:00:00Z"),
    ];
    prop::sample::subsequence(all, 0..=18)
}

fn some_ranges() -> impl Strategy<Value = Vec<String>> {
    let all = [
        "1.0.0.0/8",
        "9.9.9.0/24",
        "20.0.0.0/12",
        "10.9.9.0/24",
        "2606:4700::/32",
        "160.0.0.0/4",
        "163.1.0.0/16",
    ];
    prop::sample::subsequence(all.map(str::to_owned).to_vec(), 0..=3)
}

/// Lists as a user writes them. The first two of the names are those of exceptions.
fn some_names() -> impl Strategy<Value = Vec<String>> {
    let all = [
        "intra.example.com",
        "web.shop.svc",
        "*.example.com",
        "example.net",
        "*.ads.example.net",
    ];
    prop::sample::subsequence(all.map(str::to_owned).to_vec(), 0..=3)
}

prop_compose! {
    fn some_spec()(
        exceptions in some_exceptions(),
        (allow, deny) in (some_ranges(), some_ranges()),
        (names, denied) in (some_names(), some_names()),
        ports in prop::sample::subsequence(vec![80, 443], 0..=2),
    ) -> ScreenshotServiceSpec {
        let mut spec = ScreenshotServiceSpec::default();
        let egress = &mut spec.network.egress;
        egress.ports = ports;
        // An allow list of nothing but private entries is refused; what remains narrows.
        egress.domains.allow = names.into_iter().filter(|name| name != "web.shop.svc").collect();
        egress.domains.deny = denied;
        egress.cidrs.allow = allow.into_iter().filter(|range| !range.starts_with("10.")).collect();
        egress.cidrs.deny = deny;
        egress.exceptions = exceptions.iter().map(|exception| EgressExceptionSpec {
            host: exception.host.to_string(),
            ports: exception.ports.iter().map(|port| i32::from(port.get())).collect(),
            cidr: exception.cidr.map(|cidr| cidr.to_string()),
            reason: exception.reason.to_string(),
            expires: Time(exception.expires),
        }).collect();
        spec
    }
}

prop_compose! {
    fn some_policy()(
        exceptions in some_exceptions(),
        (allow, deny, own) in (some_ranges(), some_ranges(), some_ranges()),
        ports in prop::sample::subsequence(vec![80u64, 443, 8080, 8443], 1..=4),
        upstream in upstream::some(),
        nat64 in prop::option::of(prop::sample::select(vec!["64:ff9b::/96", "fd64:ff9b::/96"])),
    ) -> EffectivePolicy {
        policy(|rules| {
            rules.exceptions = exceptions;
            rules.upstream_proxy = upstream;
            rules.ports = ports.into_iter().map(|port| Port::try_from(port).unwrap()).collect();
            rules.cidrs.allow = allow.iter().map(|text| text.parse().unwrap()).collect();
            rules.cidrs.deny = deny.iter().map(|text| text.parse().unwrap()).collect();
            rules.cluster.cidrs = own.iter().map(|text| text.parse().unwrap()).collect();
            rules.nat64_prefixes = nat64.iter().map(|text| text.parse().unwrap()).collect();
        })
    }
}

fn listed(policy: &EffectivePolicy, network: &Network, pod: &Pod) -> String {
    let comparison = compare(policy, network, pod, now());
    assert!(comparison.compared > 1_000, "{}", comparison.compared);
    let lines: Vec<String> = comparison.disagreements.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn proxy_and_planned_network_policies_agree_over_all_boundaries(policy in some_policy()) {
        let (network, pod) = planned(&policy);
        prop_assert_eq!(listed(&policy, &network, &pod), "");
    }

    /// From what the user writes: the lists reach both enforcers, and both mean the same by them.
    #[test]
    fn both_enforcers_obey_the_lists_of_a_manifest(spec in some_spec()) {
        let wanted = validated_as(spec.clone());
        let (network, pod) = planned_for(&wanted);
        prop_assert_eq!(listed(&wanted.policy, &network, &pod), "");
        let egress = &spec.network.egress;
        let open = |ip: IpAddr, port| network.allows(Endpoint::Pod(&pod), Endpoint::Outside(ip), Protocol::Tcp, port);
        let within = |ranges: &[String], ip: IpAddr| {
            ranges.iter().any(|range| range.parse::<ipnet::IpNet>().unwrap().contains(&ip))
        };
        let excepted = |ip: IpAddr, port: u16| egress.exceptions.iter().any(|exception| {
            let range = exception.cidr.clone().and_then(|range| range.parse::<ipnet::IpNet>().ok());
            exception.ports.contains(&i32::from(port)) && range.is_some_and(|range| range.contains(&ip))
        });
        for ip in ["1.2.3.4", "9.9.9.9", "9.9.8.8", "20.15.1.1", "20.16.1.1", "163.1.1.1", "162.1.1.1", "2606:4700::1", "2a00::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            for port in [80, 443] {
                let narrowed = !egress.cidrs.allow.is_empty() && !within(&egress.cidrs.allow, ip);
                let expected = egress.ports.contains(&i32::from(port)) && !within(&egress.cidrs.deny, ip) && !narrowed;
                if !excepted(ip, port) {
                    prop_assert_eq!(open(ip, port), expected, "{}:{}", ip, port);
                }
            }
        }
        // Names, which only the proxy sees.
        let holds = |rules: &[String], name: &str| rules.iter().any(|rule| match rule.strip_prefix('*') {
            Some(ending) => name.ends_with(ending),
            None => name == rule,
        });
        let (allow, deny) = (&egress.domains.allow, &egress.domains.deny);
        for name in ["www.example.com", "example.com", "example.net", "a.ads.example.net", "www.example.org", "intra.example.com"] {
            let host: HostName = name.parse().unwrap();
            let known = egress.exceptions.iter().any(|exception| exception.host == name);
            let judged = wanted.policy.admit_host(&Host::Name(host), 443, now()).map_err(|refusal| refusal.reason());
            if holds(deny, name) {
                prop_assert_eq!(judged.err(), Some("denied_name"), "{}", name);
            } else if !known {
                let expected = (allow.is_empty() || holds(allow, name)) && egress.ports.contains(&443);
                prop_assert_eq!(judged.is_ok(), expected, "{}", name);
            }
        }
    }

    #[test]
    fn proxy_and_planned_network_policies_agree_on_any_connection(
        policy in some_policy(),
        v4 in prop::collection::vec(any::<u32>(), 200),
        v6 in prop::collection::vec(any::<u128>(), 50),
        port in prop_oneof![any::<u16>(), prop::sample::select(vec![80u16, 443, 8080, 9000])],
    ) {
        let (network, pod) = planned(&policy);
        let proxy = Proxy::new(&policy, now());
        let v4 = v4.into_iter().map(|bits| IpAddr::from(std::net::Ipv4Addr::from(bits)));
        // Half of them in the global block, else hardly any would be.
        let v6 = v6.into_iter().map(|bits| if bits & 1 == 0 { (bits >> 3) | (1 << 125) } else { bits });
        let v6 = v6.map(|bits| IpAddr::from(std::net::Ipv6Addr::from(bits)));
        for address in v4.chain(v6) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let differ = one(&proxy, &network, &pod, protocol, address, port.max(1));
                prop_assert_eq!(differ.map(|differ| differ.to_string()), None);
            }
        }
    }

    /// A Service is named to the proxy and selected by the NetworkPolicy, which sees its pods after translation.
    #[test]
    fn what_the_proxy_opens_of_a_service_the_network_policies_open_of_its_pods(policy in some_policy()) {
        let (network, pod) = planned(&policy);
        let (web, db, other) = (shop("web", "10.244.1.1"), shop("db", "10.244.1.2"), shop("other", "10.244.1.3"));
        let far = shop("db", "10.244.2.2");
        let proxy = |host: &str, port: u16, ip: &str| {
            let verdict = policy.admit_host(&host.parse().unwrap(), port, now());
            verdict.and_then(|verdict| policy.admit_addresses(&verdict, &[ip.parse().unwrap()], now())).is_ok()
        };
        let either = |port, ip: &str| {
            ["web.shop.svc", "web.shop.svc.cluster.local"].iter().any(|host| proxy(host, port, ip))
        };
        let any_db = |ip: &str| {
            ["db.shop.svc", "db.shop.svc.cluster.local"].iter().any(|host| proxy(host, 9000, ip))
        };
        let open = |to: &Pod, port| network.allows(Endpoint::Pod(&pod), Endpoint::Pod(to), Protocol::Tcp, port);
        // Host and port as the page says them; pod and port as the packet has them.
        for (admitted, to, port) in [
            (either(80, "10.96.0.7"), &web, 8080),
            (either(8443, "10.96.0.7"), &web, 9443),
            (any_db("10.244.1.2"), &db, 9000),
            (any_db("10.244.2.2"), &far, 9000),
            (either(81, "10.96.0.7"), &web, 81),
            (proxy("other.shop.svc", 80, "10.96.0.8"), &other, 80),
            (proxy("db.shop.svc", 9001, "10.244.1.2"), &db, 9001),
        ] {
            prop_assert_eq!(admitted, open(to, port), "{:?} {}", to.labels, port);
        }
    }
}

#[test]
fn a_compiler_that_forgets_something_is_found_and_the_tuple_named() {
    let policy = policy(|rules| {
        rules.exceptions = vec![exception("intra.example.com", &[9000], Some("10.9.0.0/16"), LATER)];
        rules.nat64_prefixes = vec!["64:ff9b::/96".parse().unwrap()];
    });
    let (network, pod) = planned(&policy);
    assert_eq!(listed(&policy, &network, &pod), "");
    let mutate = |from: &str, to: &str| {
        let text = serde_json::to_string(&network.policies).unwrap();
        let changed = text.replace(from, to);
        assert_ne!(text, changed, "{from}");
        let network = Network {
            policies: serde_json::from_str(&changed).unwrap(),
            ..network.clone()
        };
        listed(&policy, &network, &pod)
    };
    for (from, to, tuple) in [
        (
            "\"169.254.0.0/16\",",
            "",
            "tcp 169.254.169.254:80: the proxy refuses (metadata_address), the NetworkPolicies let it through",
        ),
        (
            "\"168.63.129.16/32\",",
            "",
            "tcp 168.63.129.16:443: the proxy refuses (metadata_address), the NetworkPolicies let it through",
        ),
        (
            "\"64:ff9b::a9fe:0/112\",",
            "",
            "tcp [64:ff9b::a9fe:a9fe]:80: the proxy refuses (metadata_address), the NetworkPolicies let it through",
        ),
        (
            "\"10.0.0.0/8\"",
            "\"10.0.0.0/9\"",
            "tcp 10.255.255.255:80: the proxy refuses (private_address), the NetworkPolicies let it through",
        ),
        (
            "\"port\":443",
            "\"port\":444",
            "tcp 9.255.255.255:444: the proxy refuses (port_not_allowed), the NetworkPolicies let it through",
        ),
        (
            "\"port\":443",
            "\"port\":444",
            "tcp 9.255.255.255:443: the proxy connects (as www.example.org), the NetworkPolicies do not let it",
        ),
        (
            "10.9.0.0/16",
            "10.9.0.0/15",
            "tcp 10.8.0.0:9000: the proxy refuses (outside_exception), the NetworkPolicies let it through",
        ),
        (
            "10.9.0.0/16",
            "10.9.0.0/17",
            "tcp 10.9.255.255:9000: the proxy connects (as intra.example.com), the NetworkPolicies do not let it",
        ),
    ] {
        let found = mutate(from, to);
        assert!(found.lines().any(|line| line == tuple), "{from} -> {to}: {found}");
    }
}

/// Plans that are right and were once said not to be.
#[test]
fn no_exception_makes_a_plan_that_is_right_look_wrong() {
    for one in [
        exception("lab.example.com", &[80], Some("192.0.2.0/24"), LATER),
        exception("[::ffff:10.20.30.40]", &[8080], None, LATER),
        exception("[fd64:ff9b::a14:1e28]", &[8080], None, LATER),
    ] {
        for prefix in [
            None,
            Some("fd64:ff9b::/96"),
            Some("fd65:ff9b::/64"),
            Some("fd64:ff00::/32"),
        ] {
            let policy = policy(|rules| {
                rules.exceptions = vec![one.clone()];
                rules.nat64_prefixes = prefix.iter().map(|text| text.parse().unwrap()).collect();
            });
            let (network, pod) = planned(&policy);
            assert_eq!(listed(&policy, &network, &pod), "", "{one:?} {prefix:?}");
        }
    }
}

#[test]
fn what_an_exception_names_behind_a_nat64_prefix_is_closed_where_the_proxy_closes_it() {
    let prefix = "fd64:ff9b::/96".parse().unwrap();
    let translating = |exceptions: &[EgressException]| {
        let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
        document.egress.exceptions = exceptions.to_vec();
        document.egress.cidrs.deny = vec!["10.9.0.0/16".parse().unwrap()];
        document.egress.nat64_prefixes = vec![prefix];
        EffectivePolicy::resolve(&Ceiling::compiled(), document)
    };
    let metadata = exception("[fd64:ff9b::a9fe:a9fe]", &[80], None, LATER);
    assert_eq!(translating(&[metadata]).unwrap_err().reason(), "policy_exception");
    let policy = translating(&[
        exception("a.example.com", &[9000], Some("fd64:ff9b::a00:0/104"), LATER),
        exception("b.example.com", &[9001], Some("fd64::/16"), LATER),
    ])
    .unwrap();
    let (network, pod) = planned(&policy);
    assert_eq!(listed(&policy, &network, &pod), "");
    for (ip, port, open) in [
        ("fd64:ff9b::a01:203", 9000, true),
        ("fd64:ff9b::a09:203", 9000, false),
        ("fd64:ff9b::a09:203", 9001, false),
        ("fd64:ff9b::a9fe:a9fe", 9001, false),
        ("fd64:ff9b::a83f:8110", 9001, false),
        ("fd64:1::a9fe:a9fe", 9001, true),
    ] {
        let to = Endpoint::Outside(ip.parse().unwrap());
        let allowed = network.allows(Endpoint::Pod(&pod), to, Protocol::Tcp, port);
        assert_eq!(allowed, open, "{ip} {port}");
    }
}

#[test]
fn a_rendered_file_is_read_whatever_way_its_objects_are_packed() {
    let policy = policy(|_| {});
    let (network, _) = planned(&policy);
    let wanted = validated(&policy);
    let plan = plan_of(&wanted, &Targets::new());
    let bodies: Vec<_> = plan
        .before_secrets()
        .chain(plan.after_secrets())
        .map(|child| child.body.clone())
        .collect();
    let documents: Vec<String> = bodies
        .iter()
        .map(|body| serde_saphyr::to_string(body).unwrap())
        .collect();
    let list = serde_saphyr::to_string(&serde_json::json!({"kind": "List", "items": bodies})).unwrap();
    for text in [documents.join("---\n"), list] {
        let (read_network, subjects) = read(&text).unwrap();
        assert_eq!(read_network.policies.len(), network.policies.len());
        let [subject] = subjects.as_slice() else {
            panic!("one service")
        };
        assert_eq!(subject.service, "web/shots");
        assert_eq!(listed(&subject.policy, &read_network, &subject.pod), "");
    }
    assert!(read("kind: Pod").is_err());
}
