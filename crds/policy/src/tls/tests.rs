//! Pins have one form, exceptions a reason and an end, and what ends is the freedom.

use proptest::prelude::*;

use super::*;
use crate::policy::{Ceiling, PolicyDocument, PolicyError};

const NOW: &str = "2026-11-25T00:00:00Z";
const END: &str = "2026-12-01T00:00:00Z";
/// The digest of nothing, as `openssl dgst -sha256 -binary /dev/null | base64` says.
const EMPTY: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// An entry; with an end, an exception.
pub(crate) fn tls_host(host: &str, ends: Option<i64>) -> TlsHost {
    TlsHost {
        host: host.parse().unwrap(),
        trust: ends.map_or(Trust::PublicAuthorities, |_| Trust::PinnedKey),
        spki_pins: vec![SpkiPin::of(host.as_bytes())],
        reason: ends.map(|_| "r".parse().unwrap()),
        expires: ends.map(|second| Timestamp::from_second(second).unwrap()),
    }
}

/// Some hosts, each once, some of them exceptions, with pins in any order.
pub(crate) fn some_tls_hosts() -> impl Strategy<Value = Vec<TlsHost>> {
    let entry = (
        prop::option::of(0i64..4_000_000_000),
        prop::collection::vec(any::<[u8; 2]>(), 1..4),
    );
    prop::collection::btree_map("[a-c]\\.com", entry, 0..4).prop_map(|entries| {
        let entries = entries.into_iter().rev();
        entries
            .map(|(host, (ends, keys))| TlsHost {
                spki_pins: keys.iter().map(|key| SpkiPin::of(key)).collect(),
                ..tls_host(&host, ends)
            })
            .collect()
    })
}

/// Every host that is pinned in the second list is in the first, with the same pins and no longer an exception.
pub(crate) fn no_freer(ours: &[TlsHost], theirs: &[TlsHost]) -> bool {
    theirs.iter().all(|their| {
        let entry = ours.iter().find(|our| our.host == their.host);
        entry.is_some_and(|our| {
            our.spki_pins.iter().all(|pin| their.pins(*pin)) && our.exception_end() <= their.exception_end()
        })
    })
}

fn exception(host: &str) -> TlsHost {
    TlsHost {
        host: host.parse().unwrap(),
        trust: Trust::PinnedKey,
        spki_pins: vec![EMPTY.parse().unwrap()],
        reason: Some("a test".parse().unwrap()),
        expires: Some(END.parse().unwrap()),
    }
}

fn pinned(host: &str) -> TlsHost {
    let mut entry = exception(host);
    entry.without_exception();
    entry
}

fn resolve(ceiling: &Ceiling, hosts: Vec<TlsHost>) -> Result<EffectivePolicy, PolicyError> {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    document.egress.tls.hosts = hosts;
    EffectivePolicy::resolve(ceiling, document)
}

#[test]
fn a_pin_is_the_digest_of_a_key_in_one_form_only() {
    assert_eq!(SpkiPin::of(b"").to_string(), EMPTY);
    assert_eq!(EMPTY.parse(), Ok(SpkiPin::of(b"")));
    for text in [
        "",
        "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        // Without padding, URL-safe, with a stray bit, one byte short, one byte long, hexadecimal.
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFUA",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ] {
        assert_eq!(text.parse::<SpkiPin>(), Err(PinError), "{text}");
    }
}

#[test]
fn an_exception_needs_a_pin_a_reason_and_an_end_and_nothing_else_has_them() {
    let changed = |change: fn(&mut TlsHost)| {
        let mut entry = exception("intra.example.org");
        change(&mut entry);
        entry.check()
    };
    assert_eq!(changed(|_| ()), Ok(()));
    assert_eq!(changed(TlsHost::without_exception), Ok(()));
    assert_eq!(changed(|entry| entry.spki_pins.clear()), Err(TlsHostError::Pins));
    assert_eq!(
        changed(|entry| entry.spki_pins = vec![SpkiPin::of(b""); MAX_PINS + 1]),
        Err(TlsHostError::Pins)
    );
    assert_eq!(changed(|entry| entry.reason = None), Err(TlsHostError::Unjustified));
    assert_eq!(changed(|entry| entry.expires = None), Err(TlsHostError::Unjustified));
    for change in [
        |entry: &mut TlsHost| entry.reason = None,
        |entry: &mut TlsHost| {
            entry.expires = None;
        },
    ] {
        let mut entry = exception("intra.example.org");
        entry.trust = Trust::PublicAuthorities;
        change(&mut entry);
        assert_eq!(entry.check(), Err(TlsHostError::NoException));
    }
}

#[test]
fn an_entry_that_makes_no_sense_is_named_by_its_place() {
    let error = |hosts| resolve(&Ceiling::compiled(), hosts).unwrap_err();
    let unjustified = TlsHost {
        reason: None,
        ..exception("b.example.org")
    };
    assert_eq!(
        error(vec![pinned("a.example.org"), unjustified]),
        PolicyError::TlsHost {
            index: 1,
            error: TlsHostError::Unjustified
        }
    );
    // Two spellings of one host.
    assert_eq!(
        error(vec![pinned("[::1]"), exception("[0:0:0:0:0:0:0:1]")]),
        PolicyError::TlsHost {
            index: 1,
            error: TlsHostError::Duplicate
        }
    );
    let many = (0..=MAX_TLS_HOSTS).map(|n| pinned(&format!("a{n}.example.org")));
    assert_eq!(error(many.collect()).reason(), "policy_bounds");
}

#[test]
fn a_host_is_matched_exactly_by_its_parsed_form() {
    let policy = resolve(&Ceiling::compiled(), vec![pinned("a.example.org"), pinned("10.0.0.7")]).unwrap();
    let named = |text: &str| policy.tls_host(&text.parse().unwrap()).is_some();
    assert!(named("A.example.ORG.") && named("10.0.0.7"));
    for other in [
        "example.org",
        "b.a.example.org",
        "a.example.org.evil.net",
        "10.0.0.8",
        "[::ffff:10.0.0.7]",
    ] {
        assert!(!named(other), "{other}");
    }
}

#[test]
fn when_an_exception_ends_authorities_must_vouch_again_and_the_pins_stay() {
    let entry = exception("intra.example.org");
    let at = |text: &str| entry.trust_at(text.parse().unwrap());
    assert_eq!(at(NOW), Trust::PinnedKey);
    assert_eq!(at("2026-11-30T23:59:59.999Z"), Trust::PinnedKey);
    assert_eq!(at(END), Trust::PublicAuthorities);
    assert!(entry.pins(SpkiPin::of(b"")) && !entry.pins(SpkiPin::of(b"x")));
    assert_eq!(
        pinned("a.example.org").trust_at(NOW.parse().unwrap()),
        Trust::PublicAuthorities
    );
    assert_eq!(pinned("a.example.org").exception_end(), None);
}

#[test]
fn under_a_ceiling_without_exceptions_pins_stay_and_authorities_must_vouch() {
    let ceiling = Ceiling {
        pinned_keys: false,
        ..Ceiling::compiled()
    };
    let policy = resolve(&ceiling, vec![exception("intra.example.org")]).unwrap();
    assert_eq!(policy.tls_hosts(), [pinned("intra.example.org")]);
    let policy = resolve(&Ceiling::compiled(), vec![exception("intra.example.org")]).unwrap();
    assert_eq!(policy.tls_hosts(), [exception("intra.example.org")]);
}

#[test]
fn order_and_repetition_do_not_change_the_digest() {
    let digest = |hosts| resolve(&Ceiling::compiled(), hosts).unwrap().digest().to_owned();
    let twice = TlsHost {
        spki_pins: vec![SpkiPin::of(b"b"), SpkiPin::of(b"a"), SpkiPin::of(b"b")],
        ..pinned("a.example.org")
    };
    let once = TlsHost {
        spki_pins: vec![SpkiPin::of(b"a"), SpkiPin::of(b"b")],
        ..pinned("a.example.org")
    };
    assert_eq!(
        digest(vec![pinned("b.example.org"), twice]),
        digest(vec![once, pinned("b.example.org")])
    );
}
