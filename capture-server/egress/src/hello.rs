//! What may come first through a CONNECT.
//!
//! In: the first bytes that the browser sends into a tunnel. Out: "more bytes needed", a TLS ClientHello for the
//! host of the tunnel, the start of a plain HTTP request, or why it is neither. This keeps TURN, raw protocols and
//! tunnels for one host under another's name out. Bounded, without allocation for the parts that are skipped.
//! It must not judge TLS versions or ciphers: browser and target settle those.

use screenshot_policy::host::Host;

/// The longest ClientHello in bytes.
pub const MAX_HELLO: usize = 16 * 1024;

const RECORD_HANDSHAKE: u8 = 22;
const MAX_RECORD: usize = 16 * 1024;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;

/// Why a tunnel is cut before anything goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The first bytes are neither TLS nor, where that is served, an HTTP request.
    #[error("no TLS handshake")]
    NotTls,
    /// A TLS record without a well-formed ClientHello.
    #[error("malformed ClientHello")]
    Malformed,
    /// Longer than [`MAX_HELLO`].
    #[error("ClientHello too large")]
    TooLarge,
    /// Not complete in time, or the browser closed first.
    #[error("no ClientHello in time")]
    Missing,
    /// No server name, and the host is a name.
    #[error("no server name")]
    NameMissing,
    /// A server name that is not the tunnel's host.
    #[error("server name is not the host")]
    NameMismatch,
    /// A plain request that is not a WebSocket upgrade for the tunnel's host.
    #[error("not a WebSocket upgrade for the host")]
    NotUpgrade,
}

impl HelloError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotTls => "tunnel_not_tls",
            Self::Malformed => "tunnel_hello_malformed",
            Self::TooLarge => "tunnel_hello_too_large",
            Self::Missing => "tunnel_hello_missing",
            Self::NameMissing => "tunnel_sni_missing",
            Self::NameMismatch => "tunnel_sni_mismatch",
            Self::NotUpgrade => "tunnel_not_websocket",
        }
    }
}

/// What a tunnel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// TLS for the tunnel's host.
    Tls,
    /// Something that starts like an HTTP `GET`; its head is still to be parsed.
    Http,
}

/// What may go through a tunnel to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// Port 443.
    Tls,
    /// Port 80: a WebSocket; who wants TLS does not ask there.
    Http,
    /// A port that the policy opened: whichever its server speaks.
    Either,
}

impl Served {
    pub(crate) const fn on(port: u16) -> Self {
        match port {
            443 => Self::Tls,
            80 => Self::Http,
            _ => Self::Either,
        }
    }
}

/// Looks at the first bytes of a tunnel; `None` asks for more.
pub(crate) fn inspect(bytes: &[u8], host: &Host, served: Served) -> Result<Option<Opening>, HelloError> {
    match bytes.first() {
        None => Ok(None),
        Some(&RECORD_HANDSHAKE) if served == Served::Http => Err(HelloError::NotUpgrade),
        Some(&RECORD_HANDSHAKE) => {
            let Some(body) = handshake(bytes)? else {
                return Ok(None);
            };
            judge(server_name(&body)?, host).map(|()| Some(Opening::Tls))
        }
        Some(b'G') if served != Served::Tls => Ok(Some(Opening::Http)),
        Some(_) => Err(HelloError::NotTls),
    }
}

fn judge(name: Option<&[u8]>, host: &Host) -> Result<(), HelloError> {
    match (name, host) {
        // RFC 6066 knows no addresses in a server name, so with a literal host there must be none.
        (None, Host::Ip(_)) => Ok(()),
        (None, Host::Name(_)) => Err(HelloError::NameMissing),
        (Some(name), Host::Name(host)) if name.eq_ignore_ascii_case(host.as_str().as_bytes()) => Ok(()),
        (Some(_), _) => Err(HelloError::NameMismatch),
    }
}

/// The server name in the body of a ClientHello, if it has one.
fn server_name(body: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    let mut rest = Reader(body);
    rest.take(2 + 32).ok_or(HelloError::Malformed)?;
    rest.vector8().ok_or(HelloError::Malformed)?;
    rest.vector16().ok_or(HelloError::Malformed)?;
    rest.vector8().ok_or(HelloError::Malformed)?;
    if rest.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = Reader(rest.vector16().ok_or(HelloError::Malformed)?);
    if !rest.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16().ok_or(HelloError::Malformed)?;
        let body = extensions.vector16().ok_or(HelloError::Malformed)?;
        if kind == EXTENSION_SERVER_NAME && found.replace(one_name(body).ok_or(HelloError::Malformed)?).is_some() {
            return Err(HelloError::Malformed);
        }
    }
    Ok(found)
}

/// The single host name of a `server_name` extension.
fn one_name(body: &[u8]) -> Option<&[u8]> {
    let mut body = Reader(body);
    let mut list = Reader(body.vector16()?);
    let kind = list.u8()?;
    let name = list.vector16()?;
    (kind == 0 && !name.is_empty() && list.0.is_empty() && body.0.is_empty()).then_some(name)
}

/// The body of the ClientHello, put together from as many records as it is spread over.
fn handshake(bytes: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    let mut rest = Reader(bytes);
    let mut message = Vec::new();
    // Each turn takes a record of at least one byte, so the bound on `bytes` bounds the turns.
    loop {
        let Some(header) = rest.take(5) else { return Ok(None) };
        let (kind, major) = (header[0], header[1]);
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if kind != RECORD_HANDSHAKE || major != 3 || length == 0 || length > MAX_RECORD {
            return Err(HelloError::Malformed);
        }
        let available = rest.0.len().min(length);
        message.extend_from_slice(rest.0.get(..available).unwrap_or_default());
        if let Some(body) = client_hello(&message)? {
            return Ok(Some(body));
        }
        if rest.take(length).is_none() {
            return Ok(None);
        }
    }
}

/// The body of a ClientHello message if all of it is there.
fn client_hello(message: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::Malformed);
    }
    let Some(&[_, a, b, c]) = message.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    if length > MAX_HELLO {
        return Err(HelloError::TooLarge);
    }
    Ok(message.get(4..4 + length).map(<[u8]>::to_vec))
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u16::from_be_bytes)
    }

    fn vector8(&mut self) -> Option<&'b [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'b [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;
