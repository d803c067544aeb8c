//! Follows the sources of the cluster's own addresses.
//!
//! In: the scope. Out: a fed [`Cluster`](super::Cluster), and every service in the queue when its ranges changed. An
//! operator that looks after single namespaces has no right to read any of this and does not try; one that is refused
//! goes on without, says so, and tries again; a kind that is not served (ServiceCIDR before Kubernetes 1.33) is looked for
//! as rarely as other kinds that may come. Must not: decide what is closed.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node as WholeNode, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ApiResource;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Source, found};
use crate::backoff;
use crate::cache::{Key, health, listening, watches};
use crate::context::Context;
use crate::trigger::controller::Scope;

/// Gathers what belongs together: a pool of nodes that starts is one change, or a few.
const GATHER: Duration = Duration::from_secs(5);
/// Nodes are large; so many are decoded at a time.
const PAGE: u32 = 100;
/// The Service of the API server, and its EndpointSlice.
const API_SERVER: &str = "kubernetes";

/// Follows what the scope allows until the token is cancelled.
pub async fn run(context: Arc<Context>, scope: Scope, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    start(&mut tasks, &context, &scope);
    stop.cancelled().await;
    tasks.shutdown().await;
}

fn start(tasks: &mut JoinSet<()>, context: &Arc<Context>, scope: &Scope) {
    let sources: &[Source] = match scope {
        Scope::Cluster => &Source::ALL,
        Scope::Namespaces(_) => &[],
    };
    context.cluster.begin(sources);
    tasks.spawn(publish(Arc::clone(context)));
    if sources.is_empty() {
        return;
    }
    let paged = watcher::Config::default().page_size(PAGE);
    let nodes = Api::all_with(client(context, Source::Nodes), &ApiResource::erase::<WholeNode>(&()));
    follow(tasks, context, nodes, paged.clone(), Source::Nodes, found::node);
    follow(
        tasks,
        context,
        Api::<Service>::all(client(context, Source::Services)),
        paged,
        Source::Services,
        found::service,
    );
    let all = watcher::Config::default();
    let ranges = Api::<ServiceCIDR>::all(client(context, Source::ServiceCidrs));
    follow(
        tasks,
        context,
        ranges,
        all.clone(),
        Source::ServiceCidrs,
        found::service_cidr,
    );
    let slices = Api::<EndpointSlice>::namespaced(client(context, Source::ApiServer), "default");
    let one = all.fields(&format!("metadata.name={API_SERVER}"));
    follow(tasks, context, slices, one, Source::ApiServer, found::endpoints);
}

/// The client of one watch. A watch that goes on where it was shows nothing of it, hence its answers are heard.
fn client(context: &Arc<Context>, source: Source) -> Client {
    let weak = Arc::downgrade(context);
    let heard = move || {
        if let Some(context) = weak.upgrade() {
            context.cluster.heard(source);
        }
    };
    listening::client(context.client.clone(), context.health.bounds().answer, heard)
}

/// One watch, for ever.
fn follow<K>(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    api: Api<K>,
    config: watcher::Config,
    source: Source,
    addresses: fn(&K) -> Vec<IpNet>,
) where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let context = Arc::clone(context);
    let config = config.timeout(context.health.bounds().watch_seconds);
    tasks.spawn(async move {
        let mut events = pin!(watch(api, config).backoff(backoff::watch()));
        let mut shown = HashMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => shown.clear(),
                Ok(Event::InitApply(object)) => {
                    shown.insert(Key::of(object.meta()), addresses(&object));
                }
                Ok(Event::InitDone) => context.cluster.only(source, std::mem::take(&mut shown)),
                Ok(Event::Apply(object)) => {
                    context.cluster.put(source, Key::of(object.meta()), addresses(&object));
                }
                Ok(Event::Delete(object)) => context.cluster.put(source, Key::of(object.meta()), Vec::new()),
                Err(error) => {
                    let reason = health::reason(&error);
                    if context.cluster.failed(source, reason) {
                        tracing::warn!(
                            kind = source.name(),
                            reason,
                            "the cluster's own addresses cannot be read"
                        );
                    }
                    if may_be_missing(source, reason) {
                        tokio::time::sleep(context.health.bounds().discovery).await;
                    }
                }
            }
        }
    });
}

/// Whether a cluster may do for long without what was not found. The other kinds are always served: that they are not passes
/// soon.
fn may_be_missing(source: Source, reason: &str) -> bool {
    source == Source::ServiceCidrs && reason == "NotServed"
}

/// Publishes what changed, at the first time at once.
async fn publish(context: Arc<Context>) {
    loop {
        let (news, later) = context.cluster.publish(Instant::now());
        if news {
            watches::everything(&context);
        }
        let later = async {
            match later {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = context.cluster.changed() => {}
            () = later => continue,
        }
        if context.cluster.view(Instant::now()).is_ok() {
            tokio::time::sleep(GATHER).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use futures_util::stream;
    use http::{Request, Response, StatusCode};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use kube::client::Body;

    use super::*;
    use crate::client::is_watch;
    use crate::context::tests::context;

    const NONE: &str = r#"{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
    const REFUSAL: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no",
        "reason":"Forbidden","code":403}"#;

    /// An API server without nodes that lets them be listed, and watched as long as the right to it is there.
    fn api_server(right: &Arc<AtomicBool>) -> Client {
        let right = Arc::clone(right);
        let service = tower::service_fn(move |request: Request<Body>| {
            let watch = is_watch(request.uri().query().unwrap_or(""));
            let refused = watch && !right.load(Ordering::Relaxed);
            async move {
                let (status, text) = match (refused, watch) {
                    (true, _) => (StatusCode::FORBIDDEN, REFUSAL),
                    (false, true) => (StatusCode::OK, ""),
                    (false, false) => (StatusCode::OK, NONE),
                };
                let said = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(text)))]);
                let body = if status == StatusCode::OK && watch {
                    said.chain(stream::pending()).boxed()
                } else {
                    said.boxed()
                };
                let mut response = Response::new(StreamBody::new(body));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "web")
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_whose_watch_is_refused_is_unread_until_the_watch_goes_on() {
        let right = Arc::new(AtomicBool::new(false));
        let context = Arc::new(context(api_server(&right)));
        context.cluster.begin(&Source::ALL);
        for source in Source::ALL.into_iter().filter(|source| *source != Source::Nodes) {
            context.cluster.only(source, HashMap::new());
        }
        let mut tasks = JoinSet::new();
        let nodes = Api::all_with(client(&context, Source::Nodes), &ApiResource::erase::<WholeNode>(&()));
        let config = watcher::Config::default();
        follow(&mut tasks, &context, nodes, config, Source::Nodes, found::node);
        let comes = async |expected: &[Source]| {
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                context.cluster.publish(Instant::now());
                let view = context.cluster.view(Instant::now());
                if view.is_ok_and(|view| view.unread == expected) {
                    return true;
                }
            }
            false
        };
        assert!(comes(&[Source::Nodes]).await, "it may be listed and not watched");
        right.store(true, Ordering::Relaxed);
        assert!(comes(&[]).await, "it is watched again");
    }

    #[test]
    fn only_a_kind_that_older_clusters_lack_is_looked_for_rarely() {
        let rarely = |reason| {
            Source::ALL
                .into_iter()
                .filter(move |source| may_be_missing(*source, reason))
        };
        assert_eq!(rarely("NotServed").collect::<Vec<_>>(), [Source::ServiceCidrs]);
        assert_eq!(rarely("Forbidden").count(), 0);
    }
}
