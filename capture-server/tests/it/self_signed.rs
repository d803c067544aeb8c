//! A TLS server's identity that nobody vouches for. The jail's tests have it from here, too.

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, SupportedProtocolVersion};

/// A server with a certificate of this key, for this name.
pub fn config(pair: &KeyPair, name: &str, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let certificate = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = certificate.self_signed(pair).unwrap();
    ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(pair.serialize_der()).into(),
        )
        .unwrap()
}
