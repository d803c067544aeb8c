//! TLS to the hosts that the policy names: it ends here, and the proxy's own goes on to the target.
//!
//! In: a tunnel whose ClientHello was checked, and what the policy asks of the host's certificate. Out: both ends joined,
//! or why not. A tunnelling proxy cannot see a certificate of TLS 1.3, and what another connection was shown proves
//! nothing about this one; so the proof is made on the connection that carries the bytes. The browser is shown a
//! certificate of the proxy's own, only after the proof. HTTP/1.1 on both sides; nothing reads what goes through.
//! It must not touch a tunnel to any other host: those stay the browser's own, with the browser's own verification.

mod error;
mod identity;
mod verify;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use screenshot_policy::host::Host;
use screenshot_policy::tls::{SpkiPin, TlsHost};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Timings;
use crate::connection::Cut;
use crate::decide::{Clock, Keys};
use crate::wire::{self, Stage};
pub use error::TlsError;
use identity::Identity;
use verify::Verifier;

/// The only protocol that is spoken: streams of several requests would be one connection for many tunnels.
const HTTP: &[u8] = b"http/1.1";

/// What all sessions share of this.
pub(crate) struct Terminator {
    provider: Arc<CryptoProvider>,
    now: Arc<Now>,
    roots: Arc<RootCertStore>,
    identity: Identity,
}

impl Terminator {
    /// `None` if no host is named, or no key could be made: then every named host is refused.
    pub(crate) fn new(hosts: &[TlsHost], clock: &Clock) -> Option<Self> {
        if hosts.is_empty() {
            return None;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity = Identity::new(hosts.iter().map(|named| &named.host), &provider);
        let identity = identity.inspect_err(|error| tracing::error!(%error, "named hosts cannot be served"));
        Some(Self {
            provider,
            now: Arc::new(Now(Arc::clone(clock))),
            roots: Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
            identity: identity.ok()?,
        })
    }

    /// The same with other authorities.
    pub(crate) fn with_authorities(&self, roots: RootCertStore) -> Self {
        Self {
            provider: Arc::clone(&self.provider),
            now: Arc::clone(&self.now),
            roots: Arc::new(roots),
            identity: self.identity.clone(),
        }
    }

    /// The key of the certificates that browsers are shown.
    pub(crate) fn key(&self) -> SpkiPin {
        self.identity.key()
    }

    /// No session is ever resumed: a resumed one shows no certificate.
    fn outward(&self, keys: Keys) -> Result<ClientConfig, rustls::Error> {
        let verifier = Verifier {
            roots: Arc::clone(&self.roots),
            algorithms: self.provider.signature_verification_algorithms,
            keys,
        };
        let now: Arc<dyn TimeProvider> = Arc::clone(&self.now) as _;
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.provider), now)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// How one tunnel to a named host is served.
pub(crate) struct Named {
    name: ServerName<'static>,
    outward: Arc<ClientConfig>,
    inward: Arc<ServerConfig>,
}

/// How a tunnel to this host is served, which the policy names with these keys.
pub(crate) fn named(terminator: Option<&Terminator>, host: &Host, keys: Keys) -> Result<Named, TlsError> {
    let made = || {
        let terminator = terminator?;
        Some(Named {
            name: server_name(host)?,
            outward: Arc::new(terminator.outward(keys).ok()?),
            inward: terminator.identity.shown_for(host)?,
        })
    };
    made().ok_or(TlsError::Unavailable)
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Ip(ip) => Some(ServerName::from(*ip)),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
    }
}

impl Named {
    /// Serves a tunnel whose ClientHello, in `opening`, has been read. `admitted` is called once the target has proven
    /// its key; nothing of the browser's goes out before.
    pub(crate) async fn bridge<C, U>(
        self,
        client: &mut C,
        upstream: &mut U,
        opening: &[u8],
        timings: &Timings,
        admitted: impl FnOnce(),
    ) -> Result<(), Cut>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let connected = TlsConnector::from(self.outward).connect(self.name, upstream);
        let mut outside = bounded(timings.header, connected).await?;
        admitted();
        let (read, write) = tokio::io::split(client);
        let replayed = tokio::io::join(opening.chain(read), write);
        let accepted = timeout(timings.header, TlsAcceptor::from(self.inward).accept(replayed)).await;
        // A browser that does not go on has its reasons and knows them.
        let Ok(Ok(mut inside)) = accepted else {
            return Ok(());
        };
        let spliced = wire::splice(&mut inside, &mut outside, timings, Stage::Open).await;
        spliced.map_err(Cut::silent)
    }
}

async fn bounded<T>(wait: Duration, handshake: impl Future<Output = io::Result<T>>) -> Result<T, Cut> {
    match timeout(wait, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(wire::spent(&error).map_or_else(|| Cut::silent(TlsError::of(&error)), Cut::silent)),
        Err(_) => Err(Cut::silent(TlsError::Timeout)),
    }
}

/// The proxy's clock for certificates.
struct Now(Clock);

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
