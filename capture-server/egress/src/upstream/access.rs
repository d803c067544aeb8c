//! What the upstream is asked with: user name and password, and whom its certificate must be from.
//!
//! In: the bytes of the files. Out: values in bounds, or which rule they break, never with a byte of them. They are wiped
//! when dropped, and no format prints them.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use screenshot_policy::egress::UpstreamScheme;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// The longest user name and the longest password, in bytes (RFC 1929).
pub const MAX_CREDENTIAL: usize = 255;

/// Which rule the files break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not text of 1 to [`MAX_CREDENTIAL`] bytes without control characters.
    #[error("user name and password must be text of 1 to {MAX_CREDENTIAL} bytes without control characters")]
    Form,
    /// RFC 7617 ends the user name at the first colon.
    #[error("a user name must not have a colon")]
    Colon,
    /// The bundle has no certificate, or something else in it.
    #[error("the bundle must be certificates in PEM")]
    Bundle,
}

impl AccessError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Form | Self::Colon => "upstream_credentials_invalid",
            Self::Bundle => "upstream_ca_bundle_invalid",
        }
    }
}

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Zeroizing<String>,
    password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Reads both. A line's end after either is not part of it, as files are often written with one.
    ///
    /// # Errors
    /// The rule that one of them breaks.
    pub fn parse(username: &[u8], password: &[u8]) -> Result<Self, AccessError> {
        let username = text(username)?;
        if username.contains(':') {
            return Err(AccessError::Colon);
        }
        Ok(Self {
            username,
            password: text(password)?,
        })
    }

    pub(super) fn username(&self) -> &str {
        &self.username
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

fn text(bytes: &[u8]) -> Result<Zeroizing<String>, AccessError> {
    let text = std::str::from_utf8(bytes).map_err(|_| AccessError::Form)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if (1..=MAX_CREDENTIAL).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(Zeroizing::new(text.to_owned()))
    } else {
        Err(AccessError::Form)
    }
}

/// What the upstream is asked with.
#[derive(Clone, Default)]
pub struct Access {
    credentials: Option<Credentials>,
    tls: Option<TlsConnector>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

impl Access {
    /// For an upstream of this kind. `bundle`: certificates in PEM, the only ones that its own may be from; without one, the
    /// public authorities.
    ///
    /// # Errors
    /// The bundle is none.
    pub fn new(
        scheme: UpstreamScheme,
        credentials: Option<Credentials>,
        bundle: Option<&[u8]>,
    ) -> Result<Self, AccessError> {
        let tls = match scheme {
            UpstreamScheme::Https => Some(connector(bundle)?),
            UpstreamScheme::Http | UpstreamScheme::Socks5 => None,
        };
        Ok(Self { credentials, tls })
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub(super) fn tls(&self) -> Option<&TlsConnector> {
        self.tls.as_ref()
    }
}

fn connector(bundle: Option<&[u8]>) -> Result<TlsConnector, AccessError> {
    let mut roots = RootCertStore::empty();
    match bundle {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| AccessError::Bundle)?;
                roots.add(certificate).map_err(|_| AccessError::Bundle)?;
            }
        }
    }
    if roots.is_empty() {
        return Err(AccessError::Bundle);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| AccessError::Bundle)?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_bounds_and_no_format_prints_them() {
        let good = Credentials::parse(b"ada\n", b"pa:ss w\xc3\xb6rd\r\n").unwrap();
        assert_eq!((good.username(), good.password()), ("ada", "pa:ss w\u{f6}rd"));
        let access = Access::new(UpstreamScheme::Http, Some(good.clone()), None).unwrap();
        for text in [format!("{good:?}"), format!("{access:?}")] {
            assert!(!text.contains("ada") && !text.contains("pa:ss"), "{text}");
        }
        let longest = "x".repeat(MAX_CREDENTIAL);
        assert!(Credentials::parse(longest.as_bytes(), longest.as_bytes()).is_ok());
        for (username, password, error) in [
            (&b""[..], &b"p"[..], AccessError::Form),
            (b"u", b"\n", AccessError::Form),
            (b"u", b"a\nb", AccessError::Form),
            (b"u\0", b"p", AccessError::Form),
            (b"\xff", b"p", AccessError::Form),
            (format!("{longest}x").as_bytes(), b"p", AccessError::Form),
            (b"a:b", b"p", AccessError::Colon),
        ] {
            assert_eq!(Credentials::parse(username, password), Err(error));
        }
    }

    #[test]
    fn a_bundle_is_certificates_and_nothing_else() {
        for bundle in [
            &b""[..],
            b"no PEM",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let access = Access::new(UpstreamScheme::Https, None, Some(bundle));
            assert_eq!(access.map(drop), Err(AccessError::Bundle));
        }
        assert!(Access::new(UpstreamScheme::Https, None, None).unwrap().tls().is_some());
        assert!(Access::new(UpstreamScheme::Socks5, None, None).unwrap().tls().is_none());
    }
}
