//! `GET /internal/attest`: what this pod says of itself to its operator.
//!
//! In: a nonce and its code under the internal key. Out: the report with a code over nonce and body; 401 and nothing
//! else for whoever does not hold the key. Must not: answer without a key, or say anything that was not found out by
//! this very process.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use screenshot_policy::attest::{AttestReport, BrowserFacts, InternalKey, KeysetFacts, MAC_HEADER, NONCE_HEADER};

use super::observe::request_id;
use super::problem::Failure;
use crate::access::AccessError;
use crate::server::App;

/// Answers the operator.
pub async fn handle(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    // Read for each question: they are rare, and a key that was changed counts at once.
    let key = app.internal_key().await;
    match key
        .as_ref()
        .and_then(|key| asked(&headers, key).map(|nonce| (key, nonce)))
    {
        Some((key, nonce)) => answer(&report(&app), key, nonce),
        None => Failure::from(AccessError::Missing).response(&request_id()),
    }
}

fn asked<'a>(headers: &'a HeaderMap, key: &InternalKey) -> Option<&'a str> {
    let text = |name| headers.get(name)?.to_str().ok();
    let (nonce, code) = (text(NONCE_HEADER)?, text(MAC_HEADER)?);
    key.verify_request(nonce, code).then_some(nonce)
}

fn answer(report: &AttestReport, key: &InternalKey, nonce: &str) -> Response {
    let body = serde_json::to_vec(report).unwrap_or_default();
    let code = key.response_mac(nonce, &body);
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(code) = HeaderValue::from_str(&code) {
        headers.insert(MAC_HEADER, code);
    }
    response
}

fn report(app: &App) -> AttestReport {
    let keys = app.keys();
    let not_ready = app.status.not_ready();
    AttestReport {
        pod: app.pod.clone(),
        ready: not_ready.is_empty(),
        not_ready,
        policy_digest: app.service().map(|service| service.policy.digest().to_owned()),
        keyset: keys.current.map(|keyset| KeysetFacts {
            revision: keyset.revision,
            digest: keyset.digest(),
            stale: keys.refused.map(str::to_owned),
        }),
        sandbox: app.status.sandbox(),
        browser: BrowserFacts {
            version: app.status.browser(),
        },
    }
}
