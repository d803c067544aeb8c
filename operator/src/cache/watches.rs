//! Starts and feeds the watches.
//!
//! In: the scope. Out: a filled cache, and services in the queue whenever something changed for them.
//! Children are watched as metadata only, selected by our labels; Deployments and pods whole, but only their views are
//! kept. Optional kinds are watched while they are served: looked for at the start and every few minutes.
//! Must not: decide anything, or write.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::health::Watched;
use super::services::{Guarded, News, key};
use super::{Key, View, health, listening};
use crate::backoff;
use crate::context::Context;
use crate::names::{all_children_selector, all_pods_selector};
use crate::observe::ChildMeta;
use crate::plan::Kind;
use crate::trigger::controller::Scope;
use crate::views;

/// Objects of one answer to a list. Of what an answer holds little is kept: the fewer at a time, the less memory stays
/// behind for good.
const PAGE: u32 = 50;
/// Until the API server answers for the first time.
const DISCOVERY_RETRY: Duration = Duration::from_secs(5);

/// What one watch showed.
enum Seen<K> {
    Applied(K),
    Deleted(K),
    /// The watch began anew; what was not among these is gone.
    Only(HashSet<Key>),
}

/// Watches everything until the token is cancelled.
pub async fn run(context: Arc<Context>, scope: Scope, stop: CancellationToken) {
    let mut required = JoinSet::new();
    for namespace in scope.namespaces() {
        services(&mut required, &context, namespace.as_deref());
        pods(&mut required, &context, namespace.as_deref());
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.optional()) {
            children(&mut required, &context, kind, namespace.as_deref());
        }
    }
    tokio::select! {
        () = optional(&context, &scope) => {}
        () = stop.cancelled() => {}
    }
    required.shutdown().await;
}

/// Follows the optional kinds for as long as they are served.
async fn optional(context: &Arc<Context>, scope: &Scope) {
    let mut running: HashMap<Kind, JoinSet<()>> = HashMap::new();
    let discovery = context.health.bounds().discovery;
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.optional()).collect();
    loop {
        let mut answered = true;
        let groups: BTreeSet<String> = kinds.iter().map(|kind| kind.api_version()).collect();
        let answers: HashMap<String, Option<BTreeSet<String>>> = join_all(groups.into_iter().map(async |group| {
            let resources = served_in(context, &group).await;
            (group, resources)
        }))
        .await
        .into_iter()
        .collect();
        for kind in kinds.iter().copied() {
            let resources = answers.get(&kind.api_version()).and_then(Option::as_ref);
            let served = resources.map(|resources| resources.contains(kind.group_resource().1));
            match served {
                Some(true) if !running.contains_key(&kind) => {
                    let mut set = JoinSet::new();
                    for namespace in scope.namespaces() {
                        children(&mut set, context, kind, namespace.as_deref());
                    }
                    running.insert(kind, set);
                    context.served.set(kind, true);
                    everything(context);
                }
                Some(false) if running.remove(&kind).is_some() => {
                    context.health.ended(Watched::Child(kind));
                    context.served.set(kind, false);
                    push(context, context.cache.keep_children(kind, None, &HashSet::new()));
                    everything(context);
                }
                Some(_) => {}
                None => answered = false,
            }
        }
        let wait = if answered {
            context.served.known();
            discovery
        } else {
            DISCOVERY_RETRY
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.served.doubted() => tokio::time::sleep(DISCOVERY_RETRY).await,
        }
    }
}

/// The resources of a group; `None` when the API server does not say.
async fn served_in(context: &Context, group: &str) -> Option<BTreeSet<String>> {
    let listed = context.client.list_api_group_resources(group);
    match crate::apply::call("get", "APIResourceList", listed).await {
        Ok(list) => Some(list.resources.into_iter().map(|resource| resource.name).collect()),
        Err(error) if error.is_not_found() => Some(BTreeSet::new()),
        Err(_) => None,
    }
}

/// Asks for a pass of every service.
pub(crate) fn everything(context: &Context) {
    push(
        context,
        context.services.store().state().iter().map(|service| key(service)),
    );
}

/// Asks for a pass of those that are there: children of one that is gone go after it, one that comes asks by itself.
fn push(context: &Context, services: impl IntoIterator<Item = Key>) {
    let there = |service: &Key| context.services.uid(service).is_some();
    let due = services.into_iter().filter(there);
    due.for_each(|service| context.queue.push(service));
}

fn services(tasks: &mut JoinSet<()>, context: &Arc<Context>, namespace: Option<&str>) {
    let api: Api<Guarded> = whole(client(context, Watched::Services, namespace), namespace);
    let scope = namespace.map(str::to_owned);
    follow(
        tasks,
        context,
        api,
        String::new(),
        Watched::Services,
        namespace,
        move |context, seen| match seen {
            Seen::Applied(service) => {
                let key = key(&service);
                match context.services.apply(service) {
                    News::None | News::Old => Vec::new(),
                    News::Changed => vec![key],
                    News::Replaced => {
                        context.forget(&key);
                        vec![key]
                    }
                }
            }
            Seen::Deleted(service) => {
                let key = key(&service);
                context.services.delete(service);
                context.gone(&key);
                Vec::new()
            }
            Seen::Only(shown) => {
                let gone = context.services.keep(scope.as_deref(), &shown);
                for service in &gone {
                    context.gone(service);
                }
                Vec::new()
            }
        },
    );
}

fn pods(tasks: &mut JoinSet<()>, context: &Arc<Context>, namespace: Option<&str>) {
    let api: Api<Pod> = whole(client(context, Watched::Pods, namespace), namespace);
    let scope = namespace.map(str::to_owned);
    follow(
        tasks,
        context,
        api,
        all_pods_selector(),
        Watched::Pods,
        namespace,
        move |context, seen| match seen {
            Seen::Applied(pod) => context.cache.pod(&pod),
            Seen::Deleted(pod) => context.cache.pod_gone(&Key::of(&pod.metadata)),
            Seen::Only(shown) => context.cache.keep_pods(scope.as_deref(), &shown),
        },
    );
}

fn children(tasks: &mut JoinSet<()>, context: &Arc<Context>, kind: Kind, namespace: Option<&str>) {
    let (selector, watched) = (all_children_selector(), Watched::Child(kind));
    let scope = namespace.map(str::to_owned);
    let client = client(context, watched, namespace);
    match kind {
        Kind::Deployment => {
            let view = |deployment: &Deployment| Some(View::Deployment(views::deployment(deployment)));
            follow(
                tasks,
                context,
                whole(client, namespace),
                selector,
                watched,
                namespace,
                child(kind, scope, view),
            );
        }
        Kind::HorizontalPodAutoscaler => {
            let view = |scaler: &HorizontalPodAutoscaler| Some(View::Autoscaler(views::autoscaler(scaler)));
            follow(
                tasks,
                context,
                whole(client, namespace),
                selector,
                watched,
                namespace,
                child(kind, scope, view),
            );
        }
        _ => {
            let resource = kind.api_resource();
            let api: Api<PartialObjectMeta<DynamicObject>> = match namespace {
                Some(namespace) => Api::namespaced_with(client, namespace, &resource),
                None => Api::all_with(client, &resource),
            };
            follow(
                tasks,
                context,
                api,
                selector,
                watched,
                namespace,
                child(kind, scope, |_| None),
            );
        }
    }
}

/// The client of one watch.
fn client(context: &Arc<Context>, watched: Watched, namespace: Option<&str>) -> Client {
    let (inner, answer) = (context.client.clone(), context.health.bounds().answer);
    let (context, namespace) = (Arc::downgrade(context), namespace.map(str::to_owned));
    listening::client(inner, answer, move || {
        if let Some(context) = context.upgrade() {
            context.health.heard(watched, namespace.as_deref(), Instant::now());
        }
    })
}

fn whole<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

fn child<K: Resource>(
    kind: Kind,
    scope: Option<String>,
    view: impl Fn(&K) -> Option<View>,
) -> impl Fn(&Context, Seen<K>) -> Vec<Key> {
    move |context, seen| match seen {
        Seen::Applied(object) => context.cache.child(kind, object.meta(), view(&object)),
        Seen::Deleted(object) => {
            let meta = object.meta();
            let last = ChildMeta::of(meta);
            context.cache.child_gone(kind, &Key::of(meta), Some(&last))
        }
        Seen::Only(shown) => context.cache.keep_children(kind, scope.as_deref(), &shown),
    }
}

/// One watch, for ever: failures are retried with a backoff and noted.
fn follow<K>(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    api: Api<K>,
    selector: String,
    watched: Watched,
    namespace: Option<&str>,
    take: impl Fn(&Context, Seen<K>) -> Vec<Key> + Send + 'static,
) where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let (context, namespace) = (Arc::clone(context), namespace.map(str::to_owned));
    context.health.begins(watched, namespace.as_deref(), Instant::now());
    tasks.spawn(async move {
        let config = watcher::Config {
            label_selector: (!selector.is_empty()).then_some(selector),
            timeout: Some(context.health.bounds().watch_seconds),
            page_size: Some(PAGE),
            ..watcher::Config::default()
        };
        let mut events = pin!(watch(api, config).backoff(backoff::watch()));
        let mut shown = HashSet::new();
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let reason = health::reason(&error);
                    context
                        .health
                        .failed(watched, namespace.as_deref(), reason, Instant::now());
                    tracing::warn!(kind = watched.name(), namespace, reason, "a watch failed");
                    if matches!(watched, Watched::Child(kind) if kind.optional()) && reason == "NotServed" {
                        context.served.doubt();
                    }
                    continue;
                }
            };
            let (seen, done) = match event {
                Event::Init => {
                    shown.clear();
                    continue;
                }
                Event::InitApply(object) => {
                    shown.insert(Key::of(object.meta()));
                    (Seen::Applied(object), false)
                }
                Event::InitDone => (Seen::Only(std::mem::take(&mut shown)), true),
                Event::Apply(object) => (Seen::Applied(object), false),
                Event::Delete(object) => (Seen::Deleted(object), false),
            };
            push(&context, take(&context, seen));
            if done {
                context.health.filled(watched, namespace.as_deref());
            }
        }
    });
}

/// Which optional kinds the API server serves.
#[derive(Debug, Default)]
pub struct Served {
    kinds: RwLock<(bool, BTreeSet<Kind>)>,
    doubt: Notify,
}

impl Served {
    /// Those.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let served = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        served.1.clone()
    }

    /// Whether the API server was asked yet.
    pub fn is_known(&self) -> bool {
        self.kinds.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// A kind seems to be served no longer.
    fn doubt(&self) {
        self.doubt.notify_one();
    }

    async fn doubted(&self) {
        self.doubt.notified().await;
    }

    pub(crate) fn known(&self) {
        self.kinds.write().unwrap_or_else(PoisonError::into_inner).0 = true;
    }

    fn set(&self, kind: Kind, served: bool) {
        let mut held = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        if served {
            held.1.insert(kind);
        } else {
            held.1.remove(&kind);
        }
    }
}
