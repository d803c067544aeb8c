//! Request heads: the request line and fields that the browser sends to the proxy.
//!
//! In: bytes. Out: a typed request, "more bytes needed", or the rule that they break. Only absolute-form `http://`
//! and `CONNECT host:port` are served; inside a CONNECT, only a WebSocket upgrade for the same host.
//! What goes to the target is rendered anew from the parsed parts, so nothing that was not understood is passed on.

use httparse::{EMPTY_HEADER, Status};
use screenshot_policy::host::Host;

use crate::log::Site;

/// The longest head, of a request or a response, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most fields in a head.
pub(crate) const MAX_FIELDS: usize = 128;

/// Which rule a request head breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Longer than [`MAX_HEAD`], or too many fields.
    #[error("too large")]
    TooLarge,
    /// Not complete in time.
    #[error("not complete in time")]
    Slow,
    /// Not an HTTP/1.1 request head.
    #[error("malformed")]
    Malformed,
    /// Another version than HTTP/1.1.
    #[error("version not supported")]
    Version,
    /// A path where the full URL is due: the request was not meant for a proxy.
    #[error("origin form")]
    OriginForm,
    /// Another scheme than `http`.
    #[error("scheme not supported")]
    Scheme,
    /// User information in the authority.
    #[error("user information")]
    UserInfo,
    /// Not a host and port in their strict forms.
    #[error("authority not valid")]
    Authority,
    /// The length of the body is not stated by at most one `Content-Length`.
    #[error("body framing not supported")]
    Framing,
    /// Bytes follow the request: one connection carries one request.
    #[error("more than one request")]
    Pipelined,
}

impl HeadError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "head_too_large",
            Self::Slow => "head_slow",
            Self::Malformed => "head_malformed",
            Self::Version => "head_version",
            Self::OriginForm => "head_origin_form",
            Self::Scheme => "head_scheme",
            Self::UserInfo => "head_userinfo",
            Self::Authority => "head_authority",
            Self::Framing => "head_framing",
            Self::Pipelined => "head_pipelined",
        }
    }
}

/// What the browser asks of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A tunnel.
    Connect(Site),
    /// One plain HTTP request.
    Plain(Request),
}

impl Head {
    pub(crate) fn site(&self) -> &Site {
        match self {
            Self::Connect(site) => site,
            Self::Plain(request) => &request.site,
        }
    }
}

/// A plain request, less everything that concerns only the connection to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) site: Site,
    pub(crate) method: String,
    /// Path and query, starting with a slash.
    pub(crate) path: String,
    /// The bytes of the body.
    pub(crate) length: u64,
    /// Whether it asks for a WebSocket.
    pub(crate) upgrade: bool,
    stated_length: bool,
    fields: Vec<(String, Vec<u8>)>,
}

/// Parses the head of a connection to the proxy; `None` asks for more bytes, else the count of bytes used.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut raw = httparse::Request::new(&mut fields);
    let Some(used) = complete(raw.parse(bytes))? else {
        return Ok(None);
    };
    let (method, target) = line(&raw)?;
    if method == "CONNECT" {
        return Ok(Some((Head::Connect(authority(target, None)?), used)));
    }
    let (site, path) = absolute(target)?;
    Request::new(site, method, path, raw.headers).map(|request| Some((Head::Plain(request), used)))
}

/// Parses the head of a WebSocket upgrade inside a CONNECT to `site`.
pub(crate) fn parse_inner(bytes: &[u8], site: &Site) -> Result<Option<(Request, usize)>, HeadError> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut raw = httparse::Request::new(&mut fields);
    let Some(used) = complete(raw.parse(bytes))? else {
        return Ok(None);
    };
    let (method, path) = line(&raw)?;
    let mut hosts = raw
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("host"));
    let named = hosts
        .next()
        .and_then(|field| std::str::from_utf8(field.value).ok())
        .ok_or(HeadError::Authority)?;
    if hosts.next().is_some() || authority(named, Some(80))? != *site {
        return Err(HeadError::Authority);
    }
    if !path.starts_with('/') || path.contains('#') {
        return Err(HeadError::Malformed);
    }
    let request = Request::new(site.clone(), method, path.to_owned(), raw.headers)?;
    if request.upgrade {
        Ok(Some((request, used)))
    } else {
        Err(HeadError::Malformed)
    }
}

fn complete(parsed: Result<Status<usize>, httparse::Error>) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(Status::Complete(used)) => Ok(Some(used)),
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(httparse::Error::Version) => Err(HeadError::Version),
        Err(_) => Err(HeadError::Malformed),
    }
}

fn line<'b>(raw: &httparse::Request<'_, 'b>) -> Result<(&'b str, &'b str), HeadError> {
    match (raw.method, raw.path, raw.version) {
        (Some(method), Some(target), Some(1)) => Ok((method, target)),
        (_, _, Some(0)) => Err(HeadError::Version),
        _ => Err(HeadError::Malformed),
    }
}

fn absolute(target: &str) -> Result<(Site, String), HeadError> {
    if target.starts_with('/') || target == "*" {
        return Err(HeadError::OriginForm);
    }
    let (scheme, rest) = target.split_once("://").ok_or(HeadError::Malformed)?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(HeadError::Scheme);
    }
    if rest.contains('#') {
        return Err(HeadError::Malformed);
    }
    let (named, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Ok((authority(named, Some(80))?, path))
}

/// `host:port`; without `default` the port must be there.
fn authority(text: &str, default: Option<u16>) -> Result<Site, HeadError> {
    if text.contains('@') {
        return Err(HeadError::UserInfo);
    }
    // The colon after a closing bracket, or the only one of a name: an IPv6 address without brackets has more.
    let split = text
        .rfind(':')
        .filter(|at| !text.starts_with('[') || text.get(..*at).is_some_and(|host| host.ends_with(']')));
    let (host, port) = match split {
        Some(at) => (text.get(..at), text.get(at + 1..).and_then(port)),
        None => (Some(text), default),
    };
    let host: Host = host.and_then(|host| host.parse().ok()).ok_or(HeadError::Authority)?;
    Ok(Site {
        host,
        port: port.ok_or(HeadError::Authority)?,
    })
}

fn port(text: &str) -> Option<u16> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0)
}

/// Whether a field concerns one connection only (RFC 9110 section 7.6.1) or the proxy, `nominated` being what
/// `Connection` lists. Fields that the proxy writes itself are among them.
pub(crate) fn is_hop_by_hop(name: &str, nominated: &[String]) -> bool {
    const NAMES: &[&str] = &[
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || name.starts_with("proxy-") || nominated.contains(&name)
}

/// The names that the `Connection` fields list, lower case.
pub(crate) fn nominated(fields: &[httparse::Header<'_>]) -> Vec<String> {
    tokens(fields, "connection")
}

fn tokens(fields: &[httparse::Header<'_>], name: &str) -> Vec<String> {
    let values = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let text = values.filter_map(|field| std::str::from_utf8(field.value).ok());
    text.flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .collect()
}

/// The one stated length of a body: no field, or all `Content-Length` values the same plain number.
pub(crate) fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<u64>, HeadError> {
    let mut stated = None;
    for field in fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("content-length"))
    {
        let text = std::str::from_utf8(field.value).map_err(|_| HeadError::Framing)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let value: u64 = text.parse().ok().filter(|_| digits).ok_or(HeadError::Framing)?;
        if stated.replace(value).is_some_and(|before| before != value) {
            return Err(HeadError::Framing);
        }
    }
    Ok(stated)
}

impl Request {
    fn new(site: Site, method: &str, path: String, raw: &[httparse::Header<'_>]) -> Result<Self, HeadError> {
        // Browsers state the length of what they upload through a proxy; a chunked upload would need a parser of
        // its own to know where the request ends, and gives nothing.
        if raw
            .iter()
            .any(|field| field.name.eq_ignore_ascii_case("transfer-encoding"))
        {
            return Err(HeadError::Framing);
        }
        let length = content_length(raw)?;
        let nominated = nominated(raw);
        let upgrade = method == "GET"
            && nominated.iter().any(|token| token == "upgrade")
            && tokens(raw, "upgrade") == ["websocket"];
        let own = |name: &str| {
            ["host", "content-length", "expect"]
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own))
        };
        let fields = raw
            .iter()
            .filter(|field| !own(field.name) && !is_hop_by_hop(field.name, &nominated))
            .map(|field| (field.name.to_owned(), field.value.to_vec()))
            .collect();
        let (length, stated_length) = (length.unwrap_or(0), length.is_some());
        Ok(Self {
            site,
            method: method.to_owned(),
            path,
            length,
            upgrade,
            stated_length,
            fields,
        })
    }

    /// The head for the target: origin form, its own `Host`, and `Connection: close` unless it is an upgrade.
    pub(crate) fn render(&self) -> Vec<u8> {
        let port = if self.site.port == 80 {
            String::new()
        } else {
            format!(":{}", self.site.port)
        };
        let mut out = format!(
            "{} {} HTTP/1.1\r\nHost: {}{port}\r\n",
            self.method, self.path, self.site.host
        )
        .into_bytes();
        for (name, value) in &self.fields {
            field(&mut out, name, value);
        }
        if self.stated_length {
            field(&mut out, "Content-Length", self.length.to_string().as_bytes());
        }
        if self.upgrade {
            field(&mut out, "Upgrade", b"websocket");
        }
        field(&mut out, "Connection", if self.upgrade { b"Upgrade" } else { b"close" });
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// Appends one field line.
pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
