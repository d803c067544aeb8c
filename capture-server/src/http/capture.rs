//! `POST /v1/capture`: the walk of one request, in its one order.
//!
//! access → permit → body → parse → admission → engine → answer. In: the request. Out: the picture with its receipt,
//! or a problem; one audit line and the metrics either way, also when the caller hangs up. Must not: do any of the
//! rooms' work itself.

use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use capture_egress::EgressReport;
use futures_util::FutureExt as _;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::REQUEST_ID;
use super::observe::{Record, request_id};
use super::problem::{Failure, TransportError};
use crate::access;
use crate::capture::Ledger;
use crate::capture::engine::{Finished, Picture};
use crate::capture::phase::TRACE;
use crate::capture::request::CaptureRequest;
use crate::clock;
use crate::server::App;
use crate::service::Service;

const POLICY_DIGEST: HeaderName = HeaderName::from_static("x-policy-digest");
const REFUSED: HeaderName = HeaderName::from_static("x-capture-refused");
const REFUSALS: HeaderName = HeaderName::from_static("x-capture-refusals");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How many refusals the receipt lists.
const MAX_LISTED: usize = 8;
/// How long a body may take to arrive, whatever the capture's deadline is.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a capture request.
pub async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let id = request_id();
    let mut record = Record::open(&app.metrics, id.clone());
    let span = tracing::debug_span!(target: TRACE, "capture", request_id = id);
    let walk = Box::pin(walk(&app, request, &id, &mut record).instrument(span));
    let mut response = match caught(walk).await {
        Ok(response) => {
            record.succeeded();
            response
        }
        Err(failure) => {
            record.failed(failure.reason(), failure.status().as_u16());
            failure.response(&id)
        }
    };
    let timing = record.ledger().map(server_timing);
    for (name, text) in [(REQUEST_ID, Some(id)), (SERVER_TIMING, timing)] {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A bug of ours that panics is answered and recorded as one: the caller gets the request id instead of a connection
/// that drops. What the walk held is given back as its future is dropped, as when a caller hangs up.
async fn caught<T>(walk: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let walked = AssertUnwindSafe(walk).catch_unwind().await;
    walked.unwrap_or_else(|_| Err(TransportError::Internal.into()))
}

async fn walk(app: &App, request: Request, id: &str, record: &mut Record) -> Result<Response, Failure> {
    let arrived = clock::monotonic();
    let service = app.service().ok_or(TransportError::NotReady)?;
    let (head, body) = request.into_parts();

    let keyset = app.keyset();
    let caller = access::authenticate(&head.headers, keyset.as_deref(), clock::wall())?;
    record.called_by(caller.client(), caller.key_id());
    if !app.status.is_ready() {
        return Err(TransportError::NotReady.into());
    }

    let limits = service.policy.limits();
    let deadline = arrived + limits.deadline_ms.duration();
    let body = read_body(
        &head.headers,
        body,
        limits.max_body_bytes.get(),
        deadline.min(arrived + BODY_TIMEOUT),
    )
    .await?;
    let parsed = CaptureRequest::parse(&body, limits)?;
    let permit = caller.permit_capture(parsed.scope())?;

    let finished = service
        .capture(&caller, permit, parsed, deadline, id, Ledger::open(arrived))
        .await?;
    record.finished(&finished);
    let Finished { result, egress, .. } = finished;
    Ok(answer(result?, egress.as_ref(), &service))
}

async fn read_body(headers: &HeaderMap, body: Body, max: u64, until: Instant) -> Result<Bytes, TransportError> {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(TransportError::MediaType);
    }
    let max_bytes = usize::try_from(max).unwrap_or(usize::MAX);
    let declared = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > max) {
        return Err(TransportError::BodyTooLarge);
    }
    match timeout_at(until, axum::body::to_bytes(body, max_bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(TransportError::BodyTooLarge),
        Ok(Err(_)) | Err(_) => Err(TransportError::BodyIncomplete),
    }
}

/// axum hides the limit's error behind its own.
fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.to_string().contains("length limit exceeded"))
}

fn answer(picture: Picture, egress: Option<&EgressReport>, service: &Service) -> Response {
    let mut response = Response::new(Body::from(picture.bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(picture.media_type));
    // Markup of a stranger's page must not run as if it were this server's.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    let (refused, listed) = refusals(egress);
    headers.insert(REFUSED, HeaderValue::from(refused));
    for (name, text) in [(POLICY_DIGEST, service.policy.digest().to_owned()), (REFUSALS, listed)] {
        if let Ok(value) = HeaderValue::from_str(&text)
            && !text.is_empty()
        {
            headers.insert(name, value);
        }
    }
    response
}

/// How many destinations were refused, and the first of them as `host:port;reason`. The hosts were parsed by the
/// proxy: nothing else of the page's text gets here.
fn refusals(egress: Option<&EgressReport>) -> (u64, String) {
    let Some(report) = egress else {
        return (0, String::new());
    };
    let refused = report.decisions.iter().filter(|decision| !decision.is_allowed());
    let (mut count, mut listed) = (0, String::new());
    for decision in refused {
        if count < MAX_LISTED as u64 {
            let comma = if listed.is_empty() { "" } else { ", " };
            let _ = write!(
                listed,
                "{comma}{}:{};{}",
                decision.host, decision.port, decision.outcome
            );
        }
        count += 1;
    }
    (count, listed)
}

/// Every phase that took any time, in milliseconds.
fn server_timing(ledger: &Ledger) -> String {
    let mut text = String::new();
    for (phase, spent) in ledger.spent().filter(|(_, spent)| !spent.is_zero()) {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(
            text,
            "{comma}{};dur={:.1}",
            phase.as_str(),
            spent.as_secs_f64() * 1000.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(kind: &str, body: &'static str, max: u64) -> Result<Bytes, TransportError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        read_body(
            &headers,
            Body::from(body),
            max,
            clock::monotonic() + Duration::from_secs(5),
        )
        .await
    }

    #[tokio::test]
    async fn a_panic_is_a_typed_failure_and_what_was_held_is_given_back() {
        let held = Arc::new(());
        let taken = Arc::clone(&held);
        let walk = async move {
            tokio::task::yield_now().await;
            panic!("the bug, {} holders", Arc::strong_count(&taken))
        };
        let failure = caught::<()>(walk).await.unwrap_err();
        assert_eq!(failure, TransportError::Internal.into());
        assert_eq!((failure.reason(), failure.status().as_u16()), ("internal", 500));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_body_is_json_by_declaration_and_bounded() {
        assert!(read("application/json; charset=utf-8", "{}", 10).await.is_ok());
        assert_eq!(read("text/plain", "{}", 10).await, Err(TransportError::MediaType));
        assert_eq!(
            read("application/json", "{\"url\":\"x\"}", 10).await,
            Err(TransportError::BodyTooLarge)
        );
    }
}
