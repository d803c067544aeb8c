//! Which addresses of an upstream may be dialled, and that a NetworkPolicy opens the same.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::address::{self, AddressClass, Nat64Prefix, edges};
use crate::cluster::ClusterRanges;
use crate::policy::{Ceiling, PolicyDocument, PolicyError};

fn upstream(host: &str, cidr: Option<&str>) -> UpstreamProxy {
    UpstreamProxy {
        scheme: UpstreamScheme::Http,
        host: host.parse().unwrap(),
        port: Port::try_from(3128u64).unwrap(),
        cidr: cidr.map(|text| text.parse().unwrap()),
        resolve: Resolution::Local,
        authenticated: false,
        ca_bundle: false,
    }
}

fn resolved(upstream: &UpstreamProxy, change: impl FnOnce(&mut EgressRules)) -> Result<EffectivePolicy, PolicyError> {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    document.egress.upstream_proxy = Some(upstream.clone());
    change(&mut document.egress);
    EffectivePolicy::resolve(&Ceiling::compiled(), document)
}

fn judged(upstream: &UpstreamProxy, addresses: &[&str]) -> Result<usize, &'static str> {
    let policy = resolved(upstream, |_| {}).unwrap();
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let admitted = policy.admit_upstream(upstream, &[], &addresses);
    admitted.map(|list| list.len()).map_err(|refusal| refusal.reason())
}

#[test]
fn an_upstream_may_be_private_where_that_was_said_and_public_otherwise() {
    let public = upstream("proxy.example.com", None);
    assert_eq!(judged(&public, &["93.184.216.34", "2606:4700::1"]), Ok(2));
    assert_eq!(judged(&public, &["93.184.216.34", "10.0.0.1"]), Err("private_address"));
    assert_eq!(judged(&public, &[]), Err("no_address"));
    assert_eq!(judged(&public, &["8.8.8.8"; 65]), Err("too_many_addresses"));
    let ranged = upstream("proxy.corp.example.com", Some("10.1.0.0/16"));
    assert_eq!(judged(&ranged, &["10.1.0.7"]), Ok(1));
    assert_eq!(judged(&ranged, &["10.2.0.7"]), Err("outside_exception"));
    let service = upstream("squid.proxies.svc.cluster.local", None);
    assert_eq!(judged(&service, &["10.96.0.7"]), Ok(1));
    let literal = upstream("10.1.2.3", None);
    assert_eq!(judged(&literal, &["10.1.2.3"]), Ok(1));
    assert_eq!(judged(&literal, &["10.1.2.4"]), Err("outside_exception"));
}

#[test]
fn no_upstream_is_a_metadata_address_the_pod_itself_or_its_link() {
    for (ip, class) in [
        ("169.254.169.254", "metadata_address"),
        ("100.100.100.200", "metadata_address"),
        ("fd00:ec2::254", "metadata_address"),
        ("127.0.0.1", "loopback_address"),
        ("::1", "loopback_address"),
        ("169.254.9.9", "link_local_address"),
        ("0.0.0.0", "unspecified_address"),
        ("224.0.0.1", "multicast_address"),
    ] {
        for named in [
            upstream("proxy.example.com", None),
            upstream("proxy.example.com", Some("10.0.0.0/8")),
            upstream("squid.proxies.svc", None),
        ] {
            assert_eq!(judged(&named, &[ip]), Err(class), "{named:?}");
        }
    }
    for never in ["127.0.0.1", "169.254.169.254", "[::1]"] {
        let error = resolved(&upstream(never, None), |_| {}).unwrap_err();
        assert_eq!(error.reason(), "policy_upstream", "{never}");
    }
    let translating = |rules: &mut EgressRules| rules.nat64_prefixes = vec!["fd64:ff9b::/96".parse().unwrap()];
    let error = resolved(&upstream("[fd64:ff9b::a9fe:a9fe]", None), translating).unwrap_err();
    assert_eq!(error.reason(), "policy_upstream", "behind a NAT64 prefix");
    let error = resolved(&upstream("proxy.example.com", Some("169.254.0.0/16")), |_| {}).unwrap_err();
    assert_eq!(
        error,
        PolicyError::Upstream(UpstreamRule::Range(ExceptionError::NeverExcepted(
            AddressClass::Metadata
        )))
    );
}

#[test]
fn lists_of_addresses_are_refused_where_the_upstream_resolves() {
    let remote = UpstreamProxy {
        resolve: Resolution::Remote,
        ..upstream("proxy.example.com", None)
    };
    assert!(resolved(&remote, |_| {}).is_ok());
    for change in [
        (|rules: &mut EgressRules| rules.cidrs.allow = vec!["9.9.9.0/24".parse().unwrap()]) as fn(&mut EgressRules),
        |rules| rules.cidrs.deny = vec!["9.9.9.0/24".parse().unwrap()],
    ] {
        assert_eq!(
            resolved(&remote, change),
            Err(PolicyError::Upstream(UpstreamRule::UnheldLists))
        );
        assert!(resolved(&upstream("proxy.example.com", None), change).is_ok());
    }
}

#[test]
fn the_blocks_of_an_upstream_hold_exactly_the_addresses_that_may_be_dialled() {
    let own = ClusterRanges::closing(["20.1.2.0/24".parse().unwrap()]);
    let prefix: Nat64Prefix = "fd64:ff9b::/96".parse().unwrap();
    for named in [
        upstream("proxy.example.com", None),
        upstream("proxy.example.com", Some("10.1.0.0/16")),
        upstream("proxy.example.com", Some("160.0.0.0/5")),
        upstream("10.1.2.3", None),
        upstream("[fd12::1]", None),
        upstream("[fd64:ff9b::a01:203]", None),
        upstream("proxy.example.com", Some("fd64:ff9b::a000:0/101")),
        upstream("proxy.example.com", Some("fd64::/16")),
    ] {
        // The lists are about pages: they do not move the way out.
        let policy = resolved(&named, |rules| {
            rules.cidrs.allow = vec!["9.9.9.0/24".parse().unwrap()];
            rules.cidrs.deny = vec!["93.0.0.0/8".parse().unwrap()];
            rules.nat64_prefixes = vec![prefix];
        });
        let policy = policy.unwrap().in_cluster(own.clone());
        let blocks = policy.upstream_blocks(&named);
        let mut nets = address::never_excepted();
        nets.extend(address::v4_excepts().into_iter().map(IpNet::V4));
        nets.extend(
            ["20.1.2.0/24", "93.0.0.0/8", "9.9.9.0/24", "10.1.0.0/16"].map(|text| text.parse::<IpNet>().unwrap()),
        );
        nets.extend(
            blocks
                .iter()
                .flat_map(|block| std::iter::once(block.cidr).chain(block.except.iter().copied())),
        );
        let images: Vec<IpNet> = prefix.images(&nets).collect();
        nets.extend(images);
        for ip in nets.into_iter().flat_map(edges).filter(|ip| *ip == ip.to_canonical()) {
            assert_eq!(
                policy.admit_upstream(&named, &[], &[ip]).is_ok(),
                blocks.iter().any(|block| block.opens(ip)),
                "{ip} of {named:?}"
            );
        }
    }
    let service = upstream("squid.proxies.svc", None);
    assert_eq!(resolved(&service, |_| {}).unwrap().upstream_blocks(&service), []);
}

/// Upstreams of every kind, for the policy's own property tests.
pub(crate) fn some_upstream() -> impl Strategy<Value = Option<UpstreamProxy>> {
    let fields = (
        prop::sample::select(vec![
            UpstreamScheme::Http,
            UpstreamScheme::Https,
            UpstreamScheme::Socks5,
        ]),
        prop::sample::select(vec!["proxy.example.com", "squid.t1.svc", "10.1.2.3", "[fd12::1]"]),
        prop::sample::select(vec![None, Some("10.0.0.0/8"), Some("93.184.216.0/24")]),
        any::<(bool, bool)>(),
    );
    prop::option::of(
        fields.prop_map(|(scheme, host, cidr, (remote, authenticated))| UpstreamProxy {
            scheme,
            host: host.parse().unwrap(),
            port: Port::try_from(3128u64).unwrap(),
            cidr: cidr.map(|text| text.parse().unwrap()),
            resolve: if remote { Resolution::Remote } else { Resolution::Local },
            authenticated,
            ca_bundle: authenticated && scheme == UpstreamScheme::Https,
        }),
    )
}

/// The same upstream, and no name handed to it that the other would have resolved.
pub(crate) fn no_wider_way(ours: Option<&UpstreamProxy>, theirs: Option<&UpstreamProxy>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            let as_theirs = UpstreamProxy {
                resolve: theirs.resolve,
                ..ours.clone()
            };
            (ours.resolve == Resolution::Local || theirs.resolve == Resolution::Remote) && as_theirs == *theirs
        }
        (ours, theirs) => ours == theirs,
    }
}
