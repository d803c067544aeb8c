//! The two faces of a policy's address space, the proxy's and the NetworkPolicy's, over every boundary of every range.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::address::{MAX_EXCEPTS, edges};
use crate::cidr::Cidr;
use crate::cluster::ClusterRanges;
use crate::policy::{Ceiling, EgressRules, PolicyDocument};

fn policy(change: impl FnOnce(&mut EgressRules)) -> EffectivePolicy {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    change(&mut document.egress);
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

fn boundaries(policy: &EffectivePolicy) -> Vec<IpAddr> {
    let mut nets: Vec<IpNet> = crate::address::v4_excepts().into_iter().map(IpNet::V4).collect();
    nets.extend(crate::address::v6_excepts().into_iter().map(IpNet::V6));
    nets.extend(crate::address::never_excepted());
    nets.extend(policy.own_ranges());
    for block in policy.open_blocks() {
        nets.push(block.cidr);
        nets.extend(block.except);
    }
    for prefix in &policy.egress().nat64_prefixes {
        let images: Vec<IpNet> = prefix.images(&nets).collect();
        nets.extend(images);
    }
    nets.into_iter().flat_map(edges).collect()
}

/// Whether only the proxy can see why it refuses: an ISATAP interface id, or the reserved octet of a NAT64 address.
/// Neither is a range, so no NetworkPolicy can say it.
fn beyond_blocks(policy: &EffectivePolicy, ip: IpAddr) -> bool {
    let IpAddr::V6(ip) = ip else { return false };
    let [_, _, _, _, four, five, ..] = ip.segments();
    let prefixes = &policy.egress().nat64_prefixes;
    let octet = prefixes.iter().any(|prefix| prefix.net().contains(&ip)) && ip.octets()[8] != 0;
    octet || (five == 0x5efe && (four == 0 || four == 0x0200))
}

/// The same with ranges that the cluster was found to have.
fn found(policy: EffectivePolicy, ranges: &[&str]) -> EffectivePolicy {
    policy.in_cluster(ClusterRanges::closing(nets::<IpNet>(ranges)))
}

fn agree(policy: &EffectivePolicy, blocks: &[Block], ip: IpAddr) -> Result<(), String> {
    let open = blocks.iter().any(|block| block.opens(ip));
    let refusal = Reach::of(policy).closed(ip);
    if refusal.is_none() == open || (open && beyond_blocks(policy, ip)) {
        Ok(())
    } else {
        Err(format!("{ip}: proxy {refusal:?}, NetworkPolicy open {open}"))
    }
}

fn well_formed(blocks: &[Block]) {
    for block in blocks {
        assert!(block.except.len() <= MAX_EXCEPTS, "{}", block.cidr);
        for except in &block.except {
            assert!(
                block.cidr.contains(except) && block.cidr != *except,
                "{except} in {}",
                block.cidr
            );
        }
    }
}

fn nets<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn proxy_and_network_policy_agree_over_every_boundary_of_every_kind_of_rule() {
    let policies = [
        policy(|_| {}),
        policy(|rules| rules.cidrs.deny = nets(&["1.0.0.0/8", "2606::/16", "10.0.0.0/8"])),
        policy(|rules| rules.cluster.cidrs = nets(&["20.0.0.0/12", "2a00:1::/32"])),
        policy(|rules| rules.cidrs.allow = nets(&["8.0.0.0/7", "2a00::/12", "192.0.0.0/8"])),
        policy(|rules| rules.cidrs.allow = nets(&["8.0.0.0/7"])),
        found(
            policy(|_| {}),
            &["20.0.0.0/12", "2a00:1::/32", "9.9.9.9/32", "10.96.0.0/12"],
        ),
        found(
            policy(|rules| {
                rules.cidrs.allow = nets(&["8.0.0.0/7"]);
                rules.nat64_prefixes = nets(&["64:ff9b::/96"]);
            }),
            &["9.9.9.0/24"],
        ),
        policy(|rules| rules.nat64_prefixes = nets(&["64:ff9b::/96"])),
        policy(|rules| {
            rules.nat64_prefixes = nets(&["64:ff9b::/96", "2606:64::/40", "fd00:64::/64"]);
            rules.cidrs.allow = nets(&["8.0.0.0/7", "2606::/16"]);
            rules.cidrs.deny = nets(&["8.8.0.0/16", "2606:64:8::/48"]);
            rules.cluster.cidrs = nets(&["9.9.9.0/24"]);
        }),
        policy(|rules| {
            rules.cluster.cidrs = (0..100).map(|n| format!("20.{n}.0.0/17").parse().unwrap()).collect();
        }),
    ];
    for policy in &policies {
        let blocks = policy.open_blocks();
        well_formed(&blocks);
        let boundaries = boundaries(policy);
        assert!(boundaries.len() > 100);
        let wrong: Vec<String> = boundaries
            .iter()
            .filter_map(|ip| agree(policy, &blocks, *ip).err())
            .collect();
        assert!(wrong.is_empty(), "{:?}: {wrong:#?}", policy.egress());
    }
}

#[test]
fn an_exception_opens_for_a_network_policy_what_it_opens_for_the_proxy() {
    for (host, cidr) in [
        ("a.com", Some("10.0.0.0/8")),
        ("a.com", Some("160.0.0.0/5")),
        ("a.com", Some("192.88.0.0/16")),
        ("a.com", Some("100.64.0.0/11")),
        ("a.com", Some("fd12::/16")),
        ("a.com", Some("2000::/3")),
        ("10.1.2.3", None),
        ("10.1.2.3", Some("10.0.0.0/8")),
        ("10.1.2.3", Some("192.168.0.0/16")),
        ("[fd12::1]", None),
        ("[fd12::1]", Some("fd12::/64")),
        // Behind a NAT64 prefix: 10.1.2.3, what is denied of 10.0.0.0/8, and prefixes as a whole.
        ("[fd64:ff9b::a01:203]", None),
        ("a.com", Some("fd64:ff9b::a00:0/104")),
        ("a.com", Some("fd64:ff9b::a000:0/101")),
        ("a.com", Some("fd64::/16")),
        ("a.com", Some("2606::/16")),
    ] {
        let exception = EgressException {
            host: host.parse().unwrap(),
            ports: vec![Port::HTTP],
            cidr: cidr.map(|text| text.parse().unwrap()),
            reason: "a test".parse().unwrap(),
            expires: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        let policy = policy(|rules| {
            rules.cidrs.deny = nets(&["10.9.0.0/16", "163.1.0.0/16", "fd64:7::/32", "2606:64::8.8.0.0/112"]);
            rules.nat64_prefixes = nets(&["fd64:ff9b::/96", "2606:64::/96"]);
            rules.exceptions = vec![exception.clone()];
        });
        let blocks = policy.exception_blocks(&exception);
        well_formed(&blocks);
        let now = "2026-11-25T00:00:00Z".parse().unwrap();
        let verdict = policy.admit_host(&exception.host, 80, now).unwrap();
        let mut nets = crate::address::never_excepted();
        nets.extend(blocks.iter().map(|block| block.cidr));
        nets.extend(policy.egress().cidrs.deny.iter().map(|cidr| cidr.net()));
        let prefixes = policy.egress().nat64_prefixes.iter();
        let images: Vec<IpNet> = prefixes.flat_map(|prefix| prefix.images(&nets)).collect();
        nets.extend(images);
        for ip in nets.into_iter().flat_map(edges) {
            let open = blocks.iter().any(|block| block.opens(ip));
            // For a literal host the proxy never sees another address.
            let same = matches!(exception.host, Host::Name(_)) || exception.host == Host::Ip(ip);
            let admitted = same && policy.admit_addresses(&verdict, &[ip], now).is_ok();
            assert_eq!(open, admitted, "{host} {cidr:?} {ip}");
        }
    }
}

#[test]
fn no_exception_opens_what_is_denied_or_metadata_behind_a_nat64_prefix_of_any_length() {
    for prefix in [
        "fd64::/32",
        "fd64::/40",
        "fd64::/48",
        "fd64::/56",
        "fd64::/64",
        "fd64::/96",
    ] {
        let exception = EgressException {
            host: "a.com".parse().unwrap(),
            ports: vec![Port::HTTP],
            cidr: Some("fd64::/16".parse().unwrap()),
            reason: "a test".parse().unwrap(),
            expires: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        let policy = policy(|rules| {
            rules.cidrs.deny = (0..60)
                .map(|n| format!("20.{}.0.0/16", n * 2).parse().unwrap())
                .collect();
            rules.nat64_prefixes = nets(&[prefix]);
            rules.exceptions = vec![exception.clone()];
        });
        let blocks = policy.exception_blocks(&exception);
        well_formed(&blocks);
        let opens = |v4: &str| {
            let behind = policy.egress().nat64_prefixes[0]
                .images(&nets::<IpNet>(&[v4]))
                .next()
                .unwrap();
            blocks.iter().any(|block| block.opens(behind.network()))
        };
        for v4 in [
            "169.254.169.254/32",
            "168.63.129.16/32",
            "127.0.0.1/32",
            "20.0.0.1/32",
            "20.118.255.255/32",
        ] {
            assert!(!opens(v4), "{v4} behind {prefix}");
        }
        for v4 in ["10.0.0.1/32", "20.1.0.1/32", "168.63.129.17/32"] {
            assert!(opens(v4), "{v4} behind {prefix}");
        }
    }
}

prop_compose! {
    fn range()(bits: u32, length in 4u8..=32) -> Cidr {
        let net = ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc();
        Cidr::try_from(IpNet::V4(net)).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn proxy_and_network_policy_agree_under_any_ranges(
        allow in prop::collection::vec(range(), 0..6),
        deny in prop::collection::vec(range(), 0..40),
        own in prop::collection::vec(range(), 0..40),
        nat64: bool,
        extra in prop::collection::vec(any::<u32>(), 64),
    ) {
        let policy = policy(|rules| {
            rules.cidrs.allow = allow;
            rules.cidrs.deny = deny;
            rules.cluster.cidrs = own;
            if nat64 {
                rules.nat64_prefixes = nets(&["64:ff9b::/96"]);
            }
        });
        let blocks = policy.open_blocks();
        well_formed(&blocks);
        let extra = extra.into_iter().map(|bits| IpAddr::from(Ipv4Addr::from(bits)));
        for ip in boundaries(&policy).into_iter().chain(extra) {
            prop_assert_eq!(agree(&policy, &blocks, ip), Ok(()));
        }
    }
}
