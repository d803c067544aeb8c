//! Whether a named host's certificate is one that the policy takes.
//!
//! In: the certificates that the target sent, its name, the time. Out: yes, or the first thing that is wrong. Where
//! authorities must vouch, the pin has to be in the path that was verified: among what a target merely sends, anybody
//! can put the certificate of somebody else. Revocation is not looked up, as browsers do not either.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use screenshot_policy::tls::{SpkiPin, Trust};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, spki_for_anchor};

use crate::decide::Keys;

/// Judges one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) keys: Keys,
}

impl Verifier {
    fn pins(&self, spki: &[u8]) -> bool {
        self.keys.pins.contains(&SpkiPin::of(spki))
    }

    fn pins_one_of(&self, path: &VerifiedPath<'_>) -> bool {
        self.pins(&path.end_entity().subject_public_key_info())
            || path
                .intermediate_certificates()
                .any(|authority| self.pins(&authority.subject_public_key_info()))
            || self.pins(&spki_for_anchor(path.anchor()))
    }

    /// Whether an authority vouches for the certificate by way of a pinned key. All ways are tried.
    fn vouched(
        &self,
        leaf: &EndEntityCert<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let good_but_for_the_pin = Cell::new(false);
        let pinned = |path: &VerifiedPath<'_>| {
            if self.pins_one_of(path) {
                return Ok(());
            }
            good_but_for_the_pin.set(true);
            Err(webpki::Error::UnknownIssuer)
        };
        let verified = leaf.verify_for_usage(
            self.algorithms.all,
            &self.roots.roots,
            sent,
            now,
            KeyUsage::server_auth(),
            None,
            Some(&pinned),
        );
        match verified {
            Ok(_) => Ok(()),
            Err(_) if good_but_for_the_pin.get() => Err(CertificateError::ApplicationVerificationFailure),
            Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
                Err(CertificateError::Expired)
            }
            Err(_) => Err(CertificateError::UnknownIssuer),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        match self.keys.trust {
            Trust::PublicAuthorities => {
                self.vouched(&leaf, intermediates, now)?;
                leaf.verify_is_valid_for_subject_name(server_name)
                    .map_err(|_| CertificateError::NotValidForName)?;
            }
            // That the target has the key, and not only the certificate, the handshake's signature shows.
            Trust::PinnedKey if self.pins(&leaf.subject_public_key_info()) => {}
            Trust::PinnedKey => return Err(CertificateError::ApplicationVerificationFailure.into()),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
