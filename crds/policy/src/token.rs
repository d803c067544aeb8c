//! Bearer tokens.
//!
//! In: 32 random bytes and a key id. Out: the text `sst_<key id>_<43 characters base64url>_<8 hexadecimal digits>`
//! whose last part is a CRC-32 of what stands before it: secret scanners recognise it, a typing error is found
//! before anything is hashed. Servers keep only the SHA-256 of the whole text (the secret has 256 bits, so a
//! slow hash would add nothing).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::canonical;

const PREFIX: &str = "sst";
const KID_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const KID_LENGTH: usize = 8;
const SECRET_LENGTH: usize = 43;

/// A key id: 8 characters of lower-case base32. Not a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kid(String);

/// The text is not a key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id must have 8 characters out of a-z and 2-7")]
pub struct KidError;

impl Kid {
    /// Makes a key id from 40 random bits.
    pub fn from_bytes(bytes: [u8; 5]) -> Self {
        let bits = bytes.iter().fold(0u64, |acc, byte| (acc << 8) | u64::from(*byte));
        let character = |i: usize| {
            let index = usize::try_from((bits >> (35 - 5 * i)) & 31).unwrap_or(0);
            char::from(KID_ALPHABET[index])
        };
        Self((0..KID_LENGTH).map(character).collect())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Kid {
    type Err = KidError;

    fn from_str(text: &str) -> Result<Self, KidError> {
        let good = text.len() == KID_LENGTH && text.bytes().all(|b| KID_ALPHABET.contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(KidError) }
    }
}

impl TryFrom<String> for Kid {
    type Error = KidError;

    fn try_from(text: String) -> Result<Self, KidError> {
        text.parse()
    }
}

impl From<Kid> for String {
    fn from(kid: Kid) -> Self {
        kid.0
    }
}

/// A token with its secret. Neither `Debug` nor `Display` shows it; [`Token::text`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    kid: Kid,
    text: String,
}

/// The text is not a token. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token of the form sst_<key id>_<secret>_<checksum>")]
pub struct TokenError;

impl Token {
    /// Makes the token of a key from 256 random bits.
    pub fn generate(kid: &Kid, secret: [u8; 32]) -> Self {
        let body = format!("{PREFIX}_{kid}_{}", URL_SAFE_NO_PAD.encode(secret));
        let text = format!("{body}_{:08x}", crc32fast::hash(body.as_bytes()));
        Self { kid: kid.clone(), text }
    }

    /// Parses a token's text and checks its checksum.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        // base64url has '_' too, so the parts are cut by length, not by splitting.
        let expected = PREFIX.len() + 1 + KID_LENGTH + 1 + SECRET_LENGTH + 1 + 8;
        if text.len() != expected || !text.is_ascii() {
            return Err(TokenError);
        }
        let (body, checksum) = text.split_at(expected - 9);
        let kid_text = body
            .strip_prefix("sst_")
            .and_then(|rest| rest.get(..KID_LENGTH))
            .ok_or(TokenError)?;
        let secret = body
            .get(4 + KID_LENGTH..)
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or(TokenError)?;
        let kid = kid_text.parse().map_err(|_| TokenError)?;
        let decoded = URL_SAFE_NO_PAD.decode(secret).map_err(|_| TokenError)?;
        if decoded.len() != 32 || checksum != format!("_{:08x}", crc32fast::hash(body.as_bytes())) {
            return Err(TokenError);
        }
        Ok(Self {
            kid,
            text: text.to_owned(),
        })
    }

    /// The key that the token belongs to.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The whole text: the secret. Only for the client's Secret and the `Authorization` header.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the whole text, 64 lower-case hexadecimal digits: what a keyset holds.
    pub fn digest_hex(&self) -> String {
        canonical::sha256_hex(self.text.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, …)", self.kid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_generated_token_parses_to_itself(kid: [u8; 5], secret: [u8; 32]) {
            let token = Token::generate(&Kid::from_bytes(kid), secret);
            prop_assert_eq!(Token::parse(token.text()), Ok(token.clone()));
        }

        #[test]
        fn one_changed_character_is_found(secret: [u8; 32], at in 0usize..66, to in 0u8..128) {
            let token = Token::generate(&Kid::from_bytes([1; 5]), secret);
            let mut bytes = token.text().as_bytes().to_vec();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            prop_assert_eq!(Token::parse(std::str::from_utf8(&bytes).unwrap()), Err(TokenError));
        }
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let token = Token::generate(&Kid::from_bytes([7; 5]), [9; 32]);
        let secret = &token.text()[13..56];
        assert!(!format!("{token:?}").contains(secret));
    }

    #[test]
    fn key_ids_have_eight_characters_of_base32() {
        assert_eq!(Kid::from_bytes([0; 5]).as_str(), "aaaaaaaa");
        assert_eq!(Kid::from_bytes([255; 5]).as_str(), "77777777");
        assert!(
            "AAAAAAAA".parse::<Kid>().is_err()
                && "aaaaaaa".parse::<Kid>().is_err()
                && "aaaaaaa1".parse::<Kid>().is_err()
        );
    }
}
