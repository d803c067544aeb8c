//! The client of the API server, with every call counted.
//!
//! In: how to reach it. Out: a client that does not retry by itself (passes have their own backoff, and a call that
//! retries for minutes would hold up a pass), and counts by verb, kind and class of answer: also watches and the Lease.
//! Labels come from bounded sets: what is not known is `other`.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{Layer, Service};

use crate::metrics::Metrics;
use crate::plan::Kind;

/// Builds it.
///
/// # Errors
/// The configuration cannot be used, for example because a certificate is unreadable.
pub fn build(mut config: Config, metrics: Arc<Metrics>) -> Result<Client, kube::Error> {
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&Counting(metrics)).build())
}

struct Counting(Arc<Metrics>);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: Arc::clone(&self.0),
        }
    }
}

#[derive(Clone)]
struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, kind) = classify(
            request.method(),
            request.uri().path(),
            request.uri().query().unwrap_or(""),
        );
        let metrics = Arc::clone(&self.metrics);
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let class = answer.as_ref().map_or("none", |answer| class(answer.status().as_u16()));
            metrics.api_call(verb, kind, class);
            answer
        }
        .boxed()
    }
}

fn class(code: u16) -> &'static str {
    match code {
        200..=299 => "2xx",
        300..=399 => "3xx",
        409 => "409",
        429 => "429",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// Whether the query asks for a watch.
pub(crate) fn is_watch(query: &str) -> bool {
    query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1")
}

/// Verb and kind of a request, as RBAC and the audit log know them.
fn classify(method: &Method, path: &str, query: &str) -> (&'static str, &'static str) {
    let mut parts = path.trim_matches('/').split('/');
    match parts.next() {
        Some("api") => parts.next(),
        Some("apis") => parts.nth(1),
        _ => return ("get", "other"),
    };
    let rest: Vec<&str> = parts.collect();
    let (resource, named) = match rest.as_slice() {
        ["namespaces", _, resource, rest @ ..] | [resource, rest @ ..] => (*resource, !rest.is_empty()),
        [] => return ("get", "APIResourceList"),
    };
    let watching = is_watch(query);
    let verb = match *method {
        Method::GET if watching => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, kind(resource))
}

fn kind(resource: &str) -> &'static str {
    let child = Kind::ALL.into_iter().find(|kind| kind.group_resource().1 == resource);
    match resource {
        "screenshotservices" => "ScreenshotService",
        "pods" => "Pod",
        "events" => "Event",
        "leases" => "Lease",
        _ => child.map_or("other", Kind::name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_as_rbac_knows_them() {
        let get = Method::GET;
        for (method, path, query, expected) in [
            (&get, "/api/v1/namespaces/a/secrets/b", "", ("get", "Secret")),
            (&get, "/api/v1/secrets", "limit=500", ("list", "Secret")),
            (&get, "/api/v1/pods", "watch=true&x=1", ("watch", "Pod")),
            (
                &Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/b",
                "",
                ("patch", "Deployment"),
            ),
            (
                &Method::PATCH,
                "/apis/screenshot-operator.io/v1alpha1/namespaces/a/screenshotservices/b/status",
                "",
                ("patch", "ScreenshotService"),
            ),
            (
                &Method::POST,
                "/apis/events.k8s.io/v1/namespaces/a/events",
                "",
                ("create", "Event"),
            ),
            (
                &Method::PUT,
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/b",
                "",
                ("update", "Lease"),
            ),
            (&get, "/apis/monitoring.coreos.com/v1", "", ("get", "APIResourceList")),
            (&get, "/api/v1/nodes/x", "", ("get", "other")),
            (&get, "/version", "", ("get", "other")),
        ] {
            assert_eq!(classify(method, path, query), expected, "{path}");
        }
    }
}
