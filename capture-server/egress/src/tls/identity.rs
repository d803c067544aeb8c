//! What browsers are shown in place of a named host's certificate.
//!
//! In: the hosts that the policy names. Out: for each a certificate, all of one key, and that key's digest. The key is made
//! here, lives in this process's memory alone and ends with it: browsers are told of its digest, which is public.
//! It must not have a certificate for a host that is not named.

use std::collections::HashMap;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::NoServerSessionStorage;
use screenshot_policy::host::Host;
use screenshot_policy::tls::SpkiPin;

use super::HTTP;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// The key or a certificate could not be made.
    #[error("certificate not made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("certificate not taken: {0}")]
    Tls(#[from] rustls::Error),
}

/// One key and its certificates.
#[derive(Clone)]
pub(super) struct Identity {
    key: SpkiPin,
    shown: HashMap<Host, Arc<ServerConfig>>,
}

impl Identity {
    pub(super) fn new<'h>(
        hosts: impl Iterator<Item = &'h Host>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, SetupError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let key = SpkiPin::of(&pair.subject_public_key_info());
        let shown = hosts.map(|host| Ok((host.clone(), Arc::new(server(host, &pair, provider)?))));
        Ok(Self {
            key,
            shown: shown.collect::<Result<_, SetupError>>()?,
        })
    }

    pub(super) fn key(&self) -> SpkiPin {
        self.key
    }

    /// What is shown for this host; `None` if it is not named.
    pub(super) fn shown_for(&self, host: &Host) -> Option<Arc<ServerConfig>> {
        self.shown.get(host).cloned()
    }
}

fn server(host: &Host, pair: &KeyPair, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, SetupError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.subject_alt_names = vec![match host {
        Host::Ip(ip) => SanType::IpAddress(*ip),
        Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
    }];
    let certificate = parameters.self_signed(pair)?;
    let key = PrivatePkcs8KeyDer::from(pair.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    // Nothing of one capture is remembered for the next.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
