//! Attestation: what a pod says of itself to the operator, and how each knows the other.
//!
//! In: the internal key, a nonce, bytes. Out: message authentication codes and the report's shape.
//! The request is `GET /internal/attest` with the headers [`NONCE_HEADER`] and [`MAC_HEADER`] and, if a canary is to be
//! tried, [`CANARY_HEADER`](crate::canary::CANARY_HEADER), which the code covers; the answer carries [`MAC_HEADER`] over
//! nonce and body. HMAC-SHA-256 (RFC 2104) with a label per direction, so that neither side's message can be played back
//! as the other's. A nonce begins with the time that it was made at, so that a message that somebody kept is not taken
//! again: see [`nonce_time`]. `PUT /internal/keyset` brings a keyset before the kubelet does, with the
//! code over nonce and body, and is answered like a question.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::canary::CanaryFacts;
use crate::policy::{Enforcement, SandboxMode};

/// Header with the 32 bytes of [`nonce`], base64url without padding (43 characters).
pub const NONCE_HEADER: &str = "attest-nonce";
/// Header with the code of request or answer, base64url without padding.
pub const MAC_HEADER: &str = "attest-mac";

/// How far the clocks of operator and pod may differ; a nonce is taken for as long, once.
pub const MAX_SKEW: Duration = Duration::from_mins(5);

const REQUEST_LABEL: &[u8] = b"screenshot-operator attest request v1\0";
const KEYSET_LABEL: &[u8] = b"screenshot-operator keyset v1\0";
const RESPONSE_LABEL: &[u8] = b"screenshot-operator attest response v1\0";
const ID_LABEL: &[u8] = b"screenshot-operator internal key id v1\0";

/// The key that operator and pods of one service share. Not shown by `Debug`.
#[derive(Clone)]
pub struct InternalKey([u8; 32]);

/// The text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the internal key must be 32 bytes in base64url without padding")]
pub struct InternalKeyError;

impl InternalKey {
    /// Wraps 256 random bits.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses the text form, white space around it allowed.
    pub fn parse(text: &str) -> Result<Self, InternalKeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| InternalKeyError)?;
        bytes.try_into().map(Self).map_err(|_| InternalKeyError)
    }

    /// The text form. A secret.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Names the key without showing it: 16 hexadecimal digits of a digest.
    pub fn id(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(ID_LABEL);
        digest.update(self.0);
        hex::encode(digest.finalize().get(..8).unwrap_or_default())
    }

    fn mac(&self, label: &[u8], nonce: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        // A nonce of fixed length, so that nonce and body cannot be cut differently.
        if URL_SAFE_NO_PAD.decode(nonce).ok()?.len() != 32 {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(label);
        mac.update(nonce.as_bytes());
        mac.update(body);
        Some(mac)
    }

    fn code(&self, label: &[u8], nonce: &str, body: &[u8]) -> String {
        self.mac(label, nonce, body)
            .map(|mac| URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
            .unwrap_or_default()
    }

    fn verify(&self, label: &[u8], nonce: &str, body: &[u8], code: &str) -> bool {
        let Ok(code) = URL_SAFE_NO_PAD.decode(code) else {
            return false;
        };
        self.mac(label, nonce, body)
            .is_some_and(|mac| mac.verify_slice(&code).is_ok())
    }

    /// The operator's code over its nonce and the text of the canary, empty without one. Empty (never valid) when the
    /// nonce is malformed.
    pub fn request_mac(&self, nonce: &str, canary: &str) -> String {
        self.code(REQUEST_LABEL, nonce, canary.as_bytes())
    }

    /// Whether the operator made the request, with this text of a canary. Constant time.
    pub fn verify_request(&self, nonce: &str, canary: &str, code: &str) -> bool {
        self.verify(REQUEST_LABEL, nonce, canary.as_bytes(), code)
    }

    /// The operator's code over its nonce and the keyset that it brings. Empty (never valid) when the nonce is malformed.
    pub fn keyset_mac(&self, nonce: &str, keyset: &[u8]) -> String {
        self.code(KEYSET_LABEL, nonce, keyset)
    }

    /// Whether the operator brings this keyset. Constant time.
    pub fn verify_keyset(&self, nonce: &str, keyset: &[u8], code: &str) -> bool {
        self.verify(KEYSET_LABEL, nonce, keyset, code)
    }

    /// The pod's code over nonce and body.
    pub fn response_mac(&self, nonce: &str, body: &[u8]) -> String {
        self.code(RESPONSE_LABEL, nonce, body)
    }

    /// Whether a pod of this service gave this answer to this nonce. Constant time.
    pub fn verify_response(&self, nonce: &str, body: &[u8], code: &str) -> bool {
        self.verify(RESPONSE_LABEL, nonce, body, code)
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InternalKey(…)")
    }
}

/// A nonce made at this time: the seconds since 1970, big-endian, then the random bytes.
pub fn nonce(at: Timestamp, random: [u8; 24]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let (time, rest) = bytes.split_at_mut(8);
    time.copy_from_slice(&at.as_second().to_be_bytes());
    rest.copy_from_slice(&random);
    bytes
}

/// When a nonce was made. `None` if that is no time.
pub fn nonce_time(nonce: &[u8; 32]) -> Option<Timestamp> {
    let (seconds, _) = nonce.split_first_chunk()?;
    Timestamp::from_second(i64::from_be_bytes(*seconds)).ok()
}

/// The text form of a nonce.
pub fn nonce_text(bytes: [u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of a nonce's text form.
pub fn nonce_bytes(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// What a pod says of itself. Unknown fields are ignored: a newer server may say more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestReport {
    /// The pod's name.
    pub pod: String,
    /// Whether it takes captures.
    pub ready: bool,
    /// Why not, when not.
    #[serde(default)]
    pub not_ready: Vec<NotReady>,
    /// Digest of the policy that it enforces.
    #[serde(default)]
    pub policy_digest: Option<String>,
    /// Digest of the cluster's own public ranges that it closes; none while it knows of none.
    #[serde(default)]
    pub cluster_ranges: Option<String>,
    /// The keyset that it has in force.
    #[serde(default)]
    pub keyset: Option<KeysetFacts>,
    /// What the preflight found.
    #[serde(default)]
    pub sandbox: SandboxFacts,
    /// The browser that it runs.
    #[serde(default)]
    pub browser: BrowserFacts,
    /// What it found of the cluster's half of the egress control.
    #[serde(default)]
    pub egress: EgressFacts,
    /// Ids of the internal keys that it accepts, see [`InternalKey::id`].
    #[serde(default)]
    pub internal_keys: Vec<String>,
}

/// One reason for not being ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotReady {
    /// Bounded word.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
}

/// The keyset in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeysetFacts {
    /// Its revision.
    pub revision: u64,
    /// Its digest, `sha256:…`.
    pub digest: String,
    /// Why a newer file was refused, when one was.
    #[serde(default)]
    pub stale: Option<String>,
}

/// What the preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxFacts {
    /// Whether every check held.
    pub verified: bool,
    /// The mode that the policy asks for.
    #[serde(default)]
    pub mode: SandboxMode,
    /// Bounded word when not verified.
    #[serde(default)]
    pub reason: Option<String>,
    /// Bounded word: who refuses user namespaces, where that is the reason.
    #[serde(default)]
    pub blocker: Option<String>,
    /// A sentence for a person.
    #[serde(default)]
    pub message: String,
    /// Each check by name.
    #[serde(default)]
    pub checks: BTreeMap<String, bool>,
}

/// The cluster's half of the egress control.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressFacts {
    /// What the policy asks for.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// What came of the canary, if this request named one and the pod has a policy.
    #[serde(default)]
    pub canary: Option<CanaryFacts>,
}

/// The browser.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrowserFacts {
    /// Product and version as CDP gives it, once one has run.
    #[serde(default)]
    pub version: Option<String>,
    /// When that build was made, where the image says so.
    #[serde(default)]
    pub built_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_accepts_its_own_code_only() {
        let key = InternalKey::from_bytes([3; 32]);
        let other = InternalKey::from_bytes([4; 32]);
        let nonce = nonce_text([5; 32]);
        let (request, response) = (key.request_mac(&nonce, ""), key.response_mac(&nonce, b"{}"));
        assert!(key.verify_request(&nonce, "", &request) && key.verify_response(&nonce, b"{}", &response));
        assert!(!key.verify_request(&nonce, "", &key.response_mac(&nonce, b"")));
        assert!(!other.verify_request(&nonce, "", &request));
        assert!(!key.verify_request(&nonce_text([6; 32]), "", &request));
        assert!(!key.verify_response(&nonce, b"{} ", &response));
        let brought = key.keyset_mac(&nonce, b"{}");
        assert!(key.verify_keyset(&nonce, b"{}", &brought) && !key.verify_keyset(&nonce, b"{} ", &brought));
        assert!(!key.verify_keyset(&nonce, b"", &request) && !key.verify_keyset(&nonce, b"{}", &response));
        assert!(!key.verify_response(&nonce, b"{}", &brought) && !other.verify_keyset(&nonce, b"{}", &brought));
        assert!(!key.verify_request(&nonce, "", "") && !key.verify_request("", "", &request));
    }

    #[test]
    fn a_canary_that_the_operator_did_not_name_breaks_its_code() {
        let (key, nonce) = (InternalKey::from_bytes([3; 32]), nonce_text([5; 32]));
        let code = key.request_mac(&nonce, "x 10.0.0.7:8082");
        assert!(key.verify_request(&nonce, "x 10.0.0.7:8082", &code));
        for other in ["", "x 10.0.0.8:8082", "x 10.0.0.7:8082 10.0.0.8:8082"] {
            assert!(!key.verify_request(&nonce, other, &code), "{other}");
        }
        assert_eq!(nonce_bytes(&nonce), Some([5; 32]));
        assert_eq!(nonce_bytes("short"), None);
    }

    #[test]
    fn a_nonce_says_when_it_was_made() {
        for second in [-377_705_023_201, 0, 1_790_000_000, 253_402_207_200] {
            let at = Timestamp::from_second(second).unwrap();
            assert_eq!(nonce_time(&nonce(at, [0xff; 24])), Some(at));
        }
        assert_eq!(nonce_time(&[0xff; 32]), Timestamp::from_second(-1).ok());
        assert_eq!(nonce_time(&[0x7f; 32]), None);
    }

    #[test]
    fn a_malformed_nonce_never_verifies_not_even_its_own_code() {
        let key = InternalKey::from_bytes([3; 32]);
        assert!(!key.verify_request("short", "", &key.request_mac("short", "")));
    }

    #[test]
    fn the_key_survives_its_text_form_and_debug_hides_it() {
        let key = InternalKey::from_bytes([9; 32]);
        assert_eq!(
            InternalKey::parse(&format!("{}\n", key.to_text())).unwrap().to_text(),
            key.to_text()
        );
        assert!(InternalKey::parse("AAAA").is_err());
        assert!(!format!("{key:?}").contains(&key.to_text()));
        assert_eq!(key.id(), InternalKey::from_bytes([9; 32]).id());
        assert_ne!(key.id(), InternalKey::from_bytes([8; 32]).id());
        assert_eq!(key.id().len(), 16);
    }
}
