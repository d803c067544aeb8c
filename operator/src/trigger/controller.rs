//! The controller: from the queue to passes.
//!
//! In: services that are due, because something happened to them or their time has come. Out: passes, never two of one
//! service at once, with a backoff per service after failures. Ends when the passes under way have ended.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config, ReconcileRequest};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::cache::Key;
use crate::cache::services::{Guarded, key, reference};
use crate::context::{Context, random};
use crate::error::Error;
use crate::reconcile::reconcile;

/// Passes at a time. A pass mostly waits for pods, which wait for what the cluster's network drops: half a second for each
/// service, every 40 seconds.
const CONCURRENCY: u16 = 32;

/// The first passes wait for the watches, as each would be refused before. Not for ever: what cannot be had is told in the
/// status of the services.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// Between looks whether they are.
const LOOK: Duration = Duration::from_millis(20);

/// Where services are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    Cluster,
    /// In these namespaces; nothing is read or written elsewhere.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// In the namespaces given, or in all when none is.
    pub fn of(namespaces: impl IntoIterator<Item = String>) -> Self {
        let names: BTreeSet<String> = namespaces.into_iter().filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            Self::Cluster
        } else {
            Self::Namespaces(names)
        }
    }

    /// One entry per watch of a kind; `None` stands for all namespaces.
    pub fn namespaces(&self) -> Vec<Option<String>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}

/// Makes passes until the token is cancelled and those under way have ended.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    context.leading.store(true, Ordering::Release);
    tokio::select! {
        () = watches_answer(&context) => {}
        () = stop.cancelled() => {}
    }
    // All that changed while this process was a standby is in the queue already.
    let due = stream::unfold(Arc::clone(&context.queue), |queue| async move {
        let service = queue.next().await;
        let request: ReconcileRequest<Guarded> = reference(&service).into();
        Some((Ok::<_, Infallible>(request), queue))
    });
    let requests = due.take_until(stop.cancelled_owned()).boxed();
    let store = context.services.store();
    // The queue has gathered the bursts already.
    let config = Config::default().concurrency(CONCURRENCY);
    applier(
        one,
        |_, never: &Infallible, _| match *never {},
        Arc::clone(&context),
        store,
        requests,
        config,
    )
    .for_each(|_| async {})
    .await;
    context.leading.store(false, Ordering::Release);
}

/// Waits until every watch is filled or says why not, for as long as is sensible.
async fn watches_answer(context: &Context) {
    let all = async {
        while !(context.health.answered() && context.served.is_known()) {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(ANSWERED_WITHIN, all).await.is_err() {
        tracing::warn!("some watches do not answer; passes begin without them");
    }
}

/// What tells the passes of this process from those of all others: the leader changes, and logs are read together.
static PROCESS: LazyLock<String> = LazyLock::new(|| random::<4>().map_or_else(|_| "0".into(), hex::encode));

/// One pass. A failure is told and waited for here: a line that is written outside of the span lacks the pass.
fn one(service: Arc<Guarded>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Infallible>> {
    static PASSES: AtomicU64 = AtomicU64::new(1);
    let id = key(&service);
    let pass = format!("{}-{}", *PROCESS, PASSES.fetch_add(1, Ordering::Relaxed));
    let span = tracing::info_span!("reconcile", namespace = id.namespace, service = id.name, pass);
    context.queue.begun(&id);
    async move {
        let wait = match begin(&service, &context).await {
            Ok(next) => {
                context.backoff.succeeded(&id);
                next
            }
            Err(error) => failed(&context, &id, &error),
        };
        // Forgotten already, and remembered anew by the rest of the pass.
        match context.services.uid(&id) {
            uid if uid == service.uid() => {}
            Some(_) => context.forget(&id),
            None => context.gone(&id),
        }
        Ok(Action::requeue(wait))
    }
    .instrument(span)
    .boxed()
}

async fn begin(service: &Guarded, context: &Context) -> Result<Duration, Error> {
    let Ok(readable) = &service.0 else {
        return Err(Error::Unreadable);
    };
    let start = Instant::now();
    let outcome = reconcile(context, readable).await;
    context.metrics.took(start.elapsed());
    let next = outcome?;
    tracing::debug!(took = ?start.elapsed(), ?next, "pass done");
    Ok(next)
}

/// Counts and tells a failure; returns how long to wait.
fn failed(context: &Context, id: &Key, error: &Error) -> Duration {
    context.metrics.pass(error.reason());
    let chance = random::<1>().map_or(0, |[byte]| byte);
    let backoff = context.backoff.failed(id, chance);
    let wait = error
        .retry_after()
        .map_or(backoff, |asked| backoff.max(asked.min(Duration::from_secs(300))));
    tracing::warn!(reason = error.reason(), %error, retry_seconds = wait.as_secs(), "pass failed");
    wait
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::sync::Mutex;

    use kube::Client;
    use kube::client::Body;
    use kube::core::DeserializeGuard;
    use screenshot_api::ScreenshotService;
    use serde_json::{Value, json};

    use super::*;
    use crate::cache::health::Watched;

    /// A context whose API server never answers, with one service that is due.
    fn context() -> Context {
        context_of(Client::new(
            tower::service_fn(|_: http::Request<Body>| {
                std::future::pending::<Result<http::Response<Body>, Infallible>>()
            }),
            "web",
        ))
    }

    /// Of an API server that refuses everything.
    fn refusing() -> Client {
        let server = tower::service_fn(async |_: http::Request<Body>| {
            Ok::<_, Infallible>(http::Response::builder().status(500).body(Body::empty()).unwrap())
        });
        Client::new(server, "web")
    }

    fn service(uid: &str) -> Guarded {
        let service: ScreenshotService = serde_json::from_value(json!({
            "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
            "metadata": {"name": "shots", "namespace": "web", "uid": uid}, "spec": {},
        }))
        .unwrap();
        DeserializeGuard(Ok(service))
    }

    fn context_of(client: Client) -> Context {
        let context = crate::context::tests::context(client);
        let service = service("u");
        context.queue.push(key(&service));
        context.services.apply(service);
        context
    }

    #[tokio::test(start_paused = true)]
    async fn no_pass_begins_before_the_watches_have_answered_unless_they_take_too_long() {
        let context = Arc::new(context());
        context.health.begins(Watched::Services, None, Instant::now());
        let (stop, begun) = (CancellationToken::new(), tokio::time::Instant::now());
        let running = tokio::spawn(run(Arc::clone(&context), stop.clone()));
        while context.queue.depth() > 0 {
            tokio::time::sleep(LOOK).await;
        }
        assert!(begun.elapsed() >= ANSWERED_WITHIN, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < 2 * ANSWERED_WITHIN, "{:?}", begun.elapsed());
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn passes_begin_at_once_when_the_watches_have_answered() {
        let context = Arc::new(context());
        context.health.begins(Watched::Services, None, Instant::now());
        context.health.filled(Watched::Services, None);
        context.served.known();
        let (stop, begun) = (CancellationToken::new(), tokio::time::Instant::now());
        let running = tokio::spawn(run(Arc::clone(&context), stop.clone()));
        while context.queue.depth() > 0 {
            tokio::time::sleep(LOOK).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn what_a_pass_remembers_of_a_service_that_went_meanwhile_is_forgotten_when_it_ends() {
        for replaced in [false, true] {
            let context = Arc::new(context_of(refusing()));
            let before = context.services.store().state().pop().unwrap();
            let id = key(&before);
            let pass = one(Arc::clone(&before), Arc::clone(&context));
            context.services.delete(Guarded::clone(&before));
            context.gone(&id);
            if replaced {
                context.services.apply(service("other"));
                context.queue.push(id.clone());
            }
            pass.await.unwrap();
            assert!(!context.memories.remembers(&id), "replaced: {replaced}");
            assert_eq!(context.queue.depth(), usize::from(replaced));
            let wait = context.backoff.failed(&id, 0);
            assert_eq!(wait, Duration::from_secs(1), "its failures are those of another one");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_line_of_a_pass_that_fails_is_json_with_the_service_and_the_pass() {
        let context = Arc::new(context_of(refusing()));
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = crate::logs::json("debug", move || writer.clone()).unwrap();
        let guard = tracing::subscriber::set_default(subscriber);
        let service = context.services.store().state().pop().unwrap();
        for _ in 0..2 {
            one(Arc::clone(&service), Arc::clone(&context)).await.unwrap();
        }
        drop(guard);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut passes = BTreeSet::new();
        for line in &lines {
            let span = &line["span"];
            assert_eq!(
                (&span["namespace"], &span["service"]),
                (&json!("web"), &json!("shots")),
                "{line}"
            );
            passes.insert(span["pass"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned());
        }
        let failures = lines.iter().filter(|line| line["fields"]["message"] == "pass failed");
        assert_eq!((failures.count(), passes.len()), (2, 2), "{text}");
        let process = format!("{}-", *PROCESS);
        assert!(
            process.len() == 9 && passes.iter().all(|pass| pass.starts_with(&process)),
            "{passes:?}"
        );
    }
}
