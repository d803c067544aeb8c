//! The one address table.
//!
//! In: an IP address. Out: its class, and for NetworkPolicies the same table as CIDR lists.
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries, IPv4 Multicast and IPv6 Address
//! Space registries (RFC 6890 family), and the documented metadata addresses of clouds.
//! IPv4 is a deny list; IPv6 is deny by default with one allowed block less its special parts.
//! What the egress proxy refuses and what the NetworkPolicy excepts is read from here by both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What an address is for. Also the metric label and the log word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Globally reachable unicast.
    Global,
    /// `0.0.0.0/8` and `::`.
    Unspecified,
    /// RFC 1918.
    Private,
    /// `100.64.0.0/10`, RFC 6598.
    SharedCgnat,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `169.254.0.0/16` and `fe80::/10`.
    LinkLocal,
    /// A cloud's instance metadata or credential service, wherever it lies.
    Metadata,
    /// `192.0.0.0/24` and `2001::/23`.
    IetfProtocol,
    /// Documentation ranges.
    Documentation,
    /// `198.18.0.0/15`.
    Benchmarking,
    /// AS112 sinks.
    As112,
    /// Automatic multicast tunnelling relays.
    Amt,
    /// `192.88.99.0/24`.
    SixToFourRelay,
    /// Multicast.
    Multicast,
    /// `240.0.0.0/4`.
    Reserved,
    /// `255.255.255.255`.
    Broadcast,
    /// `fc00::/7`.
    UniqueLocal,
    /// `fec0::/10`, deprecated by RFC 3879.
    SiteLocal,
    /// IPv6 outside `2000::/3`.
    NotGlobalUnicast,
    /// An IPv6 form that carries an IPv4 address (NAT64, 6to4, Teredo, ISATAP, SIIT, compatible).
    EmbeddedV4,
}

impl AddressClass {
    /// The bounded word for metrics, logs and problem details.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Unspecified => "unspecified_address",
            Self::Private => "private_address",
            Self::SharedCgnat => "shared_address",
            Self::Loopback => "loopback_address",
            Self::LinkLocal => "link_local_address",
            Self::Metadata => "metadata_address",
            Self::IetfProtocol => "ietf_protocol_address",
            Self::Documentation => "documentation_address",
            Self::Benchmarking => "benchmarking_address",
            Self::As112 => "as112_address",
            Self::Amt => "amt_address",
            Self::SixToFourRelay => "6to4_relay_address",
            Self::Multicast => "multicast_address",
            Self::Reserved => "reserved_address",
            Self::Broadcast => "broadcast_address",
            Self::UniqueLocal => "unique_local_address",
            Self::SiteLocal => "site_local_address",
            Self::NotGlobalUnicast => "not_global_unicast_address",
            Self::EmbeddedV4 => "embedded_ipv4_address",
        }
    }

    /// Whether a page may reach the address without an exception.
    pub fn is_global(self) -> bool {
        self == Self::Global
    }

    /// Whether a named exception can open the address at all: private and documentation ranges and the like,
    /// never metadata, never the pod itself or its link, never multicast, never a disguised IPv4 address.
    pub fn may_be_excepted(self) -> bool {
        matches!(
            self,
            Self::Global
                | Self::Private
                | Self::SharedCgnat
                | Self::Documentation
                | Self::Benchmarking
                | Self::UniqueLocal
        )
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let s = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix)
}

/// IPv4: first match wins, so narrow rows stand before the wide ones that hold them.
const V4: &[(Ipv4Net, AddressClass)] = &[
    // Clouds: EC2/GCP/Azure/others, ECS task, EKS pod identity, Alibaba, Oracle, Azure wire server.
    (v4(169, 254, 169, 254, 32), AddressClass::Metadata),
    (v4(169, 254, 170, 2, 32), AddressClass::Metadata),
    (v4(169, 254, 170, 23, 32), AddressClass::Metadata),
    (v4(100, 100, 100, 200, 32), AddressClass::Metadata),
    (v4(192, 0, 0, 192, 32), AddressClass::Metadata),
    (v4(168, 63, 129, 16, 32), AddressClass::Metadata),
    (v4(0, 0, 0, 0, 8), AddressClass::Unspecified),
    (v4(10, 0, 0, 0, 8), AddressClass::Private),
    (v4(100, 64, 0, 0, 10), AddressClass::SharedCgnat),
    (v4(127, 0, 0, 0, 8), AddressClass::Loopback),
    (v4(169, 254, 0, 0, 16), AddressClass::LinkLocal),
    (v4(172, 16, 0, 0, 12), AddressClass::Private),
    (v4(192, 0, 0, 0, 24), AddressClass::IetfProtocol),
    (v4(192, 0, 2, 0, 24), AddressClass::Documentation),
    (v4(192, 31, 196, 0, 24), AddressClass::As112),
    (v4(192, 52, 193, 0, 24), AddressClass::Amt),
    (v4(192, 88, 99, 0, 24), AddressClass::SixToFourRelay),
    (v4(192, 168, 0, 0, 16), AddressClass::Private),
    (v4(192, 175, 48, 0, 24), AddressClass::As112),
    (v4(198, 18, 0, 0, 15), AddressClass::Benchmarking),
    (v4(198, 51, 100, 0, 24), AddressClass::Documentation),
    (v4(203, 0, 113, 0, 24), AddressClass::Documentation),
    (v4(224, 0, 0, 0, 4), AddressClass::Multicast),
    (v4(255, 255, 255, 255, 32), AddressClass::Broadcast),
    (v4(240, 0, 0, 0, 4), AddressClass::Reserved),
];

/// The only IPv6 block that is global unicast.
pub const V6_GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Special parts of [`V6_GLOBAL`].
const V6_IN_GLOBAL: &[(Ipv6Net, AddressClass)] = &[
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), AddressClass::IetfProtocol),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), AddressClass::Documentation),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), AddressClass::EmbeddedV4),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), AddressClass::As112),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), AddressClass::Documentation),
];

/// Named parts of the space outside [`V6_GLOBAL`]; what is not named is [`AddressClass::NotGlobalUnicast`].
const V6_OUTSIDE: &[(Ipv6Net, AddressClass)] = &[
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), AddressClass::Metadata),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), AddressClass::Metadata),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), AddressClass::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), AddressClass::Loopback),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), AddressClass::EmbeddedV4),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), AddressClass::EmbeddedV4),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), AddressClass::EmbeddedV4),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), AddressClass::EmbeddedV4),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), AddressClass::UniqueLocal),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), AddressClass::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), AddressClass::SiteLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), AddressClass::Multicast),
];

/// Classifies an address. IPv4-mapped IPv6 addresses are judged as the IPv4 address they are, since a dial
/// of one is a dial of the other; every other embedding is refused as such.
pub fn classify(ip: IpAddr) -> AddressClass {
    match ip.to_canonical() {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> AddressClass {
    V4.iter()
        .find(|(net, _)| net.contains(&ip))
        .map_or(AddressClass::Global, |(_, class)| *class)
}

fn classify_v6(ip: Ipv6Addr) -> AddressClass {
    let (table, otherwise) = if V6_GLOBAL.contains(&ip) {
        (V6_IN_GLOBAL, AddressClass::Global)
    } else {
        (V6_OUTSIDE, AddressClass::NotGlobalUnicast)
    };
    let class = table
        .iter()
        .find(|(net, _)| net.contains(&ip))
        .map_or(otherwise, |(_, class)| *class);
    if class == AddressClass::Global && is_isatap(ip) {
        AddressClass::EmbeddedV4
    } else {
        class
    }
}

/// ISATAP interface identifiers (RFC 5214 section 6.1): `0000:5efe` or `0200:5efe`, then an IPv4 address.
fn is_isatap(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    (s[4] == 0 || s[4] == 0x0200) && s[5] == 0x5efe
}

/// The IPv4 ranges that a NetworkPolicy excepts from `0.0.0.0/0`: the table without rows that a wider row holds.
pub fn v4_excepts() -> Vec<Ipv4Net> {
    let nets: Vec<Ipv4Net> = V4.iter().map(|(net, _)| *net).collect();
    Ipv4Net::aggregate(&nets)
}

/// The metadata and credential services of clouds, which no exception opens, wherever they lie.
pub fn metadata() -> Vec<IpNet> {
    let v4 = V4.iter().map(|(net, class)| (IpNet::V4(*net), *class));
    let v6 = V6_IN_GLOBAL.iter().chain(V6_OUTSIDE);
    let v6 = v6.map(|(net, class)| (IpNet::V6(*net), *class));
    let rows = v4.chain(v6).filter(|(_, class)| *class == AddressClass::Metadata);
    rows.map(|(net, _)| net).collect()
}

/// The IPv6 ranges that a NetworkPolicy excepts from [`V6_GLOBAL`].
pub fn v6_excepts() -> Vec<Ipv6Net> {
    let nets: Vec<Ipv6Net> = V6_IN_GLOBAL.iter().map(|(net, _)| *net).collect();
    Ipv6Net::aggregate(&nets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> AddressClass {
        classify(text.parse().unwrap())
    }

    #[test]
    fn every_row_holds_its_first_and_last_address_and_neither_neighbour_of_the_aggregate() {
        for net in v4_excepts() {
            assert!(!classify_v4(net.network()).is_global(), "{net} first");
            assert!(!classify_v4(net.broadcast()).is_global(), "{net} last");
            let before = u32::from(net.network()).checked_sub(1).map(Ipv4Addr::from);
            let after = u32::from(net.broadcast()).checked_add(1).map(Ipv4Addr::from);
            for neighbour in [before, after].into_iter().flatten() {
                let excepted = v4_excepts().iter().any(|other| other.contains(&neighbour));
                assert_eq!(
                    classify_v4(neighbour).is_global(),
                    !excepted,
                    "{neighbour} beside {net}"
                );
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
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
        ] {
            assert_eq!(class(ip), AddressClass::Metadata, "{ip}");
            assert!(!class(ip).may_be_excepted(), "{ip}");
        }
    }

    #[test]
    fn disguised_ipv4_is_refused_whatever_it_carries() {
        for ip in [
            "2002:0808:0808::1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "::8.8.8.8",
            "::ffff:0:8.8.8.8",
            "2606:4700::5efe:10.0.0.1",
            "2606:4700::200:5efe:8.8.8.8",
        ] {
            assert_eq!(class(ip), AddressClass::EmbeddedV4, "{ip}");
        }
        assert_eq!(class("2001:0:1::1"), AddressClass::IetfProtocol); // Teredo lies in 2001::/23
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

    #[test]
    fn a_network_policy_block_takes_the_excepts() {
        // Calico and others refuse more than 32 or so; an except must be a strict subset of its block.
        assert!(v4_excepts().len() <= 32 && v6_excepts().len() <= 32);
        assert!(v4_excepts().iter().all(|net| net.prefix_len() > 0));
        assert!(
            v6_excepts()
                .iter()
                .all(|net| V6_GLOBAL.contains(net) && net.prefix_len() > 3)
        );
    }

    proptest! {
        #[test]
        fn proxy_and_network_policy_agree_on_every_ipv4_address(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            let excepted = v4_excepts().iter().any(|net| net.contains(&ip));
            prop_assert_eq!(classify(IpAddr::V4(ip)).is_global(), !excepted);
        }

        #[test]
        fn the_proxy_is_never_more_lenient_than_the_network_policy_on_ipv6(bits: u128) {
            let ip = Ipv6Addr::from(bits);
            let admitted = V6_GLOBAL.contains(&ip) && !v6_excepts().iter().any(|net| net.contains(&ip));
            let global = classify_v6(ip).is_global();
            prop_assert!(!global || admitted);
            prop_assert!(global == admitted || is_isatap(ip));
        }
    }
}
