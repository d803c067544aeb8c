//! Who is calling?
//!
//! In: the request's `Authorization` header, the keyset in force, a point in time. Out: a [`Caller`], and from it the
//! [`Permit`] without which no later room does any work. Must not: read files (`keyset` does), read a clock, or tell
//! the caller which of several things was wrong with a token.

pub mod keyset;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use screenshot_policy::keyset::{Keyset, Reject, Scope};
use std::marker::PhantomData;

/// Why a caller is turned away. The public answer is one text for all but `NoKeyset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No `Authorization` header.
    #[error("no credential")]
    Missing,
    /// A header that is not exactly one `Bearer` credential.
    #[error("malformed credential")]
    Malformed,
    /// A token that no key accepts now.
    #[error("token rejected")]
    Rejected(Reject),
    /// The key does not open what is asked for.
    #[error("scope missing")]
    Scope,
    /// There is no keyset to judge by: fail closed.
    #[error("no keyset")]
    NoKeyset,
}

impl AccessError {
    /// The bounded word for audit and metrics. Not for the caller.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Malformed => "credential_malformed",
            Self::Rejected(reject) => reject.reason(),
            Self::Scope => "scope_missing",
            Self::NoKeyset => "keyset_missing",
        }
    }
}

/// Permission to capture. Only [`Caller::permit_capture`] makes one.
///
/// ```compile_fail,E0451
/// let _ = capture_server::access::Permit::<capture_server::access::Capture> { _proof: std::marker::PhantomData };
/// ```
/// Handing one on is fine (this is what shows that the one above fails for the right reason):
/// ```
/// use capture_server::access::{Capture, Permit};
/// let _: fn(Permit<Capture>) -> Permit<Capture> = |permit| permit;
/// ```
#[derive(Debug)]
pub struct Permit<For> {
    _proof: PhantomData<For>,
}

/// The scope of a capture.
#[derive(Debug)]
pub struct Capture(());

/// An authenticated caller. Only [`authenticate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    client: String,
    kid: String,
    scopes: Vec<Scope>,
}

impl Caller {
    /// The client's name.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Id of the key that was used; not a secret.
    pub fn key_id(&self) -> &str {
        &self.kid
    }

    /// The permission, if the key opens `scope`.
    pub fn permit_capture(&self, scope: Scope) -> Result<Permit<Capture>, AccessError> {
        if self.scopes.contains(&scope) {
            Ok(Permit { _proof: PhantomData })
        } else {
            Err(AccessError::Scope)
        }
    }
}

/// Judges the credential of a request.
pub fn authenticate(headers: &HeaderMap, keyset: Option<&Keyset>, now: Timestamp) -> Result<Caller, AccessError> {
    let keyset = keyset.ok_or(AccessError::NoKeyset)?;
    let token = bearer(headers)?;
    let key = keyset.verify(token, now).map_err(AccessError::Rejected)?;
    Ok(Caller {
        client: key.client.clone(),
        kid: key.kid.to_string(),
        scopes: key.scopes.clone(),
    })
}

fn bearer(headers: &HeaderMap) -> Result<&str, AccessError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AccessError::Missing)?;
    if values.next().is_some() {
        return Err(AccessError::Malformed);
    }
    let text = value.to_str().map_err(|_| AccessError::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(AccessError::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(AccessError::Malformed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use screenshot_policy::keyset::{Key, KeyState, VERSION};
    use screenshot_policy::token::{Kid, Token};

    /// A token and a key that accepts it; `n` tells several apart.
    pub(crate) fn key(n: u8, retire_after: Option<&str>) -> (Token, Key) {
        let kid = Kid::from_bytes([n; 5]);
        let token = Token::generate(&kid, [n; 32]);
        let retire_after = retire_after.map(|time| time.parse().unwrap());
        let digest = token.digest_hex();
        let key = Key {
            kid,
            client: "web".into(),
            scopes: Scope::ALL.into(),
            digest,
            state: KeyState::Active,
            not_before: None,
            retire_after,
        };
        (token, key)
    }

    /// Whose token opens every scope.
    pub(crate) fn caller() -> Caller {
        let (token, key) = key(1, None);
        let keyset = Keyset {
            version: VERSION,
            revision: 1,
            keys: vec![key],
        };
        judge(&[&format!("Bearer {}", token.text())], Some(&keyset)).unwrap()
    }

    fn judge(values: &[&str], keyset: Option<&Keyset>) -> Result<Caller, AccessError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        authenticate(&headers, keyset, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn each_credential_has_its_outcome() {
        let (good, key_good) = key(1, None);
        let (retired, key_retired) = key(2, Some("2025-12-31T00:00:00Z"));
        let (unknown, _) = key(3, None);
        let keyset = Keyset {
            version: VERSION,
            revision: 1,
            keys: vec![key_good, key_retired],
        };
        let bearer = |token: &Token| format!("Bearer {}", token.text());
        let table = [
            (vec![], Err(AccessError::Missing)),
            (vec![bearer(&good)], Ok("web")),
            (vec![format!("bearer {}", good.text())], Ok("web")),
            (vec![good.text().to_owned()], Err(AccessError::Malformed)),
            (vec![format!("Basic {}", good.text())], Err(AccessError::Malformed)),
            (vec![bearer(&good), bearer(&good)], Err(AccessError::Malformed)),
            (
                vec!["Bearer nonsense".to_owned()],
                Err(AccessError::Rejected(Reject::Malformed)),
            ),
            (vec![bearer(&unknown)], Err(AccessError::Rejected(Reject::Unknown))),
            (vec![bearer(&retired)], Err(AccessError::Rejected(Reject::Expired))),
        ];
        for (headers, expected) in table {
            let values: Vec<&str> = headers.iter().map(String::as_str).collect();
            let got = judge(&values, Some(&keyset));
            assert_eq!(got.as_ref().map(Caller::client).map_err(|error| *error), expected);
        }
    }

    #[test]
    fn a_key_opens_its_scopes_and_no_other() {
        let (token, mut narrow) = key(1, None);
        narrow.scopes = vec![Scope::CaptureHtml];
        let keyset = Keyset {
            version: VERSION,
            revision: 1,
            keys: vec![narrow],
        };
        let caller = judge(&[&format!("Bearer {}", token.text())], Some(&keyset)).unwrap();
        assert!(caller.permit_capture(Scope::CaptureHtml).is_ok());
        assert_eq!(
            caller.permit_capture(Scope::CaptureUrl).unwrap_err(),
            AccessError::Scope
        );
    }

    #[test]
    fn without_a_keyset_a_good_token_is_refused() {
        let (good, _) = key(1, None);
        let header = format!("Bearer {}", good.text());
        assert_eq!(judge(&[&header], None), Err(AccessError::NoKeyset));
    }
}
