//! Never wider than the ceiling or the request, the same when resolved again, and refused when not understood.

use jiff::Timestamp;
use proptest::prelude::*;

use super::limits::any_limits;
use super::*;
use crate::cidr::Cidr;
use crate::domain::DomainRule;
use crate::egress::{ExceptionError, no_wider_way, some_upstream};
use crate::tls::tests::{no_freer, some_tls_hosts, tls_host};

fn document() -> PolicyDocument {
    PolicyDocument::secure_default("web", "shots").unwrap()
}

fn resolved(document: PolicyDocument) -> EffectivePolicy {
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

fn load(text: &str) -> Result<EffectivePolicy, PolicyError> {
    EffectivePolicy::load(text.as_bytes())
}

#[test]
fn the_canonical_text_loads_to_the_same_policy() {
    let policy = resolved(document());
    let text = policy.canonical_json();
    assert_eq!(load(&text), Ok(policy.clone()));
    assert_eq!(
        EffectivePolicy::load_expecting(text.as_bytes(), policy.digest()),
        Ok(policy)
    );
}

#[test]
fn another_digest_is_refused() {
    let text = resolved(document()).canonical_json();
    assert_eq!(
        EffectivePolicy::load_expecting(text.as_bytes(), "sha256:00"),
        Err(PolicyError::Digest)
    );
}

#[test]
fn an_unknown_field_or_version_is_refused() {
    let text = resolved(document()).canonical_json();
    let newer = text.replacen("\"version\":1", "\"version\":2,\"news\":[]", 1);
    assert_eq!(load(&newer), Err(PolicyError::Version(2)), "the version is named first");
    let extra = text.replacen("\"version\":1", "\"version\":1,\"allowAll\":true", 1);
    assert_eq!(load(&extra).unwrap_err().reason(), "policy_syntax");
}

/// Every object of the document is closed, every field of it required, every scalar bounded; and what is said about
/// an offence never quotes it.
#[test]
fn a_document_that_breaks_a_rule_is_refused_by_the_rule_without_the_value() {
    let mut whole = document();
    whole.egress.exceptions = vec![exception("web.t1.svc", "10.0.0.0/8")];
    whole.egress.tls.hosts = vec![tls_host("tls.example.com", Some(0))];
    let text = resolved(whole).canonical_json();
    let amount = "an amount must be between 1 and 9007199254740991";
    for (from, to, rule) in [
        ("{\"version\":1", "{\"secret\":1,\"version\":1", "unknown field"),
        ("\"ports\":[80,443]", "\"ports\":[80,443],\"secret\":1", "unknown field"),
        ("\"name\":\"shots\"", "\"name\":\"shots\",\"secret\":1", "unknown field"),
        ("\"allow\":[]", "\"allow\":[],\"secret\":1", "unknown field"),
        ("\"cidr\":", "\"secret\":1,\"cidr\":", "unknown field"),
        (
            "\"mode\":\"Required\"",
            "\"mode\":\"Required\",\"secret\":1",
            "unknown field",
        ),
        ("\"deadlineMs\"", "\"secret\":1,\"deadlineMs\"", "unknown field"),
        ("\"tls\":{", "\"tls\":{\"secret\":1,", "unknown field"),
        ("\"spkiPins\"", "\"secret\":1,\"spkiPins\"", "unknown field"),
        ("\"trust\":\"PinnedKey\"", "\"trust\":\"secret\"", "unknown word"),
        ("\"trust\":\"PinnedKey\",", "", "missing field"),
        (
            "\"spkiPins\":[\"",
            "\"spkiPins\":[\"secret",
            "a pin must be 32 bytes in base64: 43 characters and '='",
        ),
        ("\"ports\":[80,443],", "", "missing field"),
        ("\"nat64Prefixes\":[],", "", "missing field"),
        (
            "\"name\":\"shots\"",
            "\"name\":\"shots\",\"name\":\"b\"",
            "duplicate field",
        ),
        ("\"Required\"", "\"secret\"", "unknown word"),
        ("\"ports\":[80,443]", "\"ports\":\"secret\"", "mistyped field"),
        ("[80,443]", "[0]", "a port must be between 1 and 65535"),
        ("[80,443]", "[65536]", "a port must be between 1 and 65535"),
        ("\"deadlineMs\":30000", "\"deadlineMs\":0", amount),
        ("\"deadlineMs\":30000", "\"deadlineMs\":9007199254740992", amount),
        ("\"deadlineMs\":30000", "\"deadlineMs\":-1", "mistyped field"),
        ("\"deadlineMs\":30000", "\"deadlineMs\":1.5", "mistyped field"),
        (
            "web.t1.svc",
            "127.1",
            "an IPv4 host must be written as four decimal numbers",
        ),
        (
            "web.t1.svc",
            "a secret",
            "host must consist of letters, digits, '-', '_' and '.'",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.1/8",
            "a range must have no bits set beyond its length",
        ),
        (
            "10.0.0.0/8",
            "::ffff:10.0.0.0/104",
            "a range must not be IPv4-mapped: write the IPv4 range",
        ),
        (
            "\"reason\":\"r\"",
            "\"reason\":\"\"",
            "a reason must have 1 to 256 characters and no control characters",
        ),
        (
            "\"shots\"",
            "\"Shots\"",
            "an object's name must be a lower-case DNS name of at most 253 characters",
        ),
        (
            "\"nat64Prefixes\":[]",
            "\"nat64Prefixes\":[\"64:ff9b::/95\"]",
            "a NAT64 prefix must be IPv6 of length 32, 40, 48, 56, 64 or 96",
        ),
        ("{", "x", "not JSON"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let error = load(&changed).expect_err(to);
        let PolicyError::Syntax { rule: found, .. } = &error else {
            panic!("{to}: {error}");
        };
        assert_eq!(found, rule, "{to}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.reason(), "policy_syntax");
    }
    assert_eq!(load("").unwrap_err().reason(), "policy_syntax");
    assert_eq!(load(&format!("{text} x")).unwrap_err().reason(), "policy_syntax");
    assert_eq!(load(&" ".repeat(MAX_DOCUMENT + 1)), Err(PolicyError::TooLarge));
}

#[test]
fn lists_are_bounded() {
    let rule = |n: usize| format!("a{n}.example.com").parse::<DomainRule>().unwrap();
    let range = |n: usize| format!("1.{}.{}.0/24", n / 256, n % 256).parse::<Cidr>().unwrap();
    let mut rows: Vec<(List, PolicyDocument)> = Vec::new();
    let mut row = |list: List, fill: &dyn Fn(&mut EgressRules, usize)| {
        let (mut most, mut more) = (document(), document());
        fill(&mut most.egress, list.bound());
        fill(&mut more.egress, list.bound() + 1);
        assert!(EffectivePolicy::resolve(&Ceiling::compiled(), most).is_ok(), "{list:?}");
        rows.push((list, more));
    };
    row(List::Ports, &|rules, n| {
        rules.ports = (0..n).map(|n| Port::try_from(8000 + n as u64).unwrap()).collect();
    });
    row(List::Domains, &|rules, n| {
        rules.domains.allow = (0..n).map(rule).collect();
    });
    row(List::Domains, &|rules, n| {
        rules.domains.deny = (0..n).map(rule).collect();
    });
    row(List::Cidrs, &|rules, n| rules.cidrs.allow = (0..n).map(range).collect());
    row(List::Cidrs, &|rules, n| rules.cidrs.deny = (0..n).map(range).collect());
    row(List::Cidrs, &|rules, n| {
        rules.cluster.cidrs = (0..n).map(range).collect();
    });
    row(List::Nat64Prefixes, &|rules, n| {
        rules.nat64_prefixes = (0..n).map(|n| format!("64:{n:x}::/96").parse().unwrap()).collect();
    });
    row(List::Exceptions, &|rules, n| {
        rules.exceptions = (0..n)
            .map(|n| exception(&format!("a{n}.example.com"), "10.0.0.0/8"))
            .collect();
    });
    row(List::TlsHosts, &|rules, n| {
        rules.tls.hosts = (0..n).map(|n| tls_host(&format!("a{n}.example.com"), None)).collect();
    });
    for (list, document) in rows {
        assert_eq!(
            EffectivePolicy::resolve(&Ceiling::compiled(), document),
            Err(PolicyError::TooMany(list))
        );
    }
}

#[test]
fn nat64_prefixes_that_overlap_are_refused() {
    let mut document = document();
    document.egress.nat64_prefixes = vec!["64:ff9b::/96".parse().unwrap(), "64:ff9b::/32".parse().unwrap()];
    assert_eq!(
        EffectivePolicy::resolve(&Ceiling::compiled(), document),
        Err(PolicyError::Nat64Overlap)
    );
}

#[test]
fn an_exception_that_could_never_act_is_named_by_its_place() {
    let mut document = document();
    document.egress.exceptions = vec![
        exception("a.example.com", "10.0.0.0/8"),
        exception("169.254.169.254", "10.0.0.0/8"),
    ];
    assert_eq!(
        EffectivePolicy::resolve(&Ceiling::compiled(), document),
        Err(PolicyError::Exception {
            index: 1,
            error: ExceptionError::NeverExcepted(crate::address::AddressClass::Metadata)
        })
    );
}

#[test]
fn order_and_repetition_in_lists_do_not_change_the_digest() {
    let digest = |ports: &[u64], denied: &[&str]| {
        let mut document = document();
        document.egress.ports = ports.iter().map(|port| Port::try_from(*port).unwrap()).collect();
        document.egress.domains.deny = denied.iter().map(|text| text.parse().unwrap()).collect();
        resolved(document).digest().to_owned()
    };
    assert_eq!(
        digest(&[443, 80, 80], &["b.com", "a.com"]),
        digest(&[80, 443], &["a.com", "B.com"])
    );
    assert_ne!(digest(&[80, 443], &["a.com"]), digest(&[80, 443], &["*.a.com"]));
}

#[test]
fn well_known_ports_of_other_protocols_are_above_the_ceiling() {
    let mut document = document();
    document.egress.ports = [22, 25, 53, 80, 443, 445, 853, 1024, 8443]
        .map(|port: u64| Port::try_from(port).unwrap())
        .into();
    let open: Vec<u16> = resolved(document)
        .egress_ports()
        .iter()
        .map(|port| port.get())
        .collect();
    assert_eq!(open, [80, 443, 1024, 8443]);
}

#[test]
fn the_default_lies_within_the_ceiling_and_survives_it() {
    assert!(CaptureLimits::DEFAULT.within(&CaptureLimits::CEILING));
    assert_eq!(*resolved(document()).document(), document());
}

fn exception(host: &str, cidr: &str) -> EgressException {
    EgressException {
        host: host.parse().unwrap(),
        ports: vec![Port::try_from(8080u64).unwrap()],
        cidr: Some(cidr.parse().unwrap()),
        reason: "r".parse().unwrap(),
        expires: "2027-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn some_port() -> impl Strategy<Value = Port> {
    let number = prop_oneof![1u64..=65_535, prop::sample::select(vec![80u64, 443, 1024, 8443])];
    number.prop_map(|number| Port::try_from(number).unwrap())
}

fn some_rules() -> impl Strategy<Value = Vec<DomainRule>> {
    let rule = "(\\*\\.)?[a-c]\\.(com|org)".prop_map(|text| text.parse().unwrap());
    prop::collection::vec(rule, 0..4)
}

fn some_ranges() -> impl Strategy<Value = Vec<Cidr>> {
    let range = (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
        let net = ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc();
        Cidr::try_from(ipnet::IpNet::V4(net)).unwrap()
    });
    prop::collection::vec(range, 0..4)
}

fn some_exceptions() -> impl Strategy<Value = Vec<EgressException>> {
    let exception = (
        "[a-c]\\.com",
        prop::collection::vec(some_port(), 1..4),
        prop::option::of((0u8..=255).prop_map(|n| format!("10.{n}.0.0/16").parse().unwrap())),
        0i64..4_000_000_000,
    );
    let exception = exception.prop_map(|(host, ports, cidr, expires)| EgressException {
        host: host.parse().unwrap(),
        ports,
        cidr,
        reason: "r".parse().unwrap(),
        expires: Timestamp::from_second(expires).unwrap(),
    });
    prop::collection::vec(exception, 0..4)
}

prop_compose! {
    fn some_document()(
        capture in any_limits(),
        ports in prop::collection::vec(some_port(), 0..8),
        (allow, deny) in (some_rules(), some_rules()),
        (allowed, denied, own) in (some_ranges(), some_ranges(), some_ranges()),
        exceptions in some_exceptions(),
        upstream in some_upstream(),
        tls_hosts in some_tls_hosts(),
        (degraded, advisory) in any::<(bool, bool)>(),
    ) -> PolicyDocument {
        let mut document = document();
        document.capture = capture;
        document.sandbox.mode = if degraded { SandboxMode::Degraded } else { SandboxMode::Required };
        document.egress.enforcement = if advisory { Enforcement::Advisory } else { Enforcement::Required };
        document.egress.ports = ports;
        document.egress.domains = DomainLists { allow, deny };
        document.egress.cidrs = CidrLists { allow: allowed, deny: denied };
        document.egress.cluster.cidrs = own;
        document.egress.exceptions = exceptions;
        document.egress.upstream_proxy = upstream;
        if document.egress.upstream_proxy.as_ref().is_some_and(|upstream| upstream.resolve == Resolution::Remote) {
            document.egress.cidrs = CidrLists::default();
        }
        document.egress.tls.hosts = tls_hosts;
        document
    }
}

prop_compose! {
    fn some_ceiling()(
        capture in any_limits(),
        ports in prop::collection::vec((any::<u16>(), any::<u16>()), 0..4),
        (degraded_sandbox, advisory_egress, remote_resolution, pinned_keys) in any::<(bool, bool, bool, bool)>(),
    ) -> Ceiling {
        let ports = ports.into_iter().map(|(a, b)| a.min(b)..=a.max(b)).collect();
        Ceiling { capture, ports, degraded_sandbox, advisory_egress, remote_resolution, pinned_keys }
    }
}

fn within<T: PartialEq>(few: &[T], many: &[T]) -> bool {
    few.iter().all(|item| many.contains(item))
}

/// All that one document lets happen, the other does too.
fn no_wider(document: &PolicyDocument, other: &PolicyDocument) -> bool {
    let (ours, theirs) = (&document.egress, &other.egress);
    let same = |a: &[Cidr], b: &[Cidr]| within(a, b) && within(b, a);
    document.capture.within(&other.capture)
        && (document.sandbox.mode == SandboxMode::Required || other.sandbox.mode == SandboxMode::Degraded)
        && (ours.enforcement == Enforcement::Required || theirs.enforcement == Enforcement::Advisory)
        && no_wider_way(ours.upstream_proxy.as_ref(), theirs.upstream_proxy.as_ref())
        && within(&ours.ports, &theirs.ports)
        && within(&ours.domains.allow, &theirs.domains.allow)
        && within(&theirs.domains.allow, &ours.domains.allow)
        && within(&theirs.domains.deny, &ours.domains.deny)
        && same(&ours.cidrs.allow, &theirs.cidrs.allow)
        && within(&theirs.cidrs.deny, &ours.cidrs.deny)
        && within(&theirs.cluster.cidrs, &ours.cluster.cidrs)
        && no_freer(&ours.tls.hosts, &theirs.tls.hosts)
        && ours.exceptions.len() == theirs.exceptions.len()
        && ours
            .exceptions
            .iter()
            .zip(&theirs.exceptions)
            .all(|(a, b)| within(&a.ports, &b.ports) && (&a.host, a.cidr, a.expires) == (&b.host, b.cidr, b.expires))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_resolves_is_never_wider_than_the_ceiling_or_the_request(
        ceiling in some_ceiling(),
        requested in some_document(),
    ) {
        let policy = EffectivePolicy::resolve(&ceiling, requested.clone()).unwrap();
        prop_assert!(policy.limits().within(&ceiling.capture));
        prop_assert!(policy.egress_ports().iter().all(|port| ceiling.ports.iter().any(|range| range.contains(&port.get()))));
        prop_assert!(ceiling.advisory_egress || policy.enforcement() == Enforcement::Required);
        prop_assert!(ceiling.pinned_keys || policy.tls_hosts().iter().all(|host| host.exception_end().is_none()));
        prop_assert!(ceiling.degraded_sandbox || policy.sandbox_mode() == SandboxMode::Required);
        let resolve = policy.upstream().map(|upstream| upstream.resolve);
        prop_assert!(ceiling.remote_resolution || resolve != Some(Resolution::Remote));
        prop_assert!(no_wider(policy.document(), &requested));
    }

    #[test]
    fn resolving_again_changes_nothing(ceiling in some_ceiling(), requested in some_document()) {
        let once = EffectivePolicy::resolve(&ceiling, requested).unwrap();
        prop_assert_eq!(EffectivePolicy::resolve(&ceiling, once.document().clone()), Ok(once));
    }

    #[test]
    fn the_server_loads_exactly_what_the_operator_planned(requested in some_document()) {
        let planned = resolved(requested);
        prop_assert_eq!(EffectivePolicy::load(planned.canonical_json().as_bytes()), Ok(planned));
    }
}
