//! SOCKS version 5 (RFC 1928), with user name and password (RFC 1929).
//!
//! In: a stream to the upstream, a target. Out: the stream leads there, or why not. Every message of the protocol has a
//! length of at most 262 bytes and is read to it exactly. The handshake is `tokio-socks`': hyper-util's `SocksV5` keeps all
//! its messages in one buffer of 262 bytes and so refuses user names and passwords that the RFC allows.

use std::borrow::Cow;

use screenshot_policy::host::Host;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{Error, TargetAddr};

use super::{Credentials, UpstreamError};
use crate::decide::Target;

/// Asks for a connection to the target.
pub(super) async fn ask<S>(stream: S, target: &Target, credentials: Option<&Credentials>) -> Result<S, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let to = match target.host() {
        Host::Ip(ip) => TargetAddr::Ip((*ip, target.port()).into()),
        Host::Name(name) => TargetAddr::Domain(Cow::Borrowed(name.as_str()), target.port()),
    };
    let asked = match credentials {
        None => Socks5Stream::connect_with_socket(stream, to).await,
        Some(credentials) => {
            let (username, password) = (credentials.username(), credentials.password());
            Socks5Stream::connect_with_password_and_socket(stream, to, username, password).await
        }
    };
    asked.map(Socks5Stream::into_inner).map_err(|error| refused(&error))
}

fn refused(error: &Error) -> UpstreamError {
    match error {
        Error::NoAcceptableAuthMethods | Error::PasswordAuthFailure(_) | Error::AuthorizationRequired => {
            UpstreamError::Credentials
        }
        Error::ConnectionNotAllowedByRuleset => UpstreamError::Refused,
        Error::GeneralSocksServerFailure
        | Error::NetworkUnreachable
        | Error::HostUnreachable
        | Error::ConnectionRefused
        | Error::TtlExpired
        | Error::AddressTypeNotSupported => UpstreamError::Destination,
        _ => UpstreamError::Protocol,
    }
}
