//! Why the proxy did not serve something: one closed set of values.
//!
//! In: the errors of the rooms. Out: a bounded word for logs, metrics and reports, the fault behind it, and
//! the answer that the browser gets (status and `Proxy-Status` error type, RFC 9209).
//! It must not carry text that a page or a server chose.

use screenshot_policy::egress::Refusal as PolicyRefusal;

use crate::budget::Spent;
use crate::dial::ConnectError;
use crate::head::HeadError;
use crate::hello::HelloError;
use crate::resolve::ResolveError;
use crate::response::ResponseError;
use crate::tls::TlsError;
use crate::upstream::UpstreamError;

/// Who has to change something for the same request to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The browser said something that no honest page makes it say.
    Request,
    /// The policy forbids it.
    Policy,
    /// The capture has used up a budget.
    Budget,
    /// The target does not resolve, answer or keep to its protocol.
    Target,
}

/// Why a connection was refused or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request head is not one that this proxy serves.
    #[error("request head refused: {0}")]
    Head(#[from] HeadError),
    /// The egress decision.
    #[error("egress refused: {}", .0.reason())]
    Policy(PolicyRefusal),
    /// The look-up failed.
    #[error("name not resolved: {0}")]
    Unresolved(#[from] ResolveError),
    /// No checked address accepted a connection.
    #[error("target not connected: {0}")]
    Unreachable(#[from] ConnectError),
    /// The upstream proxy gave no connection.
    #[error("upstream proxy: {0}")]
    Upstream(#[from] UpstreamError),
    /// What came first through a CONNECT is neither TLS for the host nor a WebSocket upgrade.
    #[error("tunnel refused: {0}")]
    Tunnel(#[from] HelloError),
    /// The target's response cannot be relayed.
    #[error("response refused: {0}")]
    Response(#[from] ResponseError),
    /// The certificate or the TLS of a host that the policy names is not what it asks for.
    #[error("TLS refused: {0}")]
    Tls(#[from] TlsError),
    /// A budget or the time of the capture is used up.
    #[error("budget spent: {}", .0.reason())]
    Budget(#[from] Spent),
}

impl From<PolicyRefusal> for Refusal {
    fn from(refusal: PolicyRefusal) -> Self {
        Self::Policy(refusal)
    }
}

impl Refusal {
    /// The bounded word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Head(error) => error.reason(),
            Self::Policy(refusal) => refusal.reason(),
            Self::Unresolved(error) => error.reason(),
            Self::Unreachable(error) => error.reason(),
            Self::Upstream(error) => error.reason(),
            Self::Tunnel(error) => error.reason(),
            Self::Response(error) => error.reason(),
            Self::Tls(error) => error.reason(),
            Self::Budget(spent) => spent.reason(),
        }
    }

    /// Who has to change something.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Head(_) | Self::Tunnel(_) => Fault::Request,
            Self::Policy(PolicyRefusal::NoAddress)
            | Self::Unresolved(_)
            | Self::Unreachable(_)
            | Self::Upstream(_)
            | Self::Response(_)
            | Self::Tls(_) => Fault::Target,
            Self::Policy(_) => Fault::Policy,
            Self::Budget(_) => Fault::Budget,
        }
    }

    /// The status that the browser gets.
    pub fn status(&self) -> u16 {
        match self {
            Self::Head(_) => 400,
            Self::Unreachable(ConnectError::Timeout)
            | Self::Unresolved(ResolveError::Timeout)
            | Self::Response(ResponseError::Timeout)
            | Self::Tls(TlsError::Timeout) => 504,
            Self::Upstream(error) if error.is_late() => 504,
            Self::Policy(PolicyRefusal::NoAddress)
            | Self::Unresolved(_)
            | Self::Unreachable(_)
            | Self::Upstream(_)
            | Self::Response(_)
            | Self::Tls(_) => 502,
            Self::Policy(_) | Self::Tunnel(_) | Self::Budget(_) => 403,
        }
    }

    /// The error type of RFC 9209, section 2.3.
    pub fn proxy_error(&self) -> &'static str {
        match self {
            Self::Head(_) => "http_request_error",
            Self::Policy(
                PolicyRefusal::SpecialAddress(_)
                | PolicyRefusal::DeniedAddress
                | PolicyRefusal::ClusterAddress
                | PolicyRefusal::UnlistedAddress,
            ) => "destination_ip_prohibited",
            Self::Policy(PolicyRefusal::NoAddress) => "dns_error",
            Self::Policy(_) | Self::Tunnel(_) => "http_request_denied",
            Self::Budget(_) => "connection_limit_reached",
            Self::Unresolved(ResolveError::Timeout) => "dns_timeout",
            Self::Unresolved(_) => "dns_error",
            Self::Unreachable(ConnectError::Timeout) => "connection_timeout",
            Self::Unreachable(ConnectError::Refused) => "connection_refused",
            Self::Unreachable(ConnectError::Failed) => "destination_unavailable",
            Self::Upstream(error) => error.proxy_error(),
            Self::Response(ResponseError::Timeout) => "http_response_timeout",
            Self::Response(ResponseError::Incomplete) => "http_response_incomplete",
            Self::Response(_) => "http_protocol_error",
            Self::Tls(error) => error.proxy_error(),
        }
    }

    /// The whole answer: no body, so that there is nothing to render as a page.
    pub(crate) fn answer(&self) -> String {
        let status = self.status();
        let phrase = match status {
            400 => "Bad Request",
            403 => "Forbidden",
            504 => "Gateway Timeout",
            _ => "Bad Gateway",
        };
        format!(
            "HTTP/1.1 {status} {phrase}\r\nProxy-Status: capture-egress; error={}; details=\"{}\"\r\n\
             Cache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.proxy_error(),
            self.reason()
        )
    }
}
