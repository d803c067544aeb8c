//! Both readers of the table over every boundary, and the forms that only look harmless.

use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::*;

fn class(text: &str) -> AddressClass {
    classify(text.parse().unwrap())
}

fn public_blocks() -> Vec<Block> {
    let closed: Vec<IpNet> = v4_excepts()
        .into_iter()
        .map(IpNet::V4)
        .chain(v6_excepts().into_iter().map(IpNet::V6))
        .collect();
    let mut open = blocks("0.0.0.0/0".parse().unwrap(), &closed);
    open.extend(blocks(IpNet::V6(V6_GLOBAL), &closed));
    open
}

fn opened(open: &[Block], ip: IpAddr) -> bool {
    open.iter().any(|block| block.opens(ip))
}

/// First and last address of every range of the table, and the neighbours of both.
fn boundaries() -> Vec<IpAddr> {
    let v4 = table::V4.iter().map(|(net, _)| IpNet::V4(*net));
    let v6 = table::V6_IN_GLOBAL.iter().chain(table::V6_OUTSIDE).map(|(net, _)| *net);
    let v6 = v6.chain([V6_GLOBAL]).map(IpNet::V6);
    v4.chain(v6).flat_map(edges).collect()
}

#[test]
fn the_edges_of_a_range_are_its_ends_and_what_lies_beside_them() {
    let of = |net: &str| edges(net.parse().unwrap()).map(|ip| ip.to_string()).collect::<Vec<_>>();
    assert_eq!(
        of("10.0.0.0/8"),
        ["10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"]
    );
    assert_eq!(of("0.0.0.0/0"), ["0.0.0.0", "255.255.255.255"]);
    assert_eq!(
        of("ff00::/8"),
        [
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        ]
    );
    assert_eq!(of("fd00::7/128"), ["fd00::7", "fd00::7", "fd00::6", "fd00::8"]);
}

#[test]
fn what_the_proxy_refuses_and_what_the_network_policy_excepts_differ_at_no_boundary() {
    let open = public_blocks();
    let boundaries = boundaries();
    assert!(boundaries.len() > 200, "{}", boundaries.len());
    for ip in boundaries {
        assert_eq!(classify(ip).is_global(), opened(&open, ip), "{ip}");
    }
}

#[test]
fn the_rendered_lists_are_ones_that_every_plugin_takes() {
    let mapped: Ipv6Net = "::ffff:0:0/96".parse().unwrap();
    for block in public_blocks() {
        assert!(block.except.len() <= MAX_EXCEPTS, "{}", block.cidr);
        for except in &block.except {
            assert!(block.cidr.contains(except) && block.cidr != *except, "{except}");
            assert!(!matches!(except, IpNet::V6(net) if mapped.contains(net)), "{except}");
        }
    }
}

#[test]
fn a_row_is_never_shadowed_by_an_earlier_one() {
    let v4: Vec<IpNet> = table::V4.iter().map(|(net, _)| IpNet::V4(*net)).collect();
    let v6 = table::V6_IN_GLOBAL.iter().chain(table::V6_OUTSIDE);
    let v6: Vec<IpNet> = v6.map(|(net, _)| IpNet::V6(*net)).collect();
    for rows in [v4, v6] {
        for (at, row) in rows.iter().enumerate() {
            assert!(!rows[..at].iter().any(|earlier| earlier.contains(row)), "{row}");
        }
    }
}

#[test]
fn public_addresses_are_global() {
    for ip in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "172.15.255.255",
        "172.32.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1",
        "2a00:1450::1",
        "2001:200::1",
        "3ffe::1",
        "::ffff:8.8.8.8",
    ] {
        assert_eq!(class(ip), AddressClass::Global, "{ip}");
    }
}

#[test]
fn metadata_addresses_are_metadata_wherever_they_lie_and_no_exception_opens_them() {
    for ip in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.0.23",
        "169.254.42.42",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "fd00:c1::a9fe:a9fe",
        "fd00:100::100:200",
        "fe80::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "::ffff:a83f:8110",
    ] {
        assert_eq!(class(ip), AddressClass::Metadata, "{ip}");
        assert!(!class(ip).may_be_excepted(), "{ip}");
        let ip = ip.parse::<IpAddr>().unwrap().to_canonical();
        assert!(never_excepted().iter().any(|net| net.contains(&ip)), "{ip}");
    }
}

#[test]
fn disguised_ipv4_is_refused_whatever_it_carries() {
    for carried in ["8.8.8.8", "10.0.0.1", "127.0.0.1", "169.254.169.254"] {
        let v4: Ipv4Addr = carried.parse().unwrap();
        let [a, b, c, d] = v4.octets();
        let hex = format!("{a:x}{b:02x}:{c:x}{d:02x}");
        for form in [
            format!("2002:{hex}::1"),             // 6to4
            format!("2001:0:{hex}::1"),           // Teredo, as the server
            format!("2001::ffff:{hex}"),          // Teredo, as the client
            format!("64:ff9b::{hex}"),            // NAT64, well-known
            format!("64:ff9b:1::{hex}"),          // NAT64, local
            format!("::{hex}"),                   // compatible
            format!("::ffff:0:{hex}"),            // SIIT
            format!("2606:4700::5efe:{hex}"),     // ISATAP
            format!("2606:4700::200:5efe:{hex}"), // ISATAP, globally unique
            format!("fd00::5efe:{hex}"),          // ISATAP on a private link
        ] {
            assert_eq!(class(&form), AddressClass::EmbeddedV4, "{form}");
            assert!(!class(&form).may_be_excepted(), "{form}");
        }
        assert_eq!(class(&format!("::ffff:{carried}")), class(carried), "mapped {carried}");
    }
}

#[test]
fn a_configured_nat64_prefix_is_judged_by_what_it_leads_to() {
    let prefixes: Vec<Nat64Prefix> = ["64:ff9b::/96", "2606:4700:64::/48"]
        .map(|text| text.parse().unwrap())
        .into();
    let class = |text: &str| classify_with(text.parse().unwrap(), &prefixes);
    assert_eq!(class("64:ff9b::8.8.8.8"), AddressClass::Global);
    assert_eq!(class("64:ff9b::10.0.0.1"), AddressClass::Private);
    assert_eq!(class("64:ff9b::169.254.169.254"), AddressClass::Metadata);
    assert_eq!(class("64:ff9b::127.0.0.1"), AddressClass::Loopback);
    // 8.8.8.8 and 10.8.8.8 behind a prefix of length 48.
    assert_eq!(class("2606:4700:64:808:8:800::"), AddressClass::Global);
    assert_eq!(class("2606:4700:64:a08:8:800::"), AddressClass::Private);
    assert_eq!(
        class("2606:4700:64:808:ff08:800::"),
        AddressClass::EmbeddedV4,
        "reserved octet"
    );
    assert_eq!(class("64:ff9b:1::8.8.8.8"), AddressClass::EmbeddedV4, "not configured");
    assert_eq!(class("10.0.0.1"), AddressClass::Private);
}

#[test]
fn no_nat64_prefix_can_be_laid_over_metadata_or_the_link() {
    for (prefix, ip) in [
        ("fd00:ec2::/32", "fd00:ec2::254"),
        ("fd00:ec2::/96", "fd00:ec2::254"),
        ("fe80::/64", "fe80::1"),
        ("::/96", "::1"),
        ("ff02::/32", "ff02::1"),
    ] {
        let prefix: Nat64Prefix = prefix.parse().unwrap();
        let ip = ip.parse().unwrap();
        assert_eq!(classify_with(ip, &[prefix]), classify(ip), "{ip}");
        assert!(!classify(ip).may_be_excepted());
    }
}

#[test]
fn the_pod_itself_its_link_and_multicast_can_never_be_excepted() {
    for ip in [
        "127.0.0.1",
        "::1",
        "169.254.1.1",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
    ] {
        assert!(!class(ip).may_be_excepted(), "{ip}");
    }
    for ip in [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "fd12::1",
        "203.0.113.10",
    ] {
        assert!(class(ip).may_be_excepted(), "{ip}");
        assert!(!class(ip).is_global(), "{ip}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn proxy_and_network_policy_agree_on_every_ipv4_address(bits: u32) {
        let ip = IpAddr::V4(Ipv4Addr::from(bits));
        prop_assert_eq!(classify(ip).is_global(), opened(&public_blocks(), ip));
        let never = never_excepted().iter().any(|net| net.contains(&ip));
        prop_assert_eq!(classify(ip).may_be_excepted(), !never);
    }

    #[test]
    fn the_proxy_is_never_more_lenient_than_the_network_policy_on_ipv6(high in 0x2000u16..0x4000, rest: u128) {
        // Half of the random addresses would lie outside 2000::/3 otherwise.
        let ip = Ipv6Addr::from((u128::from(high) << 112) | (rest >> 16));
        let admitted = opened(&public_blocks(), IpAddr::V6(ip));
        let global = classify_v6(ip).is_global();
        prop_assert!(!global || admitted);
        prop_assert!(global == admitted || embedded::is_isatap(ip));
    }

    #[test]
    fn nothing_outside_the_global_block_is_global_without_a_prefix(bits: u128) {
        let ip = Ipv6Addr::from(bits);
        let mapped = ip.to_ipv4_mapped().is_some();
        prop_assert!(mapped || V6_GLOBAL.contains(&ip) || !classify(IpAddr::V6(ip)).is_global());
    }
}
