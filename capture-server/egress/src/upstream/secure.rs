//! TLS to the upstream itself.
//!
//! In: a connection, the upstream's host, whom its certificate must be from. Out: a stream to the upstream that was named, or
//! why not. The destination's own TLS goes through it untouched.

use std::io;

use rustls::pki_types::ServerName;
use screenshot_policy::host::Host;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Access, UpstreamError};

pub(super) async fn secure(
    tcp: TcpStream,
    host: &Host,
    access: &Access,
) -> Result<TlsStream<TcpStream>, UpstreamError> {
    let connector = access.tls().ok_or(UpstreamError::Tls)?;
    let name = match host {
        Host::Ip(ip) => ServerName::from(*ip),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).map_err(|_| UpstreamError::Certificate)?,
    };
    connector.connect(name, tcp).await.map_err(|error| failed(&error))
}

fn failed(error: &io::Error) -> UpstreamError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => UpstreamError::Certificate,
        _ => UpstreamError::Tls,
    }
}
