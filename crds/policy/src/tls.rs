//! Hosts whose certificates are judged by their keys.
//!
//! In: a host, the pins of its keys, and what else has to vouch for it. Out: whether the entry makes sense, what has to
//! vouch at a point in time, and whether a key is pinned. An entry only ever narrows what a certificate may be, with one
//! exception that has a reason and an end: a key that no authority vouches for. It opens no address and no port.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::host::Host;
use crate::policy::EffectivePolicy;
use crate::unit::Reason;

/// At most this many hosts are named.
pub const MAX_TLS_HOSTS: usize = 32;
/// At most this many pins stand in an entry.
pub const MAX_PINS: usize = 8;

/// The form of a pin: what is wrong with a text that is none.
pub(crate) const PIN_RULE: &str = "a pin must be 32 bytes in base64: 43 characters and '='";

/// A text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{PIN_RULE}")]
pub struct PinError;

/// The SHA-256 of a key as it stands in a certificate (SubjectPublicKeyInfo in DER), RFC 7469 section 2.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpkiPin([u8; 32]);

impl SpkiPin {
    /// The pin of a key.
    pub fn of(spki_der: &[u8]) -> Self {
        Self(Sha256::digest(spki_der).into())
    }

    /// The bare digest.
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl FromStr for SpkiPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        // One text for each digest: this engine refuses stray bits and missing padding.
        let bytes = STANDARD.decode(text).map_err(|_| PinError)?;
        bytes.try_into().map(Self).map_err(|_| PinError)
    }
}

impl TryFrom<String> for SpkiPin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl From<SpkiPin> for String {
    fn from(pin: SpkiPin) -> Self {
        pin.to_string()
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

/// What has to vouch for a host besides its pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Trust {
    /// The certificate must be valid as for every other host, and a pinned key must be in its path.
    #[default]
    PublicAuthorities,
    /// The key of the certificate must be pinned, and nothing else is asked of it: it may be self-signed, of a private
    /// authority, expired, or for another name. An exception: it needs a reason and an end.
    PinnedKey,
}

/// One named host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsHost {
    /// Host name or literal address, matched exactly, on every port.
    pub host: Host,
    /// See [`Trust`].
    pub trust: Trust,
    /// The keys that it may have: 1 to [`MAX_PINS`].
    #[cfg_attr(test, schemars(length(min = 1, max = 8)))]
    pub spki_pins: Vec<SpkiPin>,
    /// Why authorities need not vouch for it; only with [`Trust::PinnedKey`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// From when on they must again; only with [`Trust::PinnedKey`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "crate::schema::instant"))]
    pub expires: Option<Timestamp>,
}

/// Which rule an entry breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsHostError {
    /// No pin, or too many: a certificate is never trusted blindly.
    #[error("spkiPins must have 1 to {MAX_PINS} items")]
    Pins,
    /// An exception without a reason or an end.
    #[error("trust PinnedKey needs a reason and an end (expires)")]
    Unjustified,
    /// A reason or an end where there is no exception.
    #[error("reason and expires belong to trust PinnedKey alone")]
    NoException,
    /// The host stands in an earlier entry.
    #[error("the host has an earlier entry")]
    Duplicate,
}

impl TlsHost {
    /// Checks everything that does not depend on time or on other entries.
    pub fn check(&self) -> Result<(), TlsHostError> {
        if self.spki_pins.is_empty() || self.spki_pins.len() > MAX_PINS {
            return Err(TlsHostError::Pins);
        }
        match (self.trust, &self.reason, self.expires) {
            (Trust::PublicAuthorities, None, None) | (Trust::PinnedKey, Some(_), Some(_)) => Ok(()),
            (Trust::PublicAuthorities, ..) => Err(TlsHostError::NoException),
            (Trust::PinnedKey, ..) => Err(TlsHostError::Unjustified),
        }
    }

    /// What has to vouch at a point in time. The pins stay when an exception has ended: what ends is the freedom.
    pub fn trust_at(&self, now: Timestamp) -> Trust {
        match self.exception_end() {
            Some(end) if now < end => Trust::PinnedKey,
            _ => Trust::PublicAuthorities,
        }
    }

    /// When the exception ends, if it is one.
    pub fn exception_end(&self) -> Option<Timestamp> {
        self.expires.filter(|_| self.trust == Trust::PinnedKey)
    }

    /// Whether the key is one of the host's.
    pub fn pins(&self, key: SpkiPin) -> bool {
        self.spki_pins.contains(&key)
    }

    /// The same without its exception.
    pub(crate) fn without_exception(&mut self) {
        self.trust = Trust::PublicAuthorities;
        self.reason = None;
        self.expires = None;
    }
}

impl EffectivePolicy {
    /// What is said about a host's keys, if it is named.
    pub fn tls_host(&self, host: &Host) -> Option<&TlsHost> {
        self.tls_hosts().iter().find(|named| named.host == *host)
    }

    /// The named hosts.
    pub fn tls_hosts(&self) -> &[TlsHost] {
        &self.egress().tls.hosts
    }
}

/// Checks the entries one by one and against each other; the error names the first that is wrong.
pub(crate) fn check_all(hosts: &[TlsHost]) -> Result<(), (usize, TlsHostError)> {
    for (index, entry) in hosts.iter().enumerate() {
        entry.check().map_err(|error| (index, error))?;
        if hosts.iter().take(index).any(|earlier| earlier.host == entry.host) {
            return Err((index, TlsHostError::Duplicate));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
