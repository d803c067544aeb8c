//! The keyset: digests of the tokens that a service accepts.
//!
//! In: bytes of `keyset.json`, a presented token, a point in time. Out: the key, or why not.
//! It never holds a token. A keyset without keys, of another version or with an unknown field is refused
//! whole: the server then stays not ready, or keeps the last good one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::canonical;
use crate::token::{Kid, Token};

/// The only version of the format.
pub const VERSION: u32 = 1;
/// At most this many keys stand in a keyset.
pub const MAX_KEYS: usize = 64;

/// Where a key is in its life. Every state in the keyset is accepted; a retired key is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// Accepted, not yet given to clients: its turn comes when every serving pod has loaded it.
    Staged,
    /// The one that the client Secret holds.
    Active,
    /// Superseded; accepted until `retireAfter`.
    Retiring,
}

/// One accepted token, by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// The key's id, also part of the token's text.
    pub kid: Kid,
    /// Whose token it is: 1 to 63 characters.
    pub client: String,
    /// SHA-256 of the whole token text, 64 lower-case hexadecimal digits.
    pub digest: String,
    /// Where the key is in its life.
    pub state: KeyState,
    /// Not accepted before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Not accepted from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_after: Option<Timestamp>,
}

/// All accepted tokens of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyset {
    /// [`VERSION`].
    pub version: u32,
    /// Rises by one with every change.
    pub revision: u64,
    /// The keys; ids are unique.
    pub keys: Vec<Key>,
}

/// Why a keyset is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysetError {
    /// Not JSON of this shape.
    #[error("keyset is not valid: line {line}, column {column}")]
    Syntax {
        /// 1-based line of the first offence.
        line: usize,
        /// 1-based column.
        column: usize,
    },
    /// Another version.
    #[error("keyset version {0} is not supported, expected {VERSION}")]
    Version(u32),
    /// No key: would refuse everyone, and is more likely a mistake.
    #[error("keyset has no keys")]
    Empty,
    /// More than [`MAX_KEYS`].
    #[error("keyset has more than {MAX_KEYS} keys")]
    TooMany,
    /// Two keys with one id.
    #[error("key id {0} occurs twice")]
    Duplicate(Kid),
    /// A digest is not 64 lower-case hexadecimal digits.
    #[error("digest of key {0} is not a SHA-256 in hexadecimal")]
    Digest(Kid),
    /// A client name is empty or longer than 63 characters.
    #[error("client of key {0} must have 1 to 63 characters")]
    Client(Kid),
}

impl KeysetError {
    /// The bounded word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "keyset_syntax",
            Self::Version(_) => "keyset_version",
            Self::Empty => "keyset_empty",
            Self::TooMany => "keyset_too_many_keys",
            Self::Duplicate(_) => "keyset_duplicate_key",
            Self::Digest(_) => "keyset_digest",
            Self::Client(_) => "keyset_client",
        }
    }
}

/// Why a presented token is refused. The public answer is the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Not a token at all.
    Malformed,
    /// No key has its digest.
    Unknown,
    /// Its key is not accepted yet.
    NotYetValid,
    /// Its key has retired.
    Expired,
}

impl Reject {
    /// The bounded word for metrics and audit.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Unknown => "token_unknown",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Expired => "token_expired",
        }
    }
}

impl Keyset {
    /// Parses and checks a keyset.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysetError> {
        let keyset: Self = serde_json::from_slice(bytes).map_err(|error| KeysetError::Syntax {
            line: error.line(),
            column: error.column(),
        })?;
        keyset.check()?;
        Ok(keyset)
    }

    fn check(&self) -> Result<(), KeysetError> {
        if self.version != VERSION {
            return Err(KeysetError::Version(self.version));
        }
        if self.keys.is_empty() {
            return Err(KeysetError::Empty);
        }
        if self.keys.len() > MAX_KEYS {
            return Err(KeysetError::TooMany);
        }
        let mut seen = BTreeSet::new();
        for key in &self.keys {
            if !seen.insert(&key.kid) {
                return Err(KeysetError::Duplicate(key.kid.clone()));
            }
            let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if key.digest.len() != 64 || !key.digest.bytes().all(hexadecimal) {
                return Err(KeysetError::Digest(key.kid.clone()));
            }
            if key.client.is_empty() || key.client.len() > 63 {
                return Err(KeysetError::Client(key.kid.clone()));
            }
        }
        Ok(())
    }

    /// The canonical text: what the Secret holds.
    pub fn canonical_json(&self) -> String {
        canonical::json(self)
    }

    /// `sha256:` digest of the canonical text: what a pod attests.
    pub fn digest(&self) -> String {
        canonical::digest(self.canonical_json().as_bytes())
    }

    /// Finds the key of a presented token. Every entry is compared in constant time and none is skipped, so the
    /// time taken tells nothing of which digest was near.
    pub fn verify(&self, presented: &str, now: Timestamp) -> Result<&Key, Reject> {
        let token = Token::parse(presented).map_err(|_| Reject::Malformed)?;
        let digest = token.digest_hex();
        let mut found = None;
        for key in &self.keys {
            if bool::from(digest.as_bytes().ct_eq(key.digest.as_bytes())) {
                found = Some(key);
            }
        }
        let key = found.ok_or(Reject::Unknown)?;
        if key.not_before.is_some_and(|time| now < time) {
            return Err(Reject::NotYetValid);
        }
        if key.retire_after.is_some_and(|time| now >= time) {
            return Err(Reject::Expired);
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            parse(&keyset(vec![Key {
                digest: "AB".into(),
                ..key(1, KeyState::Active)
            }])),
            KeysetError::Digest(token(1).kid().clone())
        );
        let extra = br#"{"version":1,"revision":1,"keys":[],"allowAll":true}"#;
        assert!(matches!(Keyset::parse(extra), Err(KeysetError::Syntax { .. })));
        assert!(matches!(Keyset::parse(b"{"), Err(KeysetError::Syntax { .. })));
    }
}
