//! Response heads of targets.
//!
//! In: bytes. Out: the head as the browser gets it and how long the body is, or why it cannot be relayed. Fields
//! that concern one connection or speak for a proxy are dropped: a target must not pose as this proxy.

use httparse::{EMPTY_HEADER, Status};

use crate::head::{MAX_FIELDS, content_length, field, is_hop_by_hop, nominated};

/// Why a response is not relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not an HTTP/1 response head.
    #[error("malformed")]
    Malformed,
    /// Longer than [`crate::head::MAX_HEAD`], or too many fields or interim responses.
    #[error("too large")]
    TooLarge,
    /// The target closed before the head was complete.
    #[error("incomplete")]
    Incomplete,
    /// The target was silent for too long.
    #[error("timed out")]
    Timeout,
    /// A status that only a proxy may give: 407, or 101 unasked.
    #[error("status not allowed")]
    Status,
}

impl ResponseError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "response_malformed",
            Self::TooLarge => "response_too_large",
            Self::Incomplete => "response_incomplete",
            Self::Timeout => "response_timeout",
            Self::Status => "response_status",
        }
    }
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Exactly(u64),
    /// The target closes (or the browser, having seen the last chunk).
    UntilClose,
}

/// A final response, or the switch to another protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
}

/// Parses one response head to a request of `method`; `None` asks for more bytes, else the count of bytes used.
pub(crate) fn parse(bytes: &[u8], method: &str, upgrade: bool) -> Result<Option<(Response, usize)>, ResponseError> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut raw = httparse::Response::new(&mut fields);
    let used = match raw.parse(bytes) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooLarge),
        Err(_) => return Err(ResponseError::Malformed),
    };
    let status = raw
        .code
        .filter(|code| (100..600).contains(code))
        .ok_or(ResponseError::Malformed)?;
    if status == 407 || (status == 101 && !upgrade) {
        return Err(ResponseError::Status);
    }
    let body = body(status, method, raw.headers)?;
    let head = render(status, raw.reason.unwrap_or_default(), raw.headers);
    Ok(Some((Response { status, head, body }, used)))
}

fn is_chunked(fields: &[httparse::Header<'_>]) -> bool {
    fields
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case("transfer-encoding"))
}

fn body(status: u16, method: &str, fields: &[httparse::Header<'_>]) -> Result<Body, ResponseError> {
    let stated = content_length(fields).map_err(|_| ResponseError::Malformed)?;
    if method == "HEAD" || status < 200 || matches!(status, 204 | 304) {
        return Ok(Body::Exactly(0));
    }
    match stated {
        Some(length) if !is_chunked(fields) => Ok(Body::Exactly(length)),
        _ => Ok(Body::UntilClose),
    }
}

fn render(status: u16, phrase: &str, fields: &[httparse::Header<'_>]) -> Vec<u8> {
    let nominated = nominated(fields);
    let chunked = is_chunked(fields);
    let mut out = format!("HTTP/1.1 {status} {phrase}\r\n").into_bytes();
    for raw in fields {
        let lower = raw.name.to_ascii_lowercase();
        // The body is relayed as it comes, so its framing must be, whatever `Connection` lists.
        let framing = match lower.as_str() {
            "transfer-encoding" => Some(true),
            "content-length" => Some(!chunked),
            _ => None,
        };
        if framing.unwrap_or_else(|| !is_hop_by_hop(raw.name, &nominated)) {
            field(&mut out, raw.name, raw.value);
        }
    }
    if status == 101 {
        field(&mut out, "Upgrade", b"websocket");
    }
    field(
        &mut out,
        "Connection",
        if status == 101 { b"Upgrade" } else { b"close" },
    );
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests;
