//! The shape of the four Secrets. Their turn is `rotation`'s decision.
//!
//! In: key material made elsewhere. Out: the Secret as it is written. Always `data`, never `stringData`, whose field
//! ownership never converges under server-side apply.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use screenshot_policy::attest::InternalKey;
use screenshot_policy::keyset::Keyset;
use screenshot_policy::layout;
use screenshot_policy::token::Token;
use serde_json::json;

use super::{Child, Kind};
use crate::names::{ISSUED_AT, NONCE};
use crate::validate::Identity;

/// Key of the token's text in the Secrets that hold one.
pub const TOKEN_KEY: &str = "token";
/// Key of the token's id.
pub const KEY_ID_KEY: &str = "keyId";

/// The key with which operator and pods know each other; during a change, the one to come beside it.
pub fn internal(identity: &Identity, key: &InternalKey, next: Option<&InternalKey>, issued_at: Timestamp) -> Child {
    let mut data = json!({layout::INTERNAL_KEY_FILE: STANDARD.encode(key.to_text())});
    if let Some(next) = next {
        data[layout::INTERNAL_NEXT_KEY_FILE] = json!(STANDARD.encode(next.to_text()));
    }
    let content = json!({"type": "Opaque", "data": data});
    let notes = BTreeMap::from([(ISSUED_AT, issued_at.to_string())]);
    Child::new(identity, Kind::Secret, &identity.names.internal(), content).annotated(&notes)
}

/// The digests that pods accept.
pub fn keyset(identity: &Identity, keyset: &Keyset) -> Child {
    let content = json!({"type": "Opaque", "data": {layout::KEYSET_FILE: STANDARD.encode(keyset.canonical_json())}});
    Child::new(identity, Kind::Secret, &identity.names.keyset(), content)
}

/// The token to come. Immutable: two writers cannot both have made it.
pub fn pending(identity: &Identity, token: &Token, issued_at: Timestamp, nonce: Option<&str>) -> Child {
    let mut child = with_token(identity, &identity.names.pending(), token, issued_at, nonce);
    child.body["immutable"] = json!(true);
    child
}

/// The token in use, for clients.
pub fn client(identity: &Identity, token: &Token, issued_at: Timestamp, nonce: Option<&str>) -> Child {
    with_token(identity, &identity.names.token(), token, issued_at, nonce)
}

fn with_token(identity: &Identity, name: &str, token: &Token, at: Timestamp, nonce: Option<&str>) -> Child {
    let content = json!({"type": "Opaque", "data": {
        TOKEN_KEY: STANDARD.encode(token.text()),
        KEY_ID_KEY: STANDARD.encode(token.kid().as_str()),
    }});
    let mut annotations = BTreeMap::from([(ISSUED_AT, at.to_string())]);
    annotations.extend(nonce.map(|nonce| (NONCE, nonce.to_owned())));
    Child::new(identity, Kind::Secret, name, content).annotated(&annotations)
}
