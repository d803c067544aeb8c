//! Canonical bytes and digests of the contract's documents.
//!
//! In: a serialisable document. Out: JSON with fields in declaration order and no white space, and its
//! SHA-256. Documents hold no maps and no floats, so equal values have equal bytes.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The canonical JSON text of a document.
///
/// Serialising the contract's own types cannot fail: they have string keys only and no custom
/// serialiser that errs. Should it ever, the empty text has a digest that nothing accepts.
pub(crate) fn json<T: Serialize>(document: &T) -> String {
    serde_json::to_string(document).unwrap_or_default()
}

/// `sha256:` and 64 lower-case hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(bytes))
}

/// 64 lower-case hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
