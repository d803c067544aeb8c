//! Who is admitted, name by name and address by address.

use super::*;
use crate::cluster::ClusterRanges;
use crate::policy::{Ceiling, PolicyDocument};

const NOW: &str = "2026-11-25T00:00:00Z";

fn exception(host: &str, cidr: Option<&str>) -> EgressException {
    EgressException {
        host: host.parse().unwrap(),
        ports: vec![Port::try_from(8080u64).unwrap()],
        cidr: cidr.map(|text| text.parse().unwrap()),
        reason: "a test".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
    }
}

fn policy(exceptions: Vec<EgressException>) -> EffectivePolicy {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    document.egress.exceptions = exceptions;
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

fn judge(policy: &EffectivePolicy, host: &str, port: u16, addresses: &[&str], at: &str) -> Result<usize, &'static str> {
    let now = at.parse().unwrap();
    let verdict = policy
        .admit_host(&host.parse().unwrap(), port, now)
        .map_err(|refusal| refusal.reason())?;
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    policy
        .admit_addresses(&verdict, &addresses, now)
        .map(|list| list.len())
        .map_err(|refusal| refusal.reason())
}

#[test]
fn without_exceptions_only_global_addresses_on_open_ports_pass() {
    let policy = policy(vec![]);
    assert_eq!(judge(&policy, "example.com", 443, &["93.184.216.34"], NOW), Ok(1));
    assert_eq!(
        judge(&policy, "example.com", 8080, &["93.184.216.34"], NOW),
        Err("port_not_allowed")
    );
    assert_eq!(
        judge(&policy, "example.com", 80, &["93.184.216.34", "10.0.0.1"], NOW),
        Err("private_address")
    );
    assert_eq!(
        judge(&policy, "example.com", 80, &["169.254.169.254"], NOW),
        Err("metadata_address")
    );
    assert_eq!(
        judge(&policy, "example.com", 80, &["::ffff:127.0.0.1"], NOW),
        Err("loopback_address")
    );
    assert_eq!(judge(&policy, "example.com", 80, &[], NOW), Err("no_address"));
    assert_eq!(
        judge(&policy, "example.com", 80, &["8.8.8.8"; 65], NOW),
        Err("too_many_addresses")
    );
    assert_eq!(judge(&policy, "web.t1.svc", 80, &["8.8.8.8"], NOW), Err("cluster_name"));
    assert_eq!(
        judge(&policy, "127.0.0.1", 80, &["127.0.0.1"], NOW),
        Err("loopback_address")
    );
}

#[test]
fn an_exception_opens_its_host_and_port_until_it_expires() {
    let policy = policy(vec![exception("web.t1.svc.cluster.local", None)]);
    let host = "web.t1.svc.cluster.local";
    assert_eq!(judge(&policy, host, 8080, &["10.96.0.7"], NOW), Ok(1));
    assert_eq!(judge(&policy, host, 8081, &["10.96.0.7"], NOW), Err("cluster_name"));
    assert_eq!(
        judge(&policy, "other.t1.svc.cluster.local", 8080, &["10.96.0.7"], NOW),
        Err("cluster_name")
    );
    assert_eq!(
        judge(&policy, host, 8080, &["10.96.0.7"], "2026-11-30T23:59:59Z"),
        Ok(1)
    );
    assert_eq!(
        judge(&policy, host, 8080, &["10.96.0.7"], "2026-12-01T00:00:00Z"),
        Err("cluster_name")
    );
}

#[test]
fn an_exception_that_ends_between_the_two_decisions_admits_nothing() {
    let policy = policy(vec![exception("web.t1.svc", None)]);
    let verdict = policy
        .admit_host(&"web.t1.svc".parse().unwrap(), 8080, NOW.parse().unwrap())
        .unwrap();
    let late = "2026-12-02T00:00:00Z".parse().unwrap();
    assert_eq!(
        policy.admit_addresses(&verdict, &["10.96.0.7".parse().unwrap()], late),
        Err(Refusal::OutsideException)
    );
}

#[test]
fn no_exception_opens_metadata_loopback_or_link_addresses() {
    let policy = policy(vec![exception("web.t1.svc", None)]);
    for (ip, reason) in [
        ("169.254.169.254", "metadata_address"),
        ("168.63.129.16", "metadata_address"),
        ("127.0.0.1", "loopback_address"),
        ("169.254.7.7", "link_local_address"),
        ("::1", "loopback_address"),
        ("fd00:ec2::254", "metadata_address"),
        ("fd00:c1::a9fe:a9fe", "metadata_address"),
    ] {
        assert_eq!(judge(&policy, "web.t1.svc", 8080, &[ip], NOW), Err(reason), "{ip}");
    }
}

#[test]
fn an_exception_with_a_range_admits_only_addresses_in_it() {
    let policy = policy(vec![exception("intra.example.org", Some("10.1.0.0/16"))]);
    assert_eq!(judge(&policy, "intra.example.org", 8080, &["10.1.2.3"], NOW), Ok(1));
    assert_eq!(
        judge(&policy, "intra.example.org", 8080, &["10.2.2.3"], NOW),
        Err("outside_exception")
    );
    assert_eq!(
        judge(&policy, "intra.example.org", 8080, &["10.1.2.3", "8.8.8.8"], NOW),
        Err("outside_exception")
    );
}

#[test]
fn of_several_exceptions_for_one_host_each_opens_its_range() {
    let ranges = ["10.1.0.0/16", "10.3.0.0/16"].map(|range| exception("intra.example.org", Some(range)));
    let policy = policy(ranges.to_vec());
    let judged = |addresses: &[&str]| judge(&policy, "intra.example.org", 8080, addresses, NOW);
    assert_eq!(judged(&["10.1.2.3"]), Ok(1));
    assert_eq!(judged(&["10.3.2.3", "10.1.2.3"]), Ok(2));
    assert_eq!(judged(&["10.3.2.3", "10.2.2.3"]), Err("outside_exception"));
}

#[test]
fn exceptions_that_could_never_act_or_always_act_are_refused() {
    let never = |class| Err(ExceptionError::NeverExcepted(class));
    for (host, cidr, expected) in [
        ("169.254.169.254", None, never(AddressClass::Metadata)),
        ("168.63.129.16", None, never(AddressClass::Metadata)),
        ("[::1]", None, never(AddressClass::Loopback)),
        ("a.example.org", Some("127.0.0.0/8"), never(AddressClass::Loopback)),
        ("a.example.org", Some("fe80::/64"), never(AddressClass::Metadata)),
        ("a.example.org", Some("fe80:0:0:1::/64"), never(AddressClass::LinkLocal)),
        ("a.example.org", Some("0.0.0.0/0"), never(AddressClass::Metadata)),
        ("a.example.org", Some("::/0"), never(AddressClass::Metadata)),
        // Ranges whose first address is harmless.
        ("a.example.org", Some("100.64.0.0/10"), never(AddressClass::Metadata)),
        ("a.example.org", Some("168.0.0.0/8"), never(AddressClass::Metadata)),
        ("a.example.org", Some("128.0.0.0/1"), never(AddressClass::Metadata)),
        ("a.example.org", Some("fd00::/8"), never(AddressClass::Metadata)),
        ("a.example.org", Some("224.0.0.0/4"), never(AddressClass::Multicast)),
        ("a.example.org", Some("192.0.0.0/2"), never(AddressClass::Metadata)),
        ("a.example.org", Some("193.0.0.0/8"), Ok(())),
        ("a.example.org", Some("fc00::/6"), never(AddressClass::Metadata)),
        ("a.example.org", Some("10.0.0.0/8"), Ok(())),
        ("a.example.org", Some("fd12::/16"), Ok(())),
        ("a.example.org", Some("2000::/3"), Ok(())),
        ("10.1.2.3", None, Ok(())),
        ("a.example.org", None, Ok(())),
    ] {
        assert_eq!(exception(host, cidr).check(&[]), expected, "{host} {cidr:?}");
    }
    let ports = |count: u64| EgressException {
        ports: (1..=count).map(|port| Port::try_from(port).unwrap()).collect(),
        ..exception("a.b", None)
    };
    assert_eq!(ports(0).check(&[]), Err(ExceptionError::Ports));
    assert_eq!(ports(16).check(&[]), Ok(()));
    assert_eq!(ports(17).check(&[]), Err(ExceptionError::Ports));
}

#[test]
fn an_exception_behind_a_nat64_prefix_is_judged_by_what_it_leads_to() {
    let never = |class| Err(ExceptionError::NeverExcepted(class));
    let prefixes: Vec<crate::address::Nat64Prefix> = all(&["fd64:ff9b::/96", "64:ff9b::/96"]);
    for (host, cidr, expected) in [
        ("[fd64:ff9b::a9fe:a9fe]", None, never(AddressClass::Metadata)),
        ("[fd64:ff9b::7f00:1]", None, never(AddressClass::Loopback)),
        ("a.b", Some("fd64:ff9b::a9fe:0/112"), never(AddressClass::Metadata)),
        ("a.b", Some("fd64:ff9b::a9fe:100/120"), never(AddressClass::LinkLocal)),
        ("a.b", Some("fd64:ff9b::a800:0/104"), never(AddressClass::Metadata)),
        ("a.b", Some("fd64:ff9b::/96"), never(AddressClass::Metadata)),
        ("a.b", Some("fd64:ff9b::a00:0/104"), Ok(())),
        ("[fd64:ff9b::a01:203]", None, Ok(())),
        // About more than the prefix.
        ("a.b", Some("fd64:ff9b::/48"), Ok(())),
        // A prefix opens nothing that is refused without it.
        ("a.b", Some("64:ff9b::a00:0/104"), never(AddressClass::EmbeddedV4)),
    ] {
        assert_eq!(exception(host, cidr).check(&prefixes), expected, "{host} {cidr:?}");
    }
    // Shorter prefixes have a zero octet among the bits of the address.
    let short: Vec<crate::address::Nat64Prefix> = all(&["fd64::/32", "fd65::/48"]);
    for (cidr, expected) in [
        ("fd64:0:a00::/40", Ok(())),
        ("fd65:0:0:a01::/64", Ok(())),
        ("fd65:0:0:a01:2::/80", Ok(())),
        ("fd64:0:a9fe::/48", never(AddressClass::Metadata)),
        ("fd64:0:a9fe:100::/56", never(AddressClass::LinkLocal)),
        ("fd64:0:a00:1:100::/72", never(AddressClass::EmbeddedV4)),
    ] {
        assert_eq!(exception("a.b", Some(cidr)).check(&short), expected, "{cidr}");
    }
    assert_eq!(
        exception("[fd64:ff9b::a9fe:a9fe]", None).check(&[]),
        Ok(()),
        "not configured"
    );
}

fn with(change: impl FnOnce(&mut crate::policy::EgressRules)) -> EffectivePolicy {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    change(&mut document.egress);
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

fn all<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn deny_rules_for_names_stand_above_everything_else() {
    let policy = with(|rules| {
        rules.domains.deny = all(&["*.evil.com", "web.t1.svc"]);
        rules.domains.allow = all(&["*.com"]);
        rules.exceptions = vec![
            exception("web.t1.svc", None),
            exception("a.evil.com", Some("10.0.0.0/8")),
        ];
    });
    let judge = |host: &str, port, ip: &str| judge(&policy, host, port, &[ip], NOW);
    assert_eq!(judge("www.evil.com", 443, "8.8.8.8"), Err("denied_name"));
    assert_eq!(judge("a.evil.com", 8080, "10.0.0.1"), Err("denied_name"));
    assert_eq!(judge("web.t1.svc", 8080, "10.96.0.1"), Err("denied_name"));
    assert_eq!(judge("evil.com", 443, "8.8.8.8"), Ok(1));
}

/// T27, T28: an allow entry is compared with parsed hosts and switches nothing else off.
#[test]
fn allow_rules_for_names_only_narrow() {
    let policy = with(|rules| rules.domains.allow = all(&["good.com", "*.good.com", "*.internal"]));
    let judge = |host: &str, port, ip: &str| judge(&policy, host, port, &[ip], NOW);
    assert_eq!(judge("good.com", 443, "8.8.8.8"), Ok(1));
    assert_eq!(judge("www.good.com", 80, "8.8.8.8"), Ok(1));
    assert_eq!(judge("good.com.evil.net", 443, "8.8.8.8"), Err("unlisted_name"));
    assert_eq!(judge("notgood.com", 443, "8.8.8.8"), Err("unlisted_name"));
    assert_eq!(judge("8.8.8.8", 443, "8.8.8.8"), Err("unlisted_name"));
    assert_eq!(judge("good.com", 22, "8.8.8.8"), Err("port_not_allowed"));
    assert_eq!(judge("good.com", 443, "10.0.0.1"), Err("private_address"));
    assert_eq!(judge("good.com", 443, "169.254.169.254"), Err("metadata_address"));
    assert_eq!(judge("db.internal", 443, "8.8.8.8"), Err("internal_name"));
}

#[test]
fn rules_for_addresses_hold_for_literals_and_for_every_answer() {
    let policy = with(|rules| {
        rules.cidrs.allow = all(&["8.0.0.0/8", "10.0.0.0/8", "2606:4700::/32"]);
        rules.cidrs.deny = all(&["8.8.0.0/16", "10.9.0.0/16"]);
        rules.exceptions = vec![exception("intra.com", Some("10.0.0.0/8"))];
    });
    let one = |host: &str, port, ip: &str| judge(&policy, host, port, &[ip], NOW);
    assert_eq!(one("a.com", 443, "8.1.1.1"), Ok(1));
    assert_eq!(one("8.1.1.1", 443, "8.1.1.1"), Ok(1));
    assert_eq!(one("a.com", 443, "8.8.8.8"), Err("denied_address"));
    assert_eq!(one("8.8.8.8", 443, "8.8.8.8"), Err("denied_address"));
    assert_eq!(one("a.com", 443, "9.9.9.9"), Err("unlisted_address"));
    assert_eq!(one("a.com", 443, "2606:4700::1"), Ok(1));
    assert_eq!(one("a.com", 443, "2a00::1"), Err("unlisted_address"));
    assert_eq!(
        one("a.com", 443, "10.0.0.1"),
        Err("private_address"),
        "allowed, and still special"
    );
    assert_eq!(one("intra.com", 8080, "10.1.0.1"), Ok(1));
    assert_eq!(
        one("intra.com", 8080, "10.9.0.1"),
        Err("denied_address"),
        "denied, exception or not"
    );
    assert_eq!(
        judge(&policy, "a.com", 443, &["8.1.1.1", "8.8.8.8"], NOW),
        Err("denied_address")
    );
}

#[test]
fn the_clusters_own_public_addresses_need_an_exception() {
    let policy = with(|rules| {
        rules.cluster.domain = "k8s.example.org".parse().unwrap();
        rules.cluster.cidrs = all(&["20.1.0.0/16"]);
        rules.exceptions = vec![exception("web.shop.svc.k8s.example.org", None)];
    });
    let one = |host: &str, port, ip: &str| judge(&policy, host, port, &[ip], NOW);
    assert_eq!(one("a.com", 443, "20.1.2.3"), Err("cluster_address"));
    assert_eq!(one("20.1.2.3", 443, "20.1.2.3"), Err("cluster_address"));
    assert_eq!(one("api.k8s.example.org", 443, "8.8.8.8"), Err("cluster_name"));
    assert_eq!(one("k8s.example.org", 443, "8.8.8.8"), Err("cluster_name"));
    assert_eq!(one("www.example.org", 443, "8.8.8.8"), Ok(1));
    assert_eq!(one("web.shop.svc.k8s.example.org", 8080, "20.1.2.3"), Ok(1));
}

#[test]
fn what_the_cluster_is_found_to_have_is_closed_like_what_the_policy_says_and_leaves_its_digest() {
    let plain = with(|rules| rules.exceptions = vec![exception("web.shop.svc", None)]);
    let ranges = ClusterRanges::closing(["20.1.2.3/32".parse().unwrap(), "2a00:1::/48".parse().unwrap()]);
    let policy = plain.clone().in_cluster(ranges);
    let one = |policy: &EffectivePolicy, host: &str, port, ip: &str| judge(policy, host, port, &[ip], NOW);
    for ip in ["20.1.2.3", "2a00:1::5"] {
        assert_eq!(one(&plain, "a.com", 443, ip), Ok(1), "{ip}");
        assert_eq!(one(&policy, "a.com", 443, ip), Err("cluster_address"), "{ip}");
        assert_eq!(
            one(&policy, "web.shop.svc", 8080, ip),
            Ok(1),
            "an exception opens it: {ip}"
        );
    }
    assert_eq!(one(&policy, "20.1.2.3", 443, "20.1.2.3"), Err("cluster_address"));
    assert_eq!(one(&policy, "a.com", 443, "20.1.2.4"), Ok(1));
    assert_eq!(
        (policy.digest(), policy.canonical_json()),
        (plain.digest(), plain.canonical_json())
    );
}

#[test]
fn a_name_may_be_an_alias_of_public_names_only_and_not_of_too_many() {
    let policy = with(|rules| {
        rules.domains.deny = all(&["*.evil.com"]);
        rules.domains.allow = all(&["a.com"]);
        rules.cluster.domain = "k8s.example.org".parse().unwrap();
        rules.exceptions = vec![exception("intra.com", Some("10.0.0.0/8"))];
    });
    let judge = |host: &str, port, aliases: &[&str]| {
        let verdict = policy
            .admit_host(&host.parse().unwrap(), port, NOW.parse().unwrap())
            .unwrap();
        policy
            .admit_aliases(&verdict, &all(aliases))
            .map_err(|refusal| refusal.reason())
    };
    assert_eq!(
        judge("a.com", 443, &["cdn.net", "edge.cdn.net"]),
        Ok(()),
        "aliases need not be listed"
    );
    assert_eq!(
        judge("a.com", 443, &["cdn.net", "kubernetes.default.svc"]),
        Err("cluster_name")
    );
    assert_eq!(judge("a.com", 443, &["api.k8s.example.org"]), Err("cluster_name"));
    assert_eq!(judge("a.com", 443, &["localhost"]), Err("localhost_name"));
    assert_eq!(judge("a.com", 443, &["x.evil.com"]), Err("denied_name"));
    assert_eq!(
        judge("intra.com", 8080, &["web.shop.svc.cluster.local"]),
        Ok(()),
        "the exception names the host"
    );
    assert_eq!(judge("intra.com", 8080, &["x.evil.com"]), Err("denied_name"));
    assert_eq!(judge("a.com", 443, &["cdn.net"; 8]), Ok(()));
    assert_eq!(judge("a.com", 443, &["cdn.net"; 9]), Err("too_many_aliases"));
}

#[test]
fn a_service_that_is_opened_without_a_range_is_no_alias() {
    let judge = |exceptions: &[(&str, Option<&str>)], host: &str, aliases: &[&str]| {
        let exceptions = exceptions.iter().map(|(host, cidr)| exception(host, *cidr));
        let policy = policy(exceptions.collect());
        let verdict = policy
            .admit_host(&host.parse().unwrap(), 8080, NOW.parse().unwrap())
            .unwrap();
        policy
            .admit_aliases(&verdict, &all(aliases))
            .map_err(|refusal| refusal.reason())
    };
    let service = "web.t1.svc.cluster.local";
    assert_eq!(judge(&[(service, None)], service, &[]), Ok(()));
    for alias in ["db.corp.example", "kubernetes.default.svc.cluster.local"] {
        assert_eq!(judge(&[(service, None)], service, &[alias]), Err("outside_exception"));
        assert_eq!(
            judge(&[(service, Some("10.0.0.0/8"))], service, &[alias]),
            Ok(()),
            "its range says where it may lead"
        );
        let both = [(service, Some("10.0.0.0/8")), (service, None)];
        assert_eq!(judge(&both, service, &[alias]), Err("outside_exception"));
    }
    // One that does not hold here and now says nothing of where the others may lead.
    let (mut ended, mut elsewhere) = (exception(service, None), exception(service, None));
    ended.expires = "2020-01-01T00:00:00Z".parse().unwrap();
    elsewhere.ports = vec![Port::try_from(9090u64).unwrap()];
    let policy = policy(vec![exception(service, Some("10.0.0.0/8")), ended, elsewhere]);
    let alias = all(&["db.corp.example"]);
    for (port, expected) in [(8080, Ok(())), (9090, Err(Refusal::OutsideException))] {
        let verdict = policy
            .admit_host(&service.parse().unwrap(), port, NOW.parse().unwrap())
            .unwrap();
        assert_eq!(policy.admit_aliases(&verdict, &alias), expected, "{port}");
    }
}

#[test]
fn an_exception_that_a_deny_list_takes_away_is_known_as_such() {
    let policy = with(|rules| {
        rules.domains.deny = all(&["web.t1.svc", "*.evil.com"]);
        rules.cidrs.deny = all(&["10.0.0.0/12", "192.168.1.1/32"]);
    });
    for (host, cidr, denied) in [
        ("web.t1.svc", None, true),
        ("other.t1.svc", None, false),
        ("x.evil.com", Some("10.200.0.0/16"), true),
        ("a.com", Some("10.1.0.0/16"), true),
        ("a.com", Some("10.0.0.0/11"), false),
        ("192.168.1.1", None, true),
        ("192.168.1.2", None, false),
    ] {
        let exception = exception(host, cidr);
        assert_eq!(policy.denies_exception(&exception), denied, "{host} {cidr:?}");
        assert!(!denied || policy.exception_blocks(&exception).is_empty(), "{host}");
    }
}

#[test]
fn a_rule_that_allows_only_what_is_closed_anyway_is_known_as_such() {
    let policy = with(|rules| rules.cluster.domain = "k8s.example.org".parse().unwrap());
    for (rule, nothing) in [
        ("good.com", false),
        ("*.good.com", false),
        ("*.com", false),
        ("com", true),
        ("db.internal", true),
        ("*.internal", true),
        ("*.svc.cluster.local", true),
        ("k8s.example.org", true),
        ("*.k8s.example.org", true),
        ("*.example.org", false),
    ] {
        assert_eq!(policy.allows_nothing(&rule.parse().unwrap()), nothing, "{rule}");
    }
}

#[test]
fn every_refusal_has_a_word_of_its_own() {
    let refusals = [
        Refusal::Port,
        Refusal::SpecialName("cluster_name"),
        Refusal::DeniedName,
        Refusal::UnlistedName,
        Refusal::SpecialAddress(AddressClass::Private),
        Refusal::DeniedAddress,
        Refusal::ClusterAddress,
        Refusal::UnlistedAddress,
        Refusal::NoAddress,
        Refusal::TooManyAddresses,
        Refusal::TooManyAliases,
        Refusal::OutsideException,
    ];
    let words: std::collections::BTreeSet<_> = refusals.iter().map(Refusal::reason).collect();
    assert_eq!(words.len(), refusals.len());
}
