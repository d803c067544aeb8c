//! The IANA registries, transcribed by themselves: the oracle for the table.
//!
//! Rows are "IPv4 Special-Purpose Address Registry" and "IPv6 Special-Purpose Address Registry" as published, each
//! with its "Globally Reachable" column. What IANA calls not reachable must never be global here. What it calls
//! reachable is listed with what is decided about it, and why.

use super::{AddressClass, classify};

/// Not globally reachable, or reachable only for protocols that no page speaks ("N/A").
const NOT_REACHABLE: &[(&str, &str)] = &[
    ("0.0.0.0/8", "This network"),
    ("0.0.0.0/32", "This host on this network"),
    ("10.0.0.0/8", "Private-Use"),
    ("100.64.0.0/10", "Shared Address Space"),
    ("127.0.0.0/8", "Loopback"),
    ("169.254.0.0/16", "Link Local"),
    ("172.16.0.0/12", "Private-Use"),
    ("192.0.0.0/24", "IETF Protocol Assignments"),
    ("192.0.0.0/29", "IPv4 Service Continuity Prefix"),
    ("192.0.0.8/32", "IPv4 dummy address"),
    ("192.0.0.170/32", "NAT64/DNS64 Discovery"),
    ("192.0.0.171/32", "NAT64/DNS64 Discovery"),
    ("192.0.2.0/24", "Documentation (TEST-NET-1)"),
    ("192.88.99.2/32", "6a44-relay anycast address"),
    ("192.88.99.0/24", "Deprecated (6to4 Relay Anycast)"),
    ("192.168.0.0/16", "Private-Use"),
    ("198.18.0.0/15", "Benchmarking"),
    ("198.51.100.0/24", "Documentation (TEST-NET-2)"),
    ("203.0.113.0/24", "Documentation (TEST-NET-3)"),
    ("240.0.0.0/4", "Reserved"),
    ("255.255.255.255/32", "Limited Broadcast"),
    ("224.0.0.0/4", "Multicast, of the multicast registry"),
    ("::1/128", "Loopback Address"),
    ("::/128", "Unspecified Address"),
    ("64:ff9b:1::/48", "IPv4-IPv6 Translat."),
    ("100::/64", "Discard-Only Address Block"),
    ("100:0:0:1::/64", "Dummy IPv6 Prefix"),
    ("2001::/23", "IETF Protocol Assignments"),
    ("2001::/32", "TEREDO"),
    ("2001:2::/48", "Benchmarking"),
    ("2001:db8::/32", "Documentation"),
    ("2001:10::/28", "Deprecated (previously ORCHID)"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "Documentation"),
    ("5f00::/16", "Segment Routing (SRv6) SIDs"),
    ("fc00::/7", "Unique-Local"),
    ("fe80::/10", "Link-Local Unicast"),
    ("fec0::/10", "Deprecated site-local, of the address space registry"),
    ("ff00::/8", "Multicast, of the address space registry"),
];

/// Globally reachable by the registry, and closed here all the same: none of it is a web site, all of it is
/// infrastructure that treats its visitors in a special way, or leads to an IPv4 address in disguise.
const REACHABLE_BUT_CLOSED: &[(&str, &str)] = &[
    ("192.0.0.9/32", "Port Control Protocol Anycast"),
    ("192.0.0.10/32", "Traversal Using Relays around NAT Anycast"),
    ("192.31.196.0/24", "AS112-v4"),
    ("192.52.193.0/24", "AMT"),
    ("192.175.48.0/24", "Direct Delegation AS112 Service"),
    ("64:ff9b::/96", "IPv4-IPv6 Translat."),
    ("2001:1::1/128", "Port Control Protocol Anycast"),
    ("2001:1::2/128", "Traversal Using Relays around NAT Anycast"),
    ("2001:1::3/128", "DNS-SD Service Registration Protocol Anycast"),
    ("2001:3::/32", "AMT"),
    ("2001:4:112::/48", "AS112-v6"),
    ("2001:20::/28", "ORCHIDv2"),
    ("2001:30::/28", "Drone Remote ID Protocol Entity Tags"),
    ("2620:4f:8000::/48", "Direct Delegation AS112 Service"),
];

#[test]
fn nothing_that_the_registries_call_special_is_global() {
    for (net, name) in NOT_REACHABLE.iter().chain(REACHABLE_BUT_CLOSED) {
        let net: ipnet::IpNet = net.parse().unwrap();
        let middle = net.hosts().next().unwrap();
        for ip in [net.network(), middle, net.broadcast()] {
            assert!(!classify(ip).is_global(), "{ip} of {net} ({name})");
        }
    }
}

#[test]
fn ipv4_mapped_addresses_are_what_they_map_to() {
    // `::ffff:0:0/96`, "IPv4-mapped Address": a socket that is given one speaks IPv4.
    for (mapped, class) in [
        ("::ffff:8.8.8.8", AddressClass::Global),
        ("::ffff:10.0.0.1", AddressClass::Private),
    ] {
        assert_eq!(classify(mapped.parse().unwrap()), class);
    }
}
