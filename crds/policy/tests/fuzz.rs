//! Fuzz targets of the contract, on stable: hosts, ranges, policy and keyset files.
//!
//! Each target takes seeds, breaks them in the ways in which bytes break (flips, cuts, repeats, splices, digits grown,
//! words of the grammar put in) and asks for properties, not for values. They run for `FUZZ_SECONDS` (default: a
//! moment, so that the targets themselves never rot); `make fuzz` gives them more. A failure prints seed and input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

#[path = "fuzz/engine.rs"]
mod engine;

use std::net::IpAddr;

use engine::fuzz;
use ipnet::IpNet;
use screenshot_policy::address::classify;
use screenshot_policy::cidr::Cidr;
use screenshot_policy::domain::DomainRule;
use screenshot_policy::host::Host;
use screenshot_policy::keyset::Keyset;
use screenshot_policy::policy::{CaptureLimits, Ceiling, EffectivePolicy, PolicyDocument};

const HOSTS: &[&str] = &[
    "example.com",
    "WWW.Example.COM.",
    "a_b.c-d.example.org",
    "xn--bcher-kva.example",
    "93.184.216.34",
    "0x7f.0.0.1",
    "017700000001",
    "2130706433",
    "[2606:4700::1]",
    "[::ffff:127.0.0.1]",
    "[fe80::1%25eth0]",
    "web.shop.svc.cluster.local",
];
const HOST_WORDS: &[&str] = &[
    ".",
    "..",
    "-",
    "0x",
    "%2e",
    "[",
    "]",
    ":",
    "::",
    "@",
    "/",
    "\\",
    "\0",
    "\u{3002}",
    "xn--",
    "255",
    "localhost",
];

#[test]
fn fuzz_host() {
    fuzz(HOSTS, HOST_WORDS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(host) = text.parse::<Host>() else { return };
        // What is accepted has one spelling, which is accepted as itself and holds nothing that a URL gives meaning to.
        let canonical = host.to_string();
        assert_eq!(canonical.parse::<Host>(), Ok(host.clone()));
        assert!(
            !canonical.contains(['@', '/', '\\', '%', '?', '#', ' ', '\0']),
            "{canonical}"
        );
        assert_eq!(canonical, canonical.to_ascii_lowercase());
        match host {
            Host::Name(name) => {
                assert!(!name.as_str().is_empty() && name.as_str().len() <= 253);
                // No resolver that knows other spellings may take a name for an address.
                assert!(canonical.parse::<IpAddr>().is_err(), "{canonical}");
                let last = canonical.rsplit('.').next().unwrap();
                assert!(
                    !last.bytes().all(|b| b.is_ascii_digit()) && !last.starts_with("0x") || !is_number(last),
                    "{canonical}"
                );
                assert!(
                    canonical.split('.').all(|label| (1..=63).contains(&label.len())),
                    "{canonical}"
                );
            }
            Host::Ip(ip) => {
                let bare = canonical.trim_start_matches('[').trim_end_matches(']');
                assert_eq!(bare.parse::<IpAddr>(), Ok(ip));
            }
        }
    });
}

fn is_number(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_digit())
        || label
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[test]
fn fuzz_domain_rule() {
    fuzz(&["example.com", "*.example.com", "*.a.b.c"], HOST_WORDS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(rule) = text.parse::<DomainRule>() else { return };
        assert_eq!(rule.to_string().parse::<DomainRule>(), Ok(rule));
    });
}

#[test]
fn fuzz_cidr() {
    let seeds = [
        "10.0.0.0/8",
        "0.0.0.0/0",
        "2000::/3",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "255.255.255.255/32",
    ];
    fuzz(
        &seeds,
        &["/", "0", "08", "128", "33", ":", "::", ".", "+", "-1", "%1"],
        |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let Ok(cidr) = text.parse::<Cidr>() else { return };
            assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
            let (address, _) = text.split_once('/').unwrap();
            // Nothing is taken for what a stricter reader would refuse or read differently.
            assert_eq!(address.parse::<IpAddr>(), Ok(cidr.net().network()));
            let _ = (classify(cidr.net().network()), classify(cidr.net().broadcast()));
        },
    );
}

#[test]
fn fuzz_policy_file() {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    let plain = EffectivePolicy::resolve(&Ceiling::compiled(), document.clone())
        .unwrap()
        .canonical_json();
    document.egress.exceptions = serde_json::from_str(
        r#"[{"host":"web.t1.svc","ports":[8080],"cidr":"10.0.0.0/8","reason":"r","expires":"2027-01-01T00:00:00Z"},{"host":"b.t1.svc","ports":[8080],"cidr":"fd64::/16","reason":"r","expires":"2027-01-01T00:00:00Z"}]"#,
    )
    .unwrap();
    document.egress.domains = serde_json::from_str(r#"{"allow":["*.example.com"],"deny":["evil.com"]}"#).unwrap();
    document.egress.tls.hosts = serde_json::from_str(
        r#"[{"host":"web.t1.svc","trust":"PinnedKey","spkiPins":["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="],"reason":"r","expires":"2027-01-01T00:00:00Z"}]"#,
    )
    .unwrap();
    document.egress.nat64_prefixes = ["64:ff9b::/96", "fd64:ff9b::/96"]
        .map(|text| text.parse().unwrap())
        .into();
    let rich = EffectivePolicy::resolve(&Ceiling::compiled(), document)
        .unwrap()
        .canonical_json();
    let words = [
        "\"version\":2",
        "\"ports\":[22]",
        "null",
        "0",
        "-1",
        "1e9",
        "9007199254740993",
        "[]",
        "{}",
        "\"\"",
        ",",
        ":",
        "}",
        "]",
        "\"169.254.169.254\"",
        "\"0.0.0.0/0\"",
        "\"Degraded\"",
        "\"allowAll\":true,",
        "\\u0000",
        "\"*.com\"",
        "\"::ffff:0:0/96\"",
        "\"PublicAuthorities\"",
        "\"spkiPins\":[],",
    ];
    fuzz(&[&plain, &rich], &words, |bytes| {
        match EffectivePolicy::load(bytes) {
            // Whatever was loaded is bounded, and is the same policy when it is written and loaded again.
            Ok(policy) => {
                assert!(policy.limits().within(&CaptureLimits::CEILING));
                assert!(
                    policy
                        .egress_ports()
                        .iter()
                        .all(|port| matches!(port.get(), 80 | 443 | 1024..))
                );
                assert_eq!(
                    EffectivePolicy::load(policy.canonical_json().as_bytes()),
                    Ok(policy.clone())
                );
                for host in policy.tls_hosts() {
                    assert_eq!(host.check(), Ok(()));
                }
                // The metadata address, and what leads to it through the network's own prefixes.
                let metadata: [IpNet; 1] = ["169.254.169.254/32".parse().unwrap()];
                let prefixes = policy.egress().nat64_prefixes.iter();
                let images: Vec<IpNet> = prefixes.flat_map(|prefix| prefix.images(&metadata)).collect();
                let mut opened = policy.open_blocks();
                opened.extend(policy.exceptions().iter().flat_map(|one| policy.exception_blocks(one)));
                opened.extend(
                    policy
                        .upstream()
                        .into_iter()
                        .flat_map(|one| policy.upstream_blocks(one)),
                );
                for ip in metadata.iter().chain(&images).map(IpNet::network) {
                    assert!(!opened.iter().any(|block| block.opens(ip)), "{ip}");
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 200, "{text}");
            }
        }
    });
}

#[test]
fn fuzz_keyset_file() {
    let seed = r#"{"version":1,"revision":7,"keys":[{"kid":"abcdefgh","client":"web","scopes":["capture:url","capture:html"],"digest":"0000000000000000000000000000000000000000000000000000000000000000","state":"Retiring","notBefore":"2026-01-01T00:00:00Z","retireAfter":"2027-01-01T00:00:00Z"}]}"#;
    assert!(Keyset::parse(seed.as_bytes()).is_ok());
    let words = [
        "null",
        "\"Active\"",
        "\"capture:url\"",
        "[]",
        "{}",
        "\"\"",
        "-1",
        "18446744073709551616",
        "\"kid\":\"abcdefgh\",",
        ",",
    ];
    fuzz(&[seed], &words, |bytes| {
        let Ok(keyset) = Keyset::parse(bytes) else { return };
        assert!(!keyset.keys.is_empty() && keyset.keys.iter().all(|key| !key.scopes.is_empty()));
        assert_eq!(Keyset::parse(keyset.canonical_json().as_bytes()), Ok(keyset.clone()));
        let text = String::from_utf8_lossy(bytes);
        assert!(keyset.verify(&text, "2026-06-01T00:00:00Z".parse().unwrap()).is_err());
    });
}
