//! Classes of hosts: what a page may call an address by. There is no scheme among what is decided from: neither the proxy's
//! policy takes one, nor does a NetworkPolicy see one; what a scheme has a say in is the port.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use screenshot_operator::netpol::{Endpoint, Protocol};
use screenshot_policy::host::Host;
use screenshot_policy::policy::EffectivePolicy;

use crate::world::now;
use crate::{planned, some_policy};

/// Public names that no exception has, in forms that differ.
const PUBLIC: [&str; 6] = [
    "www.example.org",
    "example.net",
    "WWW.Example.ORG.",
    "a-b.c_d.example.org",
    "xn--bcher-kva.example.org",
    "1.example.org",
];
/// Names that never lead anywhere, one of each class.
const NEVER: [&str; 12] = [
    "localhost",
    "a.localhost",
    "printer",
    "printer.local",
    "db.internal",
    "metadata.google.internal",
    "other.web.svc",
    "other.web.svc.cluster.local",
    "router.home.arpa",
    "a.onion",
    "a.test",
    "a.invalid",
];
/// Addresses at which the policies that are generated differ.
const ADDRESSES: [[u8; 4]; 8] = [
    [93, 184, 216, 34],
    [9, 9, 9, 9],
    [163, 1, 1, 1],
    [10, 9, 1, 1],
    [10, 20, 30, 40],
    [169, 254, 169, 254],
    [127, 0, 0, 1],
    [100, 64, 0, 1],
];

fn connects(policy: &EffectivePolicy, host: &Host, address: IpAddr, port: u16) -> bool {
    let verdict = policy.admit_host(host, port, now());
    let judged = verdict.and_then(|verdict| policy.admit_addresses(&verdict, &[address], now()));
    judged.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_class_of_host_opens_what_the_network_policies_shut_and_public_names_are_all_alike(
        policy in some_policy().prop_filter("the way through an upstream is another", |policy| policy.upstream().is_none()),
        any in prop::collection::vec(any::<u32>(), 50),
        port in prop::sample::select(vec![80u16, 443, 8080, 8443, 2222, 9000]),
    ) {
        let (network, pod) = planned(&policy);
        let parse = |text: &str| text.parse::<Host>().unwrap();
        let addresses = ADDRESSES.map(Ipv4Addr::from).into_iter().chain(any.into_iter().map(Ipv4Addr::from));
        for address in addresses.map(IpAddr::V4) {
            let open = network.allows(Endpoint::Pod(&pod), Endpoint::Outside(address), Protocol::Tcp, port);
            let usual = connects(&policy, &parse(PUBLIC[0]), address, port);
            for name in PUBLIC {
                let judged = connects(&policy, &parse(name), address, port);
                prop_assert_eq!(judged, usual, "{} at {}:{}", name, address, port);
            }
            prop_assert!(open || !usual, "{}:{}", address, port);
            let literal = connects(&policy, &Host::Ip(address), address, port);
            prop_assert!(open || !literal, "literally {}:{}", address, port);
            for name in NEVER {
                prop_assert!(!connects(&policy, &parse(name), address, port), "{} at {}:{}", name, address, port);
            }
        }
    }
}
