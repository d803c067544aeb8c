//! Health: alive means that the runtime answers and captures come to their end, ready means "send me work".
//!
//! In: the status. Out: 200, or 503 with the reasons. Liveness never looks at load or at the jailer: restarting this
//! process would not bring either back. Must not: tell an anonymous caller more than bounded reasons.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use screenshot_policy::attest::NotReady;
use serde::Serialize;

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
    let reasons = app.status.not_ready();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(Ready {
            ready: reasons.is_empty(),
            reasons,
        }),
    )
        .into_response()
}
