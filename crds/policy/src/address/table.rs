//! The rows: every special range with its class.
//!
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries, IPv4 Multicast Address Space Registry, IPv6
//! Address Space registry (RFC 6890 family), and the documented metadata and credential addresses of clouds.
//! First match wins, so narrow rows stand before the wide ones that hold them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::class::AddressClass;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let s = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix)
}

/// IPv4; what no row holds is global.
pub(super) const V4: &[(Ipv4Net, AddressClass)] = &[
    // EC2, GCP, Azure, OCI and others; ECS task; EKS pod identity; Tencent; Scaleway.
    (v4(169, 254, 169, 254, 32), AddressClass::Metadata),
    (v4(169, 254, 170, 2, 32), AddressClass::Metadata),
    (v4(169, 254, 170, 23, 32), AddressClass::Metadata),
    (v4(169, 254, 0, 23, 32), AddressClass::Metadata),
    (v4(169, 254, 42, 42, 32), AddressClass::Metadata),
    // Alibaba; Oracle's older address; Azure's wire server, which is a public address.
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

/// The IPv6 block of private addresses, RFC 4193.
pub const UNIQUE_LOCAL: Ipv6Net = v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7);

/// Special parts of [`V6_GLOBAL`]; what no row holds is global.
pub(super) const V6_IN_GLOBAL: &[(Ipv6Net, AddressClass)] = &[
    // Teredo carries the client's and the server's IPv4 address (RFC 4380).
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), AddressClass::EmbeddedV4),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), AddressClass::Benchmarking),
    (v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), AddressClass::Amt),
    (v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), AddressClass::As112),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), AddressClass::IetfProtocol),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), AddressClass::Documentation),
    // 6to4, RFC 3056.
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), AddressClass::EmbeddedV4),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), AddressClass::As112),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), AddressClass::Documentation),
];

/// Named parts of the space outside [`V6_GLOBAL`]; what is not named is [`AddressClass::NotGlobalUnicast`].
pub(super) const V6_OUTSIDE: &[(Ipv6Net, AddressClass)] = &[
    // EC2; EKS pod identity; GCP; Scaleway; Akamai; Oracle; Alibaba; OpenStack.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), AddressClass::Metadata),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), AddressClass::Metadata),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), AddressClass::Metadata),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), AddressClass::Metadata),
    (v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128), AddressClass::Metadata),
    (
        v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
        AddressClass::Metadata,
    ),
    (
        v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128),
        AddressClass::Metadata,
    ),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), AddressClass::Metadata),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), AddressClass::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), AddressClass::Loopback),
    // IPv4-compatible (RFC 4291); SIIT (RFC 2765); NAT64 well-known and local (RFC 6052, RFC 8215).
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), AddressClass::EmbeddedV4),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), AddressClass::EmbeddedV4),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), AddressClass::EmbeddedV4),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), AddressClass::EmbeddedV4),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), AddressClass::Discard),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), AddressClass::Discard),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), AddressClass::SegmentRouting),
    (UNIQUE_LOCAL, AddressClass::UniqueLocal),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), AddressClass::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), AddressClass::SiteLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), AddressClass::Multicast),
];
