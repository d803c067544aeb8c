//! Connections through the upstream proxy.
//!
//! In: what the egress decision lets be asked for, the upstream's checked addresses, what the upstream is asked with. Out: a
//! stream that leads to the destination, or why not. The upstream is another's program: what it answers is bounded in bytes
//! and time, and nothing of its words is passed on. It must not resolve or judge anything: that is `decide`'s.

mod access;
mod connect;
mod secure;
mod socks;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use screenshot_policy::egress::{UpstreamProxy, UpstreamScheme};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::decide::{Pinned, Target};
use crate::dial::{self, Attempts, ConnectError, Dial};

pub use access::{Access, AccessError, Credentials, MAX_CREDENTIAL};
pub use connect::MAX_ANSWER;

/// A connection to the outside, or through the upstream.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Why the upstream gave no connection. No variant holds a word of the upstream's, or of what it was asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Its name does not lead to an address.
    #[error("its name was not resolved")]
    Unresolved,
    /// One of its addresses must not be dialled.
    #[error("its address is not one that may be dialled")]
    Address,
    /// None of its addresses accepted a connection.
    #[error("not connected: {0}")]
    Unreachable(ConnectError),
    /// Its certificate is not acceptable.
    #[error("its certificate is not acceptable")]
    Certificate,
    /// It does not speak TLS.
    #[error("no TLS")]
    Tls,
    /// It wants a user name and password, or others than it was given; or there are none to give.
    #[error("credentials not accepted")]
    Credentials,
    /// It does not let the destination be reached.
    #[error("refused")]
    Refused,
    /// It did not reach the destination.
    #[error("destination not reached")]
    Destination,
    /// What it said is not the protocol, or too long.
    #[error("protocol not kept")]
    Protocol,
    /// It was silent for too long.
    #[error("timed out")]
    Timeout,
}

impl UpstreamError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unresolved => "upstream_unresolved",
            Self::Address => "upstream_address",
            Self::Unreachable(_) => "upstream_unreachable",
            Self::Certificate => "upstream_certificate",
            Self::Tls => "upstream_tls",
            Self::Credentials => "upstream_credentials",
            Self::Refused => "upstream_refused",
            Self::Destination => "upstream_destination",
            Self::Protocol => "upstream_protocol",
            Self::Timeout => "upstream_timeout",
        }
    }

    /// The error type of RFC 9209, section 2.3.
    pub(crate) fn proxy_error(self) -> &'static str {
        match self {
            Self::Unresolved => "dns_error",
            Self::Address => "destination_ip_prohibited",
            Self::Unreachable(ConnectError::Refused) => "connection_refused",
            Self::Unreachable(ConnectError::Failed) | Self::Destination => "destination_unavailable",
            Self::Unreachable(ConnectError::Timeout) | Self::Timeout => "connection_timeout",
            Self::Certificate => "tls_certificate_error",
            Self::Tls => "tls_protocol_error",
            Self::Credentials => "proxy_configuration_error",
            Self::Refused => "http_request_denied",
            Self::Protocol => "http_protocol_error",
        }
    }

    /// Whether time ran out.
    pub(crate) fn is_late(self) -> bool {
        matches!(self, Self::Timeout | Self::Unreachable(ConnectError::Timeout))
    }

    /// Whether another address of the destination could fare better.
    fn is_about_destination(self) -> bool {
        matches!(self, Self::Destination | Self::Timeout)
    }
}

/// Asks the upstream for the targets one after the other, in the time of [`Attempts`].
pub(crate) async fn first(
    dial: &dyn Dial,
    upstream: &UpstreamProxy,
    at: &[Pinned],
    targets: &[Target],
    access: &Access,
    each: Duration,
) -> Result<(Stream, Option<IpAddr>), UpstreamError> {
    // Asking without them would tell the upstream what the page wants and be refused.
    if upstream.authenticated && access.credentials().is_none() {
        return Err(UpstreamError::Credentials);
    }
    let attempts = Attempts::of(each);
    let mut last = UpstreamError::Timeout;
    for target in targets {
        let attempt = through(dial, upstream, at, target, access, each);
        let ControlFlow::Continue(attempt) = attempts.one(attempt).await else {
            break;
        };
        last = match attempt {
            Some(Ok(stream)) => return Ok((stream, target.address())),
            Some(Err(error)) if error.is_about_destination() => error,
            Some(Err(error)) => return Err(error),
            None => UpstreamError::Timeout,
        };
    }
    Err(last)
}

async fn through(
    dial: &dyn Dial,
    upstream: &UpstreamProxy,
    at: &[Pinned],
    target: &Target,
    access: &Access,
    each: Duration,
) -> Result<Stream, UpstreamError> {
    let dialled = dial::first(dial, at, each).await;
    let (mut tcp, _) = dialled.map_err(UpstreamError::Unreachable)?;
    let credentials = access.credentials().filter(|_| upstream.authenticated);
    match upstream.scheme {
        UpstreamScheme::Http => {
            connect::ask(&mut tcp, target, credentials).await?;
            Ok(Either::Left(tcp))
        }
        UpstreamScheme::Https => {
            let mut tls = secure::secure(tcp, &upstream.host, access).await?;
            connect::ask(&mut tls, target, credentials).await?;
            Ok(Either::Right(Box::new(tls)))
        }
        UpstreamScheme::Socks5 => socks::ask(tcp, target, credentials).await.map(Either::Left),
    }
}

#[cfg(test)]
mod fuzz;
