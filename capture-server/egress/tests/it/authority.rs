//! Authorities of the tests' own, TLS servers with whatever certificate, and a browser that says what it was shown.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WantsServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ALL_VERSIONS, ClientConfig, ConfigBuilder, DigitallySignedStruct, HandshakeKind, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use screenshot_policy::tls::SpkiPin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use webpki::EndEntityCert;

use crate::harness::{Proxy, Target};

pub fn pin(pair: &KeyPair) -> SpkiPin {
    SpkiPin::of(&pair.subject_public_key_info())
}

/// An authority, at the top or below another one.
pub struct Authority {
    pub pair: KeyPair,
    pub certificate: CertificateDer<'static>,
    parameters: CertificateParams,
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

impl Authority {
    pub fn root(name: &str) -> Self {
        let (parameters, pair) = (parameters(name), KeyPair::generate().unwrap());
        let certificate = parameters.self_signed(&pair).unwrap().der().clone();
        Self {
            pair,
            certificate,
            parameters,
        }
    }

    pub fn under(&self, name: &str) -> Self {
        let (parameters, pair) = (parameters(name), KeyPair::generate().unwrap());
        let certificate = self.sign(&parameters, &pair);
        Self {
            pair,
            certificate,
            parameters,
        }
    }

    /// A certificate for `name`, changed by `change` first.
    pub fn issue(
        &self,
        name: &str,
        pair: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut parameters);
        self.sign(&parameters, pair)
    }

    fn sign(&self, parameters: &CertificateParams, pair: &KeyPair) -> CertificateDer<'static> {
        let issuer = Issuer::from_params(&self.parameters, &self.pair);
        parameters.signed_by(pair, &issuer).unwrap().der().clone()
    }
}

/// A certificate that nobody but its own key vouches for.
pub fn self_signed(
    name: &str,
    pair: &KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<CertificateDer<'static>> {
    let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
    change(&mut parameters);
    vec![parameters.self_signed(pair).unwrap().der().clone()]
}

pub const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A TLS server, what it was asked, and whether that was under a session of before.
pub struct Site {
    pub asked: Arc<Mutex<Vec<String>>>,
    pub resumed: Arc<Mutex<Vec<bool>>>,
}

fn speaking(versions: &[&'static SupportedProtocolVersion]) -> ConfigBuilder<ServerConfig, WantsServerCert> {
    ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
}

fn private(pair: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(pair.serialize_der()).into()
}

/// Serves TLS with these certificates on every connection to `target`: one request, one answer. With `protocols` it
/// offers these, else none.
pub fn serve(target: Target, chain: Vec<CertificateDer<'static>>, pair: &KeyPair, protocols: &[&str]) -> Site {
    let config = speaking(ALL_VERSIONS).with_single_cert(chain, private(pair)).unwrap();
    serve_by(target, config, protocols)
}

/// The same by one who has the certificates, as everybody can, and not their key: it signs with `own`.
pub fn pose(
    target: Target,
    chain: Vec<CertificateDer<'static>>,
    own: &KeyPair,
    version: &'static SupportedProtocolVersion,
) -> Site {
    let certified = CertifiedKey::new(chain, any_supported_type(&private(own)).unwrap());
    let config = speaking(&[version]).with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    serve_by(target, config, &["http/1.1"])
}

fn serve_by(target: Target, mut config: ServerConfig, protocols: &[&str]) -> Site {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let site = Site {
        asked: Arc::default(),
        resumed: Arc::default(),
    };
    let (asked, resumed) = (Arc::clone(&site.asked), Arc::clone(&site.resumed));
    tokio::spawn(async move {
        loop {
            let stream = target.accept_whenever().await;
            let (acceptor, asked, resumed) = (acceptor.clone(), Arc::clone(&asked), Arc::clone(&resumed));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let protocol = String::from_utf8(protocol.unwrap_or_default()).unwrap();
                let line = String::from_utf8(head).unwrap().lines().next().unwrap().to_owned();
                asked.lock().unwrap().push(format!("{protocol} {line}"));
                let kind = stream.get_ref().1.handshake_kind();
                resumed.lock().unwrap().push(kind == Some(HandshakeKind::Resumed));
                let _ = stream.write_all(HELLO.as_bytes()).await;
                // Whatever more is said is said back.
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    site
}

/// A verifier that takes everything and remembers the key.
#[derive(Debug, Default)]
struct Curious(Mutex<Option<SpkiPin>>);

impl ServerCertVerifier for Curious {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let leaf = EndEntityCert::try_from(end_entity).unwrap();
        leaf.verify_is_valid_for_subject_name(server_name).unwrap();
        *self.0.lock().unwrap() = Some(SpkiPin::of(&leaf.subject_public_key_info()));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A browser: what it keeps of one connection it has for the next.
pub struct Browser {
    config: Arc<ClientConfig>,
    seen: Arc<Curious>,
}

impl Browser {
    pub fn new(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let seen = Arc::new(Curious::default());
        let mut config = ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(seen.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
            seen,
        }
    }

    /// Opens a tunnel to `host` on `port` and begins TLS in it; `None` if it is cut.
    pub async fn tunnelled(&self, proxy: &Proxy, host: &str, port: u16) -> Option<Tunnelled> {
        let (stream, head) = proxy.tunnel(&format!("{host}:{port}")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).unwrap();
        let connected = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await;
        let stream = connected.ok()?;
        let key = self.seen.0.lock().unwrap().unwrap();
        Some(Tunnelled { stream, key })
    }
}

/// What a browser got through a tunnel.
pub struct Tunnelled {
    pub stream: TlsStream<TcpStream>,
    /// The key of the certificate that it was shown last.
    pub key: SpkiPin,
}

/// The same in a browser of its own.
pub async fn tunnelled(proxy: &Proxy, host: &str, port: u16) -> Option<Tunnelled> {
    Browser::new(rustls::ALL_VERSIONS).tunnelled(proxy, host, port).await
}

impl Tunnelled {
    /// Whether the browser went on with a session of before.
    pub fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends `text` and reads as much as the server's answer has.
    pub async fn ask(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; HELLO.len()];
        self.stream.read_exact(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}
