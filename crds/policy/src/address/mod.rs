//! The one address table.
//!
//! In: an IP address. Out: its class, and for NetworkPolicies the same table as CIDR blocks.
//! [`classify`] is the one function that judges an address, [`blocks`](blocks()) the one that renders what a
//! NetworkPolicy opens; both read `table`. IPv4 is a deny list; IPv6 is deny by default with one allowed block less
//! its special parts. Which of a policy's own ranges hold an address is `reach`'s affair.

mod blocks;
mod class;
mod embedded;
mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub use blocks::{Block, MAX_EXCEPTS, blocks, holds_global, metadata, never_excepted, v4_excepts, v6_excepts};
pub use class::AddressClass;
pub use embedded::{MAX_NAT64, Nat64Error, Nat64Prefix};
pub use table::{UNIQUE_LOCAL, V6_GLOBAL};

/// Classifies an address. IPv4-mapped IPv6 addresses are judged as the IPv4 address they are, since a dial
/// of one is a dial of the other; every other embedding is refused as such.
pub fn classify(ip: IpAddr) -> AddressClass {
    match ip.to_canonical() {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

/// Classifies an address in a cluster whose network translates these prefixes to IPv4: an address in one is judged
/// as the IPv4 address that it leads to. No prefix turns what must never be reached into something else.
pub fn classify_with(ip: IpAddr, nat64: &[Nat64Prefix]) -> AddressClass {
    let plain = classify(ip);
    let IpAddr::V6(v6) = ip.to_canonical() else {
        return plain;
    };
    let Some(prefix) = nat64.iter().find(|prefix| prefix.net().contains(&v6)) else {
        return plain;
    };
    if plain.is_fixed() {
        return plain;
    }
    match prefix.decode(v6) {
        Some(v4) => classify_v4(v4),
        None => AddressClass::EmbeddedV4,
    }
}

/// The IPv4 address behind an address in one of the prefixes.
pub(crate) fn behind(ip: IpAddr, nat64: &[Nat64Prefix]) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let prefix = nat64.iter().find(|prefix| prefix.net().contains(&ip))?;
    prefix.decode(ip).map(IpAddr::V4)
}

/// First and last address of a range, and the neighbours of both where there are any: where a judgement may change.
pub fn edges(net: IpNet) -> impl Iterator<Item = IpAddr> {
    let neighbours = match net {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [first.checked_sub(1), last.checked_add(1)].map(|bits| bits.map(|bits| Ipv4Addr::from(bits).into()))
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            [first.checked_sub(1), last.checked_add(1)].map(|bits| bits.map(|bits| Ipv6Addr::from(bits).into()))
        }
    };
    let ends = [net.network(), net.broadcast()];
    ends.into_iter().chain(neighbours.into_iter().flatten())
}

/// The IPv6 ranges that mean the same on every network.
pub(crate) fn fixed() -> impl Iterator<Item = IpNet> {
    let rows = table::V6_IN_GLOBAL.iter().chain(table::V6_OUTSIDE);
    rows.filter(|(_, class)| class.is_fixed())
        .map(|(net, _)| IpNet::V6(*net))
}

fn classify_v4(ip: Ipv4Addr) -> AddressClass {
    table::V4
        .iter()
        .find(|(net, _)| net.contains(&ip))
        .map_or(AddressClass::Global, |(_, class)| *class)
}

fn classify_v6(ip: Ipv6Addr) -> AddressClass {
    let (table, otherwise) = if V6_GLOBAL.contains(&ip) {
        (table::V6_IN_GLOBAL, AddressClass::Global)
    } else {
        (table::V6_OUTSIDE, AddressClass::NotGlobalUnicast)
    };
    let class = table
        .iter()
        .find(|(net, _)| net.contains(&ip))
        .map_or(otherwise, |(_, class)| *class);
    // Special or not, what sends packets on to an IPv4 address of the page's choice is that.
    if !class.is_fixed() && embedded::is_isatap(ip) {
        AddressClass::EmbeddedV4
    } else {
        class
    }
}

#[cfg(test)]
mod registries;
#[cfg(test)]
mod tests;
