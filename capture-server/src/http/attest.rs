//! `GET /internal/attest`: what this pod says of itself to its operator. `PUT /internal/keyset`: the same, after taking
//! in the keyset that the operator brings ahead of the kubelet.
//!
//! In: a nonce, and a canary to try or a keyset, with their code under an internal key. Out: the report with a code over
//! nonce and body; 401 and nothing else for whoever does not hold a key, or plays back a message of who does. Must not:
//! answer without a key, try a canary that did not come under the code, or say anything that was not found out by this very
//! process.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use screenshot_policy::attest::{
    AttestReport, BrowserFacts, EgressFacts, InternalKey, KeysetFacts, MAC_HEADER, NONCE_HEADER, nonce_bytes,
};
use screenshot_policy::canary::{CANARY_HEADER, Canary, CanaryFacts};
use screenshot_policy::keyset::MAX_DOCUMENT;
use screenshot_policy::policy::Enforcement;

use super::observe::request_id;
use super::problem::Failure;
use crate::access::AccessError;
use crate::server::App;

/// How long a keyset may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(3);

/// Answers the operator, and tries its canary before that.
pub async fn handle(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let canary = text(&headers, CANARY_HEADER).unwrap_or_default();
    let keys = app.internal_keys().await;
    let Some(asked) = Asked::of(&app, &headers, &keys, |key, nonce, code| {
        key.verify_request(nonce, canary, code)
    }) else {
        return refusal();
    };
    let facts = match Canary::parse(canary) {
        Some(canary) => app.try_canary(&canary, asked.challenge).await,
        None => None,
    };
    asked.answer(&report(&app, &keys, facts))
}

/// Takes in the operator's keyset and answers with what is in force then, whether that is it or not.
pub async fn bring(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let arrival = tokio::time::timeout(ARRIVAL, axum::body::to_bytes(body, MAX_DOCUMENT));
    let Ok(Ok(keyset)) = arrival.await else {
        return refusal();
    };
    let keys = app.internal_keys().await;
    let Some(asked) = Asked::of(&app, &headers, &keys, |key, nonce, code| {
        key.verify_keyset(nonce, &keyset, code)
    }) else {
        return refusal();
    };
    app.bring_keyset(&keyset);
    asked.answer(&report(&app, &keys, None))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A question that only the operator can have made, and the key that it was made with.
struct Asked<'a> {
    key: &'a InternalKey,
    nonce: &'a str,
    challenge: [u8; 32],
}

impl<'a> Asked<'a> {
    /// The first of the keys that proves it. They are read for each question: those are rare, and a key that was changed
    /// counts at once. `None` for a message that was taken before, too.
    fn of(
        app: &App,
        headers: &'a HeaderMap,
        keys: &'a [InternalKey],
        proven: impl Fn(&InternalKey, &str, &str) -> bool,
    ) -> Option<Self> {
        let (nonce, code) = (text(headers, NONCE_HEADER)?, text(headers, MAC_HEADER)?);
        let key = keys.iter().find(|key| proven(key, nonce, code))?;
        let challenge = nonce_bytes(nonce)?;
        app.take_nonce(challenge).then_some(Self { key, nonce, challenge })
    }

    fn answer(&self, report: &AttestReport) -> Response {
        answer(report, self.key, self.nonce)
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

fn report(app: &App, keys: &[InternalKey], canary: Option<CanaryFacts>) -> AttestReport {
    let internal_keys = keys.iter().map(InternalKey::id).collect();
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
            built_at: app.browser_built_at(),
        },
        egress: EgressFacts {
            enforcement: app
                .service()
                .map_or(Enforcement::default(), |service| service.policy.enforcement()),
            canary,
        },
        internal_keys,
    }
}
