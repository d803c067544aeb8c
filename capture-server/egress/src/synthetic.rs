//! The caller's own HTML, served under a host that exists nowhere.
//!
//! In: a plain request. Out: the answer, if the request is for the session's synthetic host. No network is used.
//! It must not be reachable in another way than plain HTTP on port 80.

use bytes::Bytes;
use screenshot_policy::host::Host;

use crate::head::Request;

/// A page that the proxy itself serves.
#[derive(Debug, Clone)]
pub struct Synthetic {
    /// The host, lower case; best a random name under `.invalid`, which no policy lets out.
    pub host: String,
    /// The media type of the body.
    pub content_type: &'static str,
    /// What `GET /` gives.
    pub body: Bytes,
}

impl Synthetic {
    /// The whole answer to `request`, or `None` if it is not for this host.
    pub(crate) fn answer(&self, request: &Request) -> Option<Vec<u8>> {
        let ours = matches!(&request.site.host, Host::Name(name) if name.as_str() == self.host);
        if !ours || request.site.port != 80 {
            return None;
        }
        let page = matches!(request.method.as_str(), "GET" | "HEAD") && request.path == "/";
        let (status, body) = if page {
            ("200 OK", &self.body[..])
        } else {
            ("404 Not Found", &b""[..])
        };
        let mut out = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.content_type,
            body.len()
        )
        .into_bytes();
        if request.method != "HEAD" {
            out.extend_from_slice(body);
        }
        Some(out)
    }
}
