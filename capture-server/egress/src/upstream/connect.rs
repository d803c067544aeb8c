//! HTTP CONNECT.
//!
//! In: a stream to the upstream, a target. Out: the stream leads there, or why not. Every destination is asked for this way,
//! port 80 too: the other form, a whole URL, would hand over the name and let the upstream look it up.
//! hyper-util's `Tunnel` is not used: its error cannot be told apart but by its text, and it drops what follows the answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{Credentials, UpstreamError};
use crate::decide::Target;
use crate::head::MAX_FIELDS;
use crate::wire::{self, HeadEnd, ReadError};

/// The longest answer of an upstream, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024;

/// Asks for a tunnel to the target.
pub(super) async fn ask<S>(
    stream: &mut S,
    target: &Target,
    credentials: Option<&Credentials>,
) -> Result<(), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let question = question(target, credentials);
    let asked = async {
        stream.write_all(question.as_bytes()).await?;
        stream.flush().await
    };
    asked.await.map_err(|_| UpstreamError::Protocol)?;
    let (mut answer, mut end) = (Vec::new(), HeadEnd::default());
    let parse = |bytes: &[u8]| if end.found(bytes) { parse(bytes) } else { Ok(None) };
    let read = wire::read_until(stream, &mut answer, MAX_ANSWER, parse).await;
    let (status, used) = read.map_err(|error| match error {
        ReadError::Parse(error) => error,
        ReadError::TooLarge | ReadError::Closed => UpstreamError::Protocol,
    })?;
    match status {
        // Who asks speaks first, so what is there already cannot be the destination's.
        200..=299 if used == answer.len() => Ok(()),
        407 => Err(UpstreamError::Credentials),
        502..=504 => Err(UpstreamError::Destination),
        400..=599 => Err(UpstreamError::Refused),
        _ => Err(UpstreamError::Protocol),
    }
}

fn question(target: &Target, credentials: Option<&Credentials>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some(credentials) = credentials {
        let pair = Zeroizing::new(format!("{}:{}", credentials.username(), credentials.password()));
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        text.push_str("Proxy-Authorization: Basic ");
        text.push_str(&encoded);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text
}

fn parse(bytes: &[u8]) -> Result<Option<(u16, usize)>, UpstreamError> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut raw = httparse::Response::new(&mut fields);
    match raw.parse(bytes) {
        Ok(Status::Complete(used)) => raw.code.map(|code| Some((code, used))).ok_or(UpstreamError::Protocol),
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(UpstreamError::Protocol),
    }
}
