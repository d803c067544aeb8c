//! Health: alive means that the runtime answers and captures come to their end, ready means "send me work".
//!
//! In: the status. Out: 200, or 503 with the reasons. Liveness never looks at load or at the jailer: restarting this
//! process would not bring either back. The jailer has no port; whether it answers is said here, for the probes of its own
//! container. Must not: tell an anonymous caller more than bounded reasons; their sentences are for the health port,
//! which only operator and kubelet reach.

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
struct Ready<T> {
    ready: bool,
    reasons: Vec<T>,
}

/// A reason without its sentence.
#[derive(Serialize)]
struct Word {
    reason: String,
}

/// `GET /health/live`.
pub async fn live(State(app): State<Arc<App>>) -> StatusCode {
    if app.makes_progress() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// `GET /health/ready` on the health port.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    answer(app.status.not_ready())
}

/// `GET /health/ready` on the API port, where anybody asks.
pub async fn ready_in_words(State(app): State<Arc<App>>) -> Response {
    let reasons = app.status.not_ready().into_iter();
    let words = reasons.map(|NotReady { reason, .. }| Word { reason });
    answer(words.collect::<Vec<_>>())
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

fn answer<T: Serialize>(reasons: Vec<T>) -> Response {
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, reasons })).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use screenshot_policy::policy::{Ceiling, EffectivePolicy, PolicyDocument};

    use super::*;
    use crate::config::{JailerMode, ServeArgs};
    use crate::server::Server;

    #[tokio::test]
    async fn a_server_with_a_capture_that_does_not_come_to_its_end_is_not_alive() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let document = PolicyDocument::secure_default("a", "b").unwrap();
        let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
        std::fs::write(path("policy.json"), policy.canonical_json()).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::start(ServeArgs {
            listen: any,
            health_listen: any,
            metrics_listen: any,
            policy: path("policy.json"),
            policy_digest: None,
            keyset: path("keyset.json"),
            internal_key: path("key"),
            upstream: path("upstream"),
            jail_socket: path("jailer.sock"),
            jailer: JailerMode::Connect,
            jailer_program: None,
            browser: None,
            browser_build: path("build.json"),
            pod_name: "a".into(),
        })
        .await
        .unwrap();
        let app = server.app();
        assert_eq!(live(State(Arc::clone(&app))).await, StatusCode::OK);
        // A minute more than its deadline.
        let ago = policy.limits().deadline_ms.duration() + Duration::from_secs(60);
        let since = clock::monotonic().checked_sub(ago).unwrap();
        app.service().unwrap().admission.stuck(since);
        assert_eq!(live(State(app)).await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
