//! Health: alive means that the runtime answers and captures come to their end, ready means "send me work".
//!
//! In: the status. Out: 200, or 503 with the reasons. Liveness never looks at load or at the jailer: restarting this
//! process would not bring either back. The jailer has no port; whether it answers is said here, for the probes of its own
//! container. Must not: tell an anonymous caller more than bounded reasons.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use screenshot_policy::attest::NotReady;
use serde::Serialize;

use crate::clock;
use crate::server::App;

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<NotReady>,
}

/// `GET /health/live`.
pub async fn live(State(app): State<Arc<App>>) -> StatusCode {
    if app.makes_progress() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// `GET /health/ready`.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    answer(app.status.not_ready())
}

/// `GET /health/browser`: whether the jailer answers. A jailer that says no is alive, and so is one that nobody asks,
/// for want of a policy: a new one would say the same.
pub async fn browser(State(app): State<Arc<App>>) -> Response {
    let silent = app.service().is_some() && !app.status.jailer.is_recent(clock::monotonic());
    answer(Vec::from_iter(silent.then(|| NotReady {
        reason: "JailerSilent".to_owned(),
        message: "the jailer does not answer".to_owned(),
    })))
}

fn answer(reasons: Vec<NotReady>) -> Response {
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, reasons })).into_response()
}
