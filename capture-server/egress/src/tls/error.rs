//! Why a named host's TLS is refused: a closed set.
//!
//! In: the handshake's error. Out: a bounded word and the error type of RFC 9209. It must not carry what a certificate
//! says: its names are the target's choice.

use std::io;

use rustls::CertificateError;

/// Why a named host's TLS is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No key of the certificate, or of its path, is pinned.
    #[error("no pinned key")]
    PinMismatch,
    /// No authority vouches for the certificate.
    #[error("certificate not trusted")]
    Untrusted,
    /// A certificate of the path is not valid at this time.
    #[error("certificate not valid now")]
    Expired,
    /// The certificate is for other names.
    #[error("certificate for another name")]
    Name,
    /// The two do not come to terms: versions, ciphers, protocols, or an alert of the target's.
    #[error("TLS handshake failed")]
    Protocol,
    /// The target closed during the handshake.
    #[error("closed during the TLS handshake")]
    Closed,
    /// The handshake did not end in time.
    #[error("TLS handshake timed out")]
    Timeout,
    /// The proxy has no certificate of its own to show.
    #[error("TLS to named hosts is unavailable")]
    Unavailable,
}

impl TlsError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::PinMismatch => "tls_pin_mismatch",
            Self::Untrusted => "tls_untrusted",
            Self::Expired => "tls_expired",
            Self::Name => "tls_name_mismatch",
            Self::Protocol => "tls_protocol",
            Self::Closed => "tls_closed",
            Self::Timeout => "tls_timeout",
            Self::Unavailable => "tls_unavailable",
        }
    }

    /// The error type of RFC 9209, section 2.3.
    pub(crate) fn proxy_error(self) -> &'static str {
        match self {
            Self::PinMismatch | Self::Untrusted | Self::Expired | Self::Name => "tls_certificate_error",
            Self::Protocol | Self::Closed => "tls_protocol_error",
            Self::Timeout => "connection_timeout",
            Self::Unavailable => "proxy_internal_error",
        }
    }

    /// The cause of a failed handshake.
    pub(super) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(error)) => Self::of_certificate(error),
            Some(_) => Self::Protocol,
            None => Self::Closed,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // What `Verifier` says of keys, and nothing else.
            CertificateError::ApplicationVerificationFailure => Self::PinMismatch,
            CertificateError::Expired => Self::Expired,
            CertificateError::NotValidForName => Self::Name,
            _ => Self::Untrusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_word_of_its_own_and_a_type_of_the_standard() {
        let all = [
            TlsError::PinMismatch,
            TlsError::Untrusted,
            TlsError::Expired,
            TlsError::Name,
            TlsError::Protocol,
            TlsError::Closed,
            TlsError::Timeout,
            TlsError::Unavailable,
        ];
        let mut words: Vec<_> = all.iter().map(|error| error.reason()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all.len());
        assert!(words.iter().all(|word| word.starts_with("tls_")));
        assert_eq!(TlsError::PinMismatch.proxy_error(), "tls_certificate_error");
        assert_eq!(TlsError::Protocol.proxy_error(), "tls_protocol_error");
    }
}
