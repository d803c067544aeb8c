//! The address table as lists, for rules that are written outside this program.
//!
//! In: nothing. Out: [`AddressLists`], what the chart's admission policy compares exceptions with.
//! The lists are the ones that the proxy refuses and that NetworkPolicies except; nothing is listed here by hand.

use ipnet::IpNet;
use screenshot_policy::address::{V6_GLOBAL, metadata, v4_excepts, v6_excepts};
use serde::Serialize;

/// Every IPv4 address outside `special` is public; every IPv6 address inside `global_v6` and outside `special` is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressLists {
    /// The one IPv6 block that holds public addresses.
    pub global_v6: IpNet,
    /// Metadata and credential services of clouds: no exception opens them.
    pub metadata: Vec<IpNet>,
    /// Ranges that are not public, without those outside `global_v6`.
    pub special: Vec<IpNet>,
}

/// The lists of the compiled-in table.
pub fn address_lists() -> AddressLists {
    let v4 = v4_excepts().into_iter().map(IpNet::V4);
    let v6 = v6_excepts().into_iter().map(IpNet::V6);
    AddressLists {
        global_v6: IpNet::V6(V6_GLOBAL),
        metadata: metadata(),
        special: v4.chain(v6).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use screenshot_policy::address::classify;

    use super::*;

    fn public_by_lists(ip: IpAddr) -> bool {
        let lists = address_lists();
        (ip.is_ipv4() || lists.global_v6.contains(&ip)) && !lists.special.iter().any(|net| net.contains(&ip))
    }

    #[test]
    fn the_lists_say_of_each_boundary_what_the_table_says() {
        let lists = address_lists();
        for net in lists.special.iter().chain(&lists.metadata).chain([&lists.global_v6]) {
            for ip in [net.network(), net.broadcast()] {
                assert_eq!(public_by_lists(ip), classify(ip).is_global(), "{ip} of {net}");
            }
        }
    }

    #[test]
    fn no_address_of_a_metadata_service_can_be_excepted() {
        let lists = address_lists();
        assert!(lists.metadata.len() >= 8);
        for net in lists.metadata {
            assert!(!classify(net.network()).may_be_excepted(), "{net}");
        }
    }
}
