//! The controller: from watches to passes.
//!
//! In: changes of services (by generation) and of their children (metadata only, deletions included), and wake-ups.
//! Out: passes, never two of one service at once, with a backoff per service after failures.
//! A predicate on children would swallow their deletion, so there is none; an idle pass writes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, ReconcileRequest, trigger_owners, trigger_self};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{PredicateConfig, WatchStreamExt as _, applier, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use screenshot_api::ScreenshotService;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::Error;
use crate::names::all_children_selector;
use crate::reconcile::reconcile;

type Guarded = DeserializeGuard<ScreenshotService>;
type Requests = BoxStream<'static, Result<ReconcileRequest<Guarded>, watcher::Error>>;

const CONCURRENCY: u16 = 8;

/// Where services are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    Cluster,
    /// In one namespace.
    Namespace(String),
}

/// Runs until the token is cancelled and the passes under way have ended.
pub async fn run(context: Arc<Context>, scope: &Scope, stop: CancellationToken) {
    let (store, services) = services(&context.client, scope);
    let mut requests: SelectAll<Requests> = SelectAll::new();
    requests.push(services);
    for stream in children(&context.client, scope) {
        requests.push(stream);
    }
    let requests = requests.take_until(stop.cancelled_owned());
    // Gathers the burst of changes that one pass causes; short, as a steady stream of changes postpones the pass.
    let config = Config::default()
        .concurrency(CONCURRENCY)
        .debounce(Duration::from_millis(100));
    applier(one, failed, context, store, requests, config)
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::debug!(%error, "pass ended early");
            }
        })
        .await;
}

fn services(client: &Client, scope: &Scope) -> (Store<Guarded>, Requests) {
    let (store, writer) = reflector::store();
    let stream = watcher(api::<Guarded>(client, scope), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    (store, trigger_self(stream, ()).boxed())
}

fn children(client: &Client, scope: &Scope) -> Vec<Requests> {
    vec![
        owned::<ServiceAccount>(client, scope),
        owned::<NetworkPolicy>(client, scope),
        owned::<ConfigMap>(client, scope),
        owned::<Secret>(client, scope),
        owned::<Service>(client, scope),
        owned::<PodDisruptionBudget>(client, scope),
        owned::<Deployment>(client, scope),
    ]
}

/// Metadata is enough to know whose child changed; contents are read in the pass.
fn owned<K>(client: &Client, scope: &Scope) -> Requests
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let config = watcher::Config::default().labels(&all_children_selector());
    let stream = watcher(api::<PartialObjectMeta<K>>(client, scope), config)
        .default_backoff()
        .touched_objects();
    trigger_owners(stream, (), ()).boxed()
}

fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match scope {
        Scope::Cluster => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

fn one(service: Arc<Guarded>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        let Ok(readable) = &service.0 else {
            return Err(Error::Unreadable);
        };
        let next = reconcile(&context, readable).await?;
        context.backoff.succeeded(&id(&service));
        Ok(Action::requeue(next))
    }
    .boxed()
}

#[allow(clippy::needless_pass_by_value)] // The signature is kube's.
fn failed(service: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.pass(error.reason());
    let wait = context.backoff.failed(&id(&service));
    tracing::warn!(service = id(&service), reason = error.reason(), %error, retry_seconds = wait.as_secs(), "pass failed");
    Action::requeue(wait)
}

fn id(service: &Guarded) -> String {
    format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any())
}
