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
use crate::policy::rule;
use crate::token::{Kid, Token};

/// The only version of the format.
pub const VERSION: u32 = 1;
/// The longest document in bytes.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// At most this many keys stand in a keyset.
pub const MAX_KEYS: usize = 64;

/// Where a key is in its life. Every state in the keyset is accepted; a retired key is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum KeyState {
    /// Accepted, not yet given to clients: its turn comes when every serving pod has loaded it.
    Staged,
    /// The one that the client Secret holds.
    Active,
    /// Superseded; accepted until `retireAfter`.
    Retiring,
}

/// What a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Scope {
    /// Pictures of pages on the network.
    #[serde(rename = "capture:url")]
    CaptureUrl,
    /// Pictures of HTML that the caller brings.
    #[serde(rename = "capture:html")]
    CaptureHtml,
}

impl Scope {
    /// Every scope: what a key gets that is not narrowed.
    pub const ALL: [Self; 2] = [Self::CaptureUrl, Self::CaptureHtml];
}

/// One accepted token, by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// The key's id, also part of the token's text.
    pub kid: Kid,
    /// Whose token it is: 1 to 63 characters.
    #[cfg_attr(test, schemars(length(min = 1, max = 63)))]
    pub client: String,
    /// What it opens: at least one scope, none twice.
    #[cfg_attr(test, schemars(length(min = 1, max = 8)))]
    pub scopes: Vec<Scope>,
    /// SHA-256 of the whole token text, 64 lower-case hexadecimal digits.
    #[cfg_attr(test, schemars(schema_with = "crate::schema::sha256"))]
    pub digest: String,
    /// Where the key is in its life.
    pub state: KeyState,
    /// Not accepted before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "crate::schema::instant"))]
    pub not_before: Option<Timestamp>,
    /// Not accepted from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "crate::schema::instant"))]
    pub retire_after: Option<Timestamp>,
}

/// All accepted tokens of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyset {
    /// [`VERSION`].
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    pub version: u32,
    /// Rises by one with every change.
    #[cfg_attr(test, schemars(range(min = 0, max = 9_007_199_254_740_991i64)))]
    pub revision: u64,
    /// The keys; ids are unique.
    #[cfg_attr(test, schemars(length(min = 1, max = 64)))]
    pub keys: Vec<Key>,
}

/// Why a keyset is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysetError {
    /// Not JSON of this shape.
    #[error("keyset is not valid: {rule} at line {line}, column {column}")]
    Syntax {
        /// What is wrong, without the offending value.
        rule: String,
        /// 1-based line of the first offence.
        line: usize,
        /// 1-based column.
        column: usize,
    },
    /// More than [`MAX_DOCUMENT`] bytes.
    #[error("keyset has more than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// Another version.
    #[error("keyset version {0} is not supported, expected {VERSION}")]
    Version(u64),
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
    /// A key opens nothing, or names a scope twice.
    #[error("scopes of key {0} must have at least one item and none twice")]
    Scopes(Kid),
    /// A key is never valid: it ends before it begins.
    #[error("key {0} has a retireAfter that is not later than its notBefore")]
    Never(Kid),
}

impl KeysetError {
    /// The bounded word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax { .. } | Self::TooLarge => "keyset_syntax",
            Self::Version(_) => "keyset_version",
            Self::Empty => "keyset_empty",
            Self::TooMany => "keyset_too_many_keys",
            Self::Duplicate(_) => "keyset_duplicate_key",
            Self::Digest(_) => "keyset_digest",
            Self::Client(_) => "keyset_client",
            Self::Scopes(_) => "keyset_scopes",
            Self::Never(_) => "keyset_times",
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

impl Key {
    /// Whether the key opens what the scope stands for.
    pub fn permits(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether the key is accepted at a point in time, and if not, why.
    pub fn at(&self, now: Timestamp) -> Result<(), Reject> {
        if self.not_before.is_some_and(|time| now < time) {
            Err(Reject::NotYetValid)
        } else if self.retire_after.is_some_and(|time| now >= time) {
            Err(Reject::Expired)
        } else {
            Ok(())
        }
    }
}

impl Keyset {
    /// Parses and checks a keyset.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysetError> {
        // The version first: a newer document must be named as such, whatever else in it is unknown.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        if bytes.len() > MAX_DOCUMENT {
            return Err(KeysetError::TooLarge);
        }
        let syntax = |error: serde_json::Error| KeysetError::Syntax {
            rule: rule(&error),
            line: error.line(),
            column: error.column(),
        };
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(syntax)?;
        if versioned.version != u64::from(VERSION) {
            return Err(KeysetError::Version(versioned.version));
        }
        let keyset: Self = serde_json::from_slice(bytes).map_err(syntax)?;
        keyset.check()?;
        Ok(keyset)
    }

    fn check(&self) -> Result<(), KeysetError> {
        if self.version != VERSION {
            return Err(KeysetError::Version(u64::from(self.version)));
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
            if !(1..=63).contains(&key.client.chars().count()) {
                return Err(KeysetError::Client(key.kid.clone()));
            }
            let distinct: BTreeSet<_> = key.scopes.iter().collect();
            if distinct.is_empty() || distinct.len() != key.scopes.len() {
                return Err(KeysetError::Scopes(key.kid.clone()));
            }
            if key
                .not_before
                .zip(key.retire_after)
                .is_some_and(|(from, to)| to <= from)
            {
                return Err(KeysetError::Never(key.kid.clone()));
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
        key.at(now)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
