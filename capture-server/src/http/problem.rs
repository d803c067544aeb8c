//! The table: every error of every room to its status, its public text and its headers. Nowhere else is a status
//! chosen or a sentence for a caller written.
//!
//! In: room errors. Out: `application/problem+json` (RFC 9457). Matches are exhaustive, without a catch-all, so a new
//! variant does not compile until it has its row. Must not: repeat a value of the caller's or a
//! byte of the page's.

use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::access::AccessError;
use crate::capture::request::InvalidRequest;
use crate::capture::{CaptureError, Phase};
use crate::limits::admission::Refused;

/// RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// Every problem's type begins with this.
pub const TYPE_BASE: &str = "https://screenshot-operator.io/problems/";

/// What can go wrong before there is anything to parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportError {
    /// No such path.
    NotFound,
    /// The path exists for another method.
    MethodNotAllowed,
    /// The body is no JSON by its own declaration.
    MediaType,
    /// The body is longer than the policy lets it be.
    BodyTooLarge,
    /// The body did not arrive whole, or not in time.
    BodyIncomplete,
    /// The server is not ready.
    NotReady,
    /// A bug of ours.
    Internal,
}

/// Every error that can reach a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// See [`TransportError`].
    Transport(TransportError),
    /// See [`AccessError`].
    Access(AccessError),
    /// See [`InvalidRequest`].
    Request(InvalidRequest),
    /// See [`Refused`].
    Refused(Refused),
    /// See [`CaptureError`].
    Capture(CaptureError),
}

macro_rules! from {
    ($($variant:ident($room:ty)),*) => {
        $(impl From<$room> for Failure { fn from(error: $room) -> Self { Self::$variant(error) } })*
    };
}
from!(
    Transport(TransportError),
    Access(AccessError),
    Request(InvalidRequest),
    Refused(Refused),
    Capture(CaptureError)
);

/// One row.
struct Row {
    /// Last part of the public type; bounded.
    kind: &'static str,
    status: StatusCode,
    title: &'static str,
    detail: String,
    phase: &'static str,
    field: Option<String>,
    retry_after: Option<Duration>,
}

impl Row {
    fn new(kind: &'static str, status: StatusCode, title: &'static str, phase: &'static str) -> Self {
        Self {
            kind,
            status,
            title,
            detail: String::new(),
            phase,
            field: None,
            retry_after: None,
        }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            ..self
        }
    }

    fn retry(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    phase: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

const SHORTLY: Duration = Duration::from_secs(5);

impl Failure {
    /// The bounded word for audit and metrics. More exact than the public type where that must not tell.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Access(error) => error.reason(),
            other => other.row().kind,
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.row().status
    }

    fn row(&self) -> Row {
        match self {
            Self::Transport(error) => transport(*error),
            Self::Access(error) => access(*error),
            Self::Request(error) => {
                let row = Row::new(
                    error.reason(),
                    StatusCode::BAD_REQUEST,
                    "The request is not valid",
                    "request",
                );
                Row {
                    field: error.blamed().map(str::to_owned),
                    ..row.detail(error.to_string())
                }
            }
            Self::Refused(refused) => admission(refused),
            Self::Capture(error) => capture(error),
        }
    }

    /// The whole answer.
    pub fn response(&self, request_id: &str) -> Response<Body> {
        let row = self.row();
        let problem = Problem {
            r#type: format!("{TYPE_BASE}{}", row.kind),
            title: row.title,
            status: row.status.as_u16(),
            detail: if row.detail.is_empty() { row.title } else { &row.detail },
            request_id,
            phase: row.phase,
            field: row.field.as_deref(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if row.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = row.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Self::Capture(error) = self
            && let Some(status) = error.proxy_status().and_then(|status| status.try_into().ok())
        {
            headers.insert(PROXY_STATUS, status);
        }
        response
    }
}

fn transport(error: TransportError) -> Row {
    match error {
        TransportError::NotFound => Row::new("not_found", StatusCode::NOT_FOUND, "There is nothing here", "request"),
        TransportError::MethodNotAllowed => Row::new(
            "method_not_allowed",
            StatusCode::METHOD_NOT_ALLOWED,
            "Another method is needed here",
            "request",
        ),
        TransportError::MediaType => Row::new(
            "unsupported_media_type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body must be application/json",
            "request",
        ),
        TransportError::BodyTooLarge => Row::new(
            "body_too_large",
            StatusCode::PAYLOAD_TOO_LARGE,
            "The body is too long",
            "request",
        ),
        TransportError::BodyIncomplete => Row::new(
            "body_incomplete",
            StatusCode::BAD_REQUEST,
            "The body did not arrive whole",
            "request",
        ),
        TransportError::NotReady => {
            let row = Row::new(
                "not_ready",
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is not ready",
                "admission",
            );
            row.detail("The server takes no captures now; its health endpoint tells why")
                .retry(SHORTLY)
        }
        TransportError::Internal => Row::new(
            "internal",
            StatusCode::INTERNAL_SERVER_ERROR,
            "The server failed",
            "request",
        ),
    }
}

fn access(error: AccessError) -> Row {
    match error {
        // One public text: which of these it was helps only an attacker.
        AccessError::Missing | AccessError::Malformed | AccessError::Rejected(_) => Row::new(
            "unauthorized",
            StatusCode::UNAUTHORIZED,
            "A valid bearer token is required",
            "access",
        ),
        AccessError::Scope => Row::new(
            "forbidden",
            StatusCode::FORBIDDEN,
            "Not allowed for this credential",
            "access",
        )
        .detail("The credential is valid, but does not open this kind of capture."),
        AccessError::NoKeyset => Row {
            phase: "access",
            ..transport(TransportError::NotReady)
        },
    }
}

fn admission(refused: &Refused) -> Row {
    let row = |title| {
        Row::new(
            refused.reason(),
            StatusCode::SERVICE_UNAVAILABLE,
            title,
            Phase::Queue.as_str(),
        )
    };
    match refused {
        Refused::QueueFull { retry_after } => row("Too many captures are waiting").retry(*retry_after),
        Refused::WouldMissDeadline { retry_after } => row("The capture would not be done in time").retry(*retry_after),
        Refused::Draining => row("The server is shutting down").retry(Duration::from_secs(1)),
        Refused::Deadline => capture(&CaptureError::Timeout(Phase::Queue)),
    }
}

fn capture(error: &CaptureError) -> Row {
    let kind = error.reason();
    let page = |status, title| Row::new(kind, status, title, Phase::Navigate.as_str());
    let settle = |title| Row::new(kind, StatusCode::UNPROCESSABLE_ENTITY, title, Phase::Settle.as_str());
    let render = |status, title| Row::new(kind, status, title, Phase::Shot.as_str());
    let ours = |title| Row::new(kind, StatusCode::SERVICE_UNAVAILABLE, title, Phase::Open.as_str()).retry(SHORTLY);
    match error {
        CaptureError::TargetBlocked { rule, .. } => {
            page(StatusCode::FORBIDDEN, "The policy does not let the page be reached").detail(format!(
                "The page's address, or one that it redirects to, is refused by the rule {rule}"
            ))
        }
        CaptureError::DnsFailed => page(StatusCode::BAD_GATEWAY, "The page's host name has no address"),
        CaptureError::ConnectFailed => page(StatusCode::BAD_GATEWAY, "The page's host could not be connected"),
        CaptureError::UpstreamFailed { rule, .. } => page(
            StatusCode::BAD_GATEWAY,
            "The upstream proxy gave no connection to the page's host",
        )
        .detail(format!("The upstream proxy of the service: {rule}")),
        CaptureError::TlsFailed { .. } => page(
            StatusCode::BAD_GATEWAY,
            "The page's certificate or TLS is not acceptable",
        ),
        CaptureError::NavigationFailed => page(StatusCode::BAD_GATEWAY, "The page could not be loaded"),
        CaptureError::Download => page(StatusCode::BAD_GATEWAY, "The address is a download, not a page"),
        CaptureError::HttpStatus(status) => page(StatusCode::BAD_GATEWAY, "The page answers with an error status")
            .detail(format!("The page answers with status {status}")),
        CaptureError::BudgetSpent { budget } => page(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The page uses more of the network than a capture may",
        )
        .detail(format!("The page met the limit {budget}")),
        CaptureError::PageCrashed => render(StatusCode::BAD_GATEWAY, "The page crashed"),
        CaptureError::PageTooLarge => render(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The page is larger than a picture may be",
        ),
        CaptureError::ElementTooLarge => settle("The element is larger than the capture was reckoned with").detail(
            "The element has more pixels than the window, and more than 4 000 000: ask for a larger window, for full_page or for a clip",
        ),
        CaptureError::ElementNotFound => settle("No element of the page matches the selector"),
        CaptureError::SelectorInvalid => settle("The selector is not one"),
        CaptureError::NothingToPrint => render(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The print options leave no page to be printed",
        ),
        CaptureError::OutputTooLarge => render(StatusCode::UNPROCESSABLE_ENTITY, "The picture has too many bytes"),
        CaptureError::OutputInvalid => render(
            StatusCode::BAD_GATEWAY,
            "The browser did not make the picture asked for",
        ),
        CaptureError::Timeout(phase) => Row::new(
            kind,
            StatusCode::GATEWAY_TIMEOUT,
            "The time for the capture ran out",
            phase.as_str(),
        ),
        CaptureError::Driver(_) => Row::new(
            kind,
            StatusCode::INTERNAL_SERVER_ERROR,
            "The browser misbehaved",
            Phase::Open.as_str(),
        ),
        CaptureError::BrowserLost => ours("The browser was lost"),
        CaptureError::NoBrowser => ours("There is no browser now"),
    }
}

#[cfg(test)]
mod tests;
