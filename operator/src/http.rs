//! The operator's own ports for HTTP: health on 8081, metrics on 9090. Nothing else is served, nothing is read from a
//! request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::metrics::{Held, Present};

/// `/healthz`: the process answers. `/readyz`: its watches are filled and none is stalled, in a standby too; else the
/// body says which is not and why.
pub fn health(context: Arc<Context>) -> Router {
    let ready = move || {
        let trouble = trouble(&context);
        async move {
            match trouble {
                None => (StatusCode::OK, "ready\n".to_owned()),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            }
        }
    };
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
}

/// Why this process is not ready, if it is not.
pub fn trouble(context: &Context) -> Option<String> {
    if !context.served.is_known() {
        return Some("the API server has not said which kinds it serves".to_owned());
    }
    let now = Instant::now();
    let troubles = context.health.troubles(now);
    let mut texts: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    texts.extend(context.cluster.view(now).err().map(|error| error.to_string()));
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// `/metrics`.
pub fn metrics(context: Arc<Context>) -> Router {
    let text = move || {
        let context = Arc::clone(&context);
        async move {
            let canary = context.canary.answers().await;
            let text = context.metrics.text(&present(&context, canary));
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
    };
    Router::new().route("/metrics", get(text))
}

fn present(context: &Context, canary: bool) -> Present {
    let leading = context.leading.load(Ordering::Acquire);
    let mut services = BTreeMap::new();
    if leading {
        for service in context.services.store().state() {
            let status = service.0.as_ref().ok().and_then(|service| service.status.as_ref());
            for condition in status.iter().flat_map(|status| &status.conditions) {
                let held = Held {
                    condition: condition.type_.clone(),
                    status: condition.status.clone(),
                };
                *services.entry(held).or_insert(0) += 1;
            }
        }
    }
    Present {
        leading,
        queue: if leading { context.queue.depth() } else { 0 },
        watches: context.health.by_kind(Instant::now()),
        services,
        canary,
    }
}

/// Serves until the token is cancelled.
///
/// # Errors
/// The port cannot be had.
#[expect(clippy::disallowed_methods, reason = "the operator's own ports")]
pub async fn serve(address: SocketAddr, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}
