//! Which tokens a keyset accepts, and which keysets a server.

use super::*;

fn now() -> Timestamp {
    "2026-11-25T00:00:00Z".parse().unwrap()
}

fn token(seed: u8) -> Token {
    Token::generate(&Kid::from_bytes([seed; 5]), [seed; 32])
}

fn key(seed: u8, state: KeyState) -> Key {
    let token = token(seed);
    Key {
        kid: token.kid().clone(),
        client: "default".into(),
        scopes: Scope::ALL.into(),
        digest: token.digest_hex(),
        state,
        not_before: None,
        retire_after: None,
    }
}

fn keyset(keys: Vec<Key>) -> Keyset {
    Keyset {
        version: VERSION,
        revision: 1,
        keys,
    }
}

#[test]
fn staged_active_and_retiring_keys_are_accepted_and_others_are_not() {
    let set = keyset(vec![
        key(1, KeyState::Staged),
        key(2, KeyState::Active),
        key(3, KeyState::Retiring),
    ]);
    for seed in [1, 2, 3] {
        assert_eq!(set.verify(token(seed).text(), now()).unwrap().kid, *token(seed).kid());
    }
    assert_eq!(set.verify(token(4).text(), now()), Err(Reject::Unknown));
    assert_eq!(set.verify("password", now()), Err(Reject::Malformed));
}

#[test]
fn a_key_holds_from_not_before_until_just_before_retire_after() {
    let mut bounded = key(1, KeyState::Retiring);
    bounded.not_before = Some("2026-11-25T00:00:00Z".parse().unwrap());
    bounded.retire_after = Some("2026-11-25T01:00:00Z".parse().unwrap());
    let set = keyset(vec![bounded]);
    let at = |time: &str| set.verify(token(1).text(), time.parse().unwrap()).map(|_| ());
    assert_eq!(at("2026-11-24T23:59:59Z"), Err(Reject::NotYetValid));
    assert_eq!(at("2026-11-25T00:00:00Z"), Ok(()));
    assert_eq!(at("2026-11-25T00:59:59Z"), Ok(()));
    assert_eq!(at("2026-11-25T01:00:00Z"), Err(Reject::Expired));
}

#[test]
fn canonical_text_parses_to_the_same_keyset_and_digest() {
    let set = keyset(vec![key(1, KeyState::Active)]);
    let again = Keyset::parse(set.canonical_json().as_bytes()).unwrap();
    assert_eq!((again.digest(), again), (set.digest(), set));
}

#[test]
fn bad_keysets_are_refused_whole() {
    let parse = |set: &Keyset| Keyset::parse(set.canonical_json().as_bytes()).unwrap_err();
    assert_eq!(parse(&keyset(vec![])), KeysetError::Empty);
    assert_eq!(
        parse(&keyset(vec![key(1, KeyState::Active); 2])),
        KeysetError::Duplicate(token(1).kid().clone())
    );
    assert_eq!(
        parse(&Keyset {
            version: 2,
            ..keyset(vec![key(1, KeyState::Active)])
        }),
        KeysetError::Version(2)
    );
    for digest in ["ab".into(), "A".repeat(64), "g".repeat(64), "0".repeat(65)] {
        let key = Key {
            digest,
            ..key(1, KeyState::Active)
        };
        assert_eq!(parse(&keyset(vec![key])), KeysetError::Digest(token(1).kid().clone()));
    }
    for client in [String::new(), "x".repeat(64)] {
        let key = Key {
            client,
            ..key(1, KeyState::Active)
        };
        assert_eq!(parse(&keyset(vec![key])), KeysetError::Client(token(1).kid().clone()));
    }
    let many = |count: u8| keyset((1..=count).map(|number| key(number, KeyState::Active)).collect());
    assert_eq!(parse(&many(65)), KeysetError::TooMany);
    assert!(Keyset::parse(many(64).canonical_json().as_bytes()).is_ok());
    for scopes in [vec![], vec![Scope::CaptureUrl; 2]] {
        let scoped = Key {
            scopes,
            ..key(1, KeyState::Active)
        };
        assert_eq!(
            parse(&keyset(vec![scoped])),
            KeysetError::Scopes(token(1).kid().clone())
        );
    }
    let never = Key {
        not_before: Some(now()),
        retire_after: Some(now()),
        ..key(1, KeyState::Active)
    };
    assert_eq!(parse(&keyset(vec![never])), KeysetError::Never(token(1).kid().clone()));
    assert_eq!(Keyset::parse(&vec![b' '; MAX_DOCUMENT + 1]), Err(KeysetError::TooLarge));
    let next = br#"{"version":9,"revision":"r9","keys":{},"allowAll":true}"#;
    assert_eq!(
        Keyset::parse(next).unwrap_err(),
        KeysetError::Version(9),
        "named before what is unknown in it"
    );
    let extra = br#"{"version":1,"revision":1,"keys":[],"allowAll":true}"#;
    assert!(matches!(Keyset::parse(extra), Err(KeysetError::Syntax { .. })));
    assert!(matches!(Keyset::parse(b"{"), Err(KeysetError::Syntax { .. })));
}

#[test]
fn an_unknown_scope_or_a_missing_one_is_refused_whole() {
    let text = keyset(vec![key(1, KeyState::Active)]).canonical_json();
    for (changed, rule) in [
        (text.replace("capture:url", "everything"), "unknown word"),
        (
            text.replace("\"scopes\":[\"capture:url\",\"capture:html\"],", ""),
            "missing field",
        ),
    ] {
        assert_ne!(changed, text);
        let Err(KeysetError::Syntax { rule: found, .. }) = Keyset::parse(changed.as_bytes()) else {
            panic!("accepted: {changed}");
        };
        assert_eq!(found, rule);
    }
}

/// The states of a key over time, as one table: which of three instants are accepted.
#[test]
fn accept_or_reject_why_at_a_time_is_decided_by_the_two_bounds_alone() {
    let at = |offset: i64| Timestamp::from_second(now().as_second() + offset).unwrap();
    for state in [KeyState::Staged, KeyState::Active, KeyState::Retiring] {
        for (from, to, expected) in [
            (None, None, [Ok(()), Ok(()), Ok(())]),
            (Some(0), None, [Err(Reject::NotYetValid), Ok(()), Ok(())]),
            (None, Some(0), [Ok(()), Err(Reject::Expired), Err(Reject::Expired)]),
            (
                Some(0),
                Some(1),
                [Err(Reject::NotYetValid), Ok(()), Err(Reject::Expired)],
            ),
        ] {
            let key = Key {
                not_before: from.map(at),
                retire_after: to.map(at),
                ..key(1, state)
            };
            assert_eq!(
                [-1, 0, 1].map(|offset| key.at(at(offset))),
                expected,
                "{state:?} {from:?} {to:?}"
            );
        }
    }
}
