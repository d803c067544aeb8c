//! The same where an upstream proxy is the way out.

use screenshot_policy::egress::{Resolution, UpstreamProxy, UpstreamScheme};

use super::*;

fn upstream(host: &str, port: u64, cidr: Option<&str>) -> UpstreamProxy {
    UpstreamProxy {
        scheme: UpstreamScheme::Http,
        host: host.parse().unwrap(),
        port: Port::try_from(port).unwrap(),
        cidr: cidr.map(|text| text.parse().unwrap()),
        resolve: Resolution::Local,
        authenticated: false,
        ca_bundle: false,
    }
}

pub fn some() -> impl Strategy<Value = Option<UpstreamProxy>> {
    let all = vec![
        upstream("proxy.example.com", 3128, None),
        upstream("proxy.example.com", 443, None),
        upstream("proxy.corp.example.com", 3128, Some("10.9.0.0/16")),
        upstream("proxy.corp.example.com", 443, Some("160.0.0.0/5")),
        upstream("10.20.30.41", 8080, None),
        upstream("[fd12::41]", 3128, None),
    ];
    prop::option::of(prop::sample::select(all))
}

/// With an upstream the public rule is gone: not even a page that broke out of proxy and jail gets past it.
#[test]
fn with_an_upstream_nothing_public_is_open_but_the_upstream() {
    let policy = policy(|rules| rules.upstream_proxy = Some(upstream("10.20.30.41", 3128, None)));
    let (network, pod) = planned(&policy);
    assert_eq!(listed(&policy, &network, &pod), "");
    let open = |ip: &str, port| {
        let to = Endpoint::Outside(ip.parse().unwrap());
        network.allows(Endpoint::Pod(&pod), to, Protocol::Tcp, port)
    };
    assert!(open("10.20.30.41", 3128));
    for (ip, port) in [
        ("93.184.216.34", 443),
        ("93.184.216.34", 3128),
        ("10.20.30.41", 443),
        ("10.20.30.42", 3128),
    ] {
        assert!(!open(ip, port), "{ip}:{port}");
    }
    // A compiler that left the public rule in is found out.
    let straight = planned(&super::policy(|_| {})).0;
    let found = listed(&policy, &straight, &pod);
    assert!(
        found.contains("tcp 1.0.0.0:443: the proxy refuses (not_the_upstream)"),
        "{found}"
    );
    assert!(
        found.contains("tcp 10.20.30.41:3128: the proxy connects (as 10.20.30.41)"),
        "{found}"
    );
}

#[test]
fn an_upstream_that_is_a_service_is_its_pods_and_nothing_is_left_of_it_where_no_port_is_open() {
    let through = |ports: &[u64]| {
        let policy = policy(|rules| {
            rules.upstream_proxy = Some(upstream("web.shop.svc", 80, None));
            rules.ports = ports.iter().map(|port| Port::try_from(*port).unwrap()).collect();
        });
        let (network, pod) = planned(&policy);
        let open = |to: &Pod, port| network.allows(Endpoint::Pod(&pod), Endpoint::Pod(to), Protocol::Tcp, port);
        let (web, db) = (shop("web", "10.244.1.1"), shop("db", "10.244.1.2"));
        let comparison = compare(&policy, &network, &pod, now());
        assert_eq!(comparison.disagreements, []);
        [open(&web, 8080), open(&web, 80), open(&db, 8080)]
    };
    assert_eq!(through(&[443]), [true, false, false]);
    assert_eq!(through(&[]), [false, false, false]);
}
