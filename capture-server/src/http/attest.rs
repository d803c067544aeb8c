//! `GET /internal/attest`: what this pod says of itself to its operator. `PUT /internal/keyset`: the same, after taking
//! in the keyset that the operator brings ahead of the kubelet.
//!
//! In: a nonce, and a keyset, with their code under the internal key. Out: the report with a code over nonce and body; 401
//! and nothing else for whoever does not hold the key. Must not: answer without a key, or say anything that was not found
//! out by this very process.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use screenshot_policy::attest::{AttestReport, BrowserFacts, InternalKey, KeysetFacts, MAC_HEADER, NONCE_HEADER};

use screenshot_policy::keyset::MAX_DOCUMENT;

use super::observe::request_id;
use super::problem::Failure;
use crate::access::AccessError;
use crate::server::App;

/// How long a keyset may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(3);

/// Answers the operator.
pub async fn handle(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    reply(&app, &headers, InternalKey::verify_request).await
}

/// Takes in the operator's keyset and answers with what is in force then, whether that is it or not.
pub async fn bring(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let arrival = tokio::time::timeout(ARRIVAL, axum::body::to_bytes(body, MAX_DOCUMENT));
    let Ok(Ok(keyset)) = arrival.await else {
        return refusal();
    };
    let brings = |key: &InternalKey, nonce: &str, code: &str| {
        let proven = key.verify_keyset(nonce, &keyset, code);
        if proven {
            app.bring_keyset(&keyset);
        }
        proven
    };
    reply(&app, &headers, brings).await
}

async fn reply(app: &App, headers: &HeaderMap, proven: impl Fn(&InternalKey, &str, &str) -> bool) -> Response {
    let text = |name| headers.get(name)?.to_str().ok();
    // Read for each question: they are rare, and a key that was changed counts at once.
    match (app.internal_key().await, text(NONCE_HEADER), text(MAC_HEADER)) {
        (Some(key), Some(nonce), Some(code)) if proven(&key, nonce, code) => answer(&report(app), &key, nonce),
        _ => refusal(),
    }
}

fn refusal() -> Response {
    Failure::from(AccessError::Missing).response(&request_id())
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
        cluster_ranges: app.service().and_then(|service| service.in_force.digest()),
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
