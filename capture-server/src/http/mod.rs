//! The three doors: the API, health with attestation, metrics. Routes and layers, nothing else.
//!
//! In: the running [`App`]. Out: one router per port. Must not: choose a status (`problem` does) or do a room's work.

pub mod attest;
pub mod capture;
pub mod health;
pub mod listener;
pub mod observe;
pub mod problem;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post, put};
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};
use screenshot_policy::layout::{ATTEST_PATH, BROWSER_HEALTH_PATH, KEYSET_BRING_PATH};

use crate::server::App;
use problem::{Failure, TransportError};

/// Names a request in the answer, the logs and every problem.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Captures, on the API port. Health is repeated here, in bare words, for balancers that know one port only.
pub fn api(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/capture", post(capture::handle).fallback(wrong_method))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready_in_words))
        .fallback(nothing_here)
        .layer(from_fn(secure_headers))
        .with_state(app)
}

/// Health and attestation, on a port that only kubelet and operator reach.
pub fn health(app: Arc<App>) -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route(BROWSER_HEALTH_PATH, get(health::browser))
        .route(ATTEST_PATH, get(attest::handle))
        .route(KEYSET_BRING_PATH, put(attest::bring))
        .fallback(nothing_here)
        .layer(from_fn(secure_headers))
        .with_state(app)
}

/// Metrics, on a port of their own.
pub fn metrics(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .fallback(nothing_here)
        .with_state(app)
}

async fn scrape(State(app): State<Arc<App>>) -> Response {
    app.observe_state();
    observe::exposition(&app.metrics)
}

async fn nothing_here() -> Response {
    refuse(TransportError::NotFound)
}

async fn wrong_method() -> Response {
    refuse(TransportError::MethodNotAllowed)
}

fn refuse(error: TransportError) -> Response {
    Failure::from(error).response(&observe::request_id())
}

/// No answer is cached or sniffed: each is one caller's.
async fn secure_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
