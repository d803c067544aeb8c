//! The only wiring: builds every room, runs the three listeners, owns readiness and the shutdown.
//!
//! In: arguments. Out: a running server until SIGTERM; then new captures are refused, those in hand are finished
//! within their deadline, and it ends. Must not: end for any other reason than a signal or a port it cannot have.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use screenshot_policy::attest::InternalKey;
use screenshot_policy::canary::{Canary, CanaryFacts, LENGTH};
use screenshot_policy::keyset::Keyset;
use screenshot_policy::layout::{self, INTERNAL_NEXT_KEY_FILE};
use screenshot_policy::policy::EffectivePolicy;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::access::keyset::{self, State as KeyState};
use crate::canary::{self, Found, Prober};
use crate::capture::pool::Counters;
use crate::child::Child;
use crate::clock;
use crate::cluster_ranges;
use crate::config::{self, JailerMode, ServeArgs};
use crate::http::listener::{self, Bounds};
use crate::http::{self, observe::Metrics};
use crate::image;
use crate::nonces::Nonces;
use crate::service::{self, Network, Service};
use crate::state::{Component, Status};

/// How long requests in hand may still take after their deadline before the server ends without them.
const GRACE: Duration = Duration::from_secs(2);
/// How long a capture may stay in hand after its deadline: its page resists, its jail is killed and reaped.
const CLEAR_UP: Duration = Duration::from_secs(30);
/// How often a server without a policy looks for one.
const POLICY_POLL: Duration = Duration::from_secs(1);
/// How long the server stays reachable, unready, before it stops accepting: balancers need a moment to notice.
const NOTICE: Duration = Duration::from_millis(500);

/// Empty until there is a good policy; then filled for good.
type Slot = Arc<OnceLock<Arc<Service>>>;

/// Everything that handlers share.
pub struct App {
    /// Readiness and findings.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The pod's name.
    pub pod: String,
    service: Slot,
    keys: watch::Sender<KeyState>,
    internal_key: PathBuf,
    browser_build: PathBuf,
    prober: Prober,
    nonces: Nonces,
}

impl App {
    /// The service, unless there is no policy.
    pub fn service(&self) -> Option<Arc<Service>> {
        self.service.get().cloned()
    }

    /// What is known of the keyset.
    pub fn keys(&self) -> KeyState {
        self.keys.borrow().clone()
    }

    /// The keyset in force.
    pub fn keyset(&self) -> Option<Arc<Keyset>> {
        self.keys.borrow().current.clone()
    }

    /// Takes in a keyset that the operator brought ahead of the file. Who brings it was proven before.
    pub fn bring_keyset(&self, bytes: &[u8]) {
        self.keys.send_if_modified(|state| state.brought(bytes));
    }

    /// The attestation keys: the one in use and, while it is being replaced, the one to come.
    pub async fn internal_keys(&self) -> Vec<InternalKey> {
        let mut keys = Vec::new();
        let next = self.internal_key.with_file_name(INTERNAL_NEXT_KEY_FILE);
        for path in [&self.internal_key, &next] {
            if let Ok(text) = tokio::fs::read_to_string(path).await {
                keys.extend(InternalKey::parse(&text));
            }
        }
        keys
    }

    /// Takes a nonce that was proven to be the operator's, once and at its time.
    pub fn take_nonce(&self, nonce: [u8; 32]) -> bool {
        let taken = self.nonces.take(nonce, clock::wall());
        if !taken {
            tracing::warn!("a message with the operator's code is not taken: it was before, or its clock is another");
        }
        taken
    }

    /// Tries the canary and draws the consequence. `None` without a policy, as then there is no proxy to be asked.
    pub async fn try_canary(&self, canary: &Canary, challenge: [u8; LENGTH]) -> Option<CanaryFacts> {
        let service = self.service()?;
        let mut refused = Vec::new();
        for address in canary.addresses() {
            refused.push(service.refuses(*address).await);
        }
        let Found { facts, believed } = self.prober.attempt(canary, challenge, &refused).await;
        for one in &facts.tries {
            self.metrics.canary_tried(one.outcome.reason());
        }
        match canary::follows(believed, service.policy.enforcement()) {
            Some(true) => self.status.cleared(Component::Egress),
            Some(false) => self.status.against(
                Component::Egress,
                "egress_not_enforced",
                "the cluster does not enforce its NetworkPolicies: an address that none of them opens was reached",
            ),
            None => {}
        }
        Some(facts)
    }

    /// When the browser that ran last was built, where the image says so.
    pub fn browser_built_at(&self) -> Option<Timestamp> {
        image::browser_built_at(&self.browser_build, self.status.browser().as_deref())
    }

    /// Whether work goes on: no capture is in hand for longer than a capture can take. That would be a fault of ours
    /// that only a new process ends.
    pub fn makes_progress(&self) -> bool {
        self.service.get().is_none_or(|service| {
            let deadline = service.policy.limits().deadline_ms.duration();
            may_last(service.admission.oldest(), deadline)
        })
    }

    /// Brings the gauges up to date.
    pub fn observe_state(&self) {
        let keys = self.keys();
        self.metrics.ready.set(i64::from(self.status.is_ready()));
        self.metrics
            .sandbox_verified
            .set(i64::from(self.status.sandbox().verified));
        let built = self.browser_built_at();
        self.metrics.browser_built.set(built.map_or(0, Timestamp::as_second));
        self.metrics
            .egress_enforced
            .set(self.prober.closed().map_or(-1, i64::from));
        self.metrics.keyset_stale.set(i64::from(keys.refused.is_some()));
        let revision = keys
            .current
            .map_or(0, |keyset| i64::try_from(keyset.revision).unwrap_or(i64::MAX));
        self.metrics.keyset_revision.set(revision);
        if let Some(service) = self.service.get() {
            self.metrics
                .waiting
                .set(i64::try_from(service.admission.waiting()).unwrap_or(i64::MAX));
            let slots = i64::try_from(service.admission.in_flight()).unwrap_or(i64::MAX);
            self.metrics.slots.set(slots);
            self.metrics.browsers_found(service.pool.census());
        }
    }
}

/// Whether a capture with this deadline may be in hand for so long.
fn may_last(oldest: Duration, deadline: Duration) -> bool {
    oldest <= deadline + CLEAR_UP
}

/// A server whose ports are bound and whose rooms run.
pub struct Server {
    app: Arc<App>,
    listeners: [TcpListener; 3],
    /// Background work; ends with the server.
    tasks: Vec<AbortOnDropHandle<()>>,
}

impl Server {
    /// Binds the ports and starts the rooms.
    pub async fn start(args: ServeArgs) -> io::Result<Self> {
        Self::bind(args, None).await
    }

    /// The same on another network than the system's.
    pub async fn start_on(args: ServeArgs, network: Network) -> io::Result<Self> {
        Self::bind(args, Some(network)).await
    }

    #[expect(clippy::disallowed_methods, reason = "the server's own ports")]
    async fn bind(args: ServeArgs, network: Option<Network>) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for address in [args.listen, args.health_listen, args.metrics_listen] {
            listeners.push(TcpListener::bind(address).await?);
        }
        let listeners = <[TcpListener; 3]>::try_from(listeners).map_err(|_| io::ErrorKind::Other)?;
        let status = Arc::new(Status::default());
        let mut tasks = Vec::new();
        let (service, metrics) = (Slot::default(), Metrics::default());
        let keys = follow_keyset(args.keyset.clone(), &status, &mut tasks);
        let provider = Provider {
            args: args.clone(),
            status: Arc::clone(&status),
            network,
            browsers: metrics.browser_counters(),
            slot: Arc::clone(&service),
        };
        tasks.push(provider.start());
        let app = App {
            status,
            metrics: Arc::new(metrics),
            pod: args.pod_name,
            service,
            keys,
            internal_key: args.internal_key,
            browser_build: args.browser_build,
            prober: Prober::default(),
            nonces: Nonces::default(),
        };
        Ok(Self {
            app: Arc::new(app),
            listeners,
            tasks,
        })
    }

    /// Where API, health and metrics really listen.
    pub fn addresses(&self) -> io::Result<[SocketAddr; 3]> {
        let [api, health, metrics] = &self.listeners;
        Ok([api.local_addr()?, health.local_addr()?, metrics.local_addr()?])
    }

    /// What handlers share, for a caller in the same process that needs no HTTP: the benchmark.
    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    /// Serves until `stop`, then drains.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let Self {
            app,
            listeners: [api, health, metrics],
            tasks,
        } = self;
        let (stop_api, stop_rest) = (CancellationToken::new(), CancellationToken::new());
        let served = serve(api, http::api(Arc::clone(&app)), &stop_api, Bounds::API);
        let _rest = [
            serve(health, http::health(Arc::clone(&app)), &stop_rest, Bounds::INTERNAL),
            serve(metrics, http::metrics(Arc::clone(&app)), &stop_rest, Bounds::INTERNAL),
        ];
        stop.await;
        tracing::info!("shutting down");
        app.status
            .against(Component::Shutdown, "draining", "the server is shutting down");
        tokio::time::sleep(NOTICE).await;
        let mut patience = GRACE;
        if let Some(service) = app.service() {
            service.admission.drain();
            patience += service.policy.limits().deadline_ms.duration();
        }
        stop_api.cancel();
        let drained = tokio::time::timeout(patience, served).await;
        stop_rest.cancel();
        drop(tasks);
        if drained.is_err() {
            tracing::warn!("requests in hand were cut off");
        }
        Ok(())
    }
}

fn serve(listener: TcpListener, router: Router, stop: &CancellationToken, bounds: Bounds) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(listener::serve(listener, router, stop.clone(), bounds)))
}

/// Builds the service as soon as there is a policy.
struct Provider {
    args: ServeArgs,
    status: Arc<Status>,
    /// `None`: the system's.
    network: Option<Network>,
    browsers: Counters,
    slot: Slot,
}

impl Provider {
    /// Fills the slot at once if there is a good policy, else as soon as there is one: the file that a pod was started
    /// with may be wrong, and nobody restarts a pod that only waits. What is in force is never replaced.
    fn start(self) -> AbortOnDropHandle<()> {
        let mut built = self.build();
        AbortOnDropHandle::new(tokio::spawn(async move {
            while built.is_none() {
                tokio::time::sleep(POLICY_POLL).await;
                built = self.build();
            }
        }))
    }

    /// Loads the policy and starts the service; `None` with the reason in the status.
    fn build(&self) -> Option<()> {
        let args = &self.args;
        let policy = match config::load_policy(&args.policy, args.policy_digest.as_deref()) {
            Ok(policy) => policy,
            Err((reason, message)) => {
                self.status.against(Component::Policy, reason, &message);
                return None;
            }
        };
        let beside = args.policy.with_file_name(layout::CLUSTER_RANGES_FILE);
        let policy = match cluster_ranges::read(&beside) {
            Ok(ranges) => Arc::new(EffectivePolicy::clone(&policy).in_cluster(ranges)),
            Err(reason) => {
                let message = "the cluster's own public ranges cannot be read";
                self.status.against(Component::Policy, reason, message);
                return None;
            }
        };
        let Ok(network) = self.network.clone().map_or_else(Network::system, Ok) else {
            self.status.against(
                Component::Policy,
                "resolver_failed",
                "the system's name servers cannot be read",
            );
            return None;
        };
        let config = service::Config {
            jailer: child(args),
            cluster_ranges: Some(beside),
            upstream: Some(args.upstream.clone()),
            counters: self.browsers.clone(),
            ..service::Config::new(policy, args.jail_socket.clone(), network)
        };
        let service = Service::start(config, &self.status);
        self.slot.set(Arc::new(service)).ok()?;
        self.status.cleared(Component::Policy);
        Some(())
    }
}

fn child(args: &ServeArgs) -> Option<Child> {
    if args.jailer == JailerMode::Connect {
        return None;
    }
    let mut arguments = vec!["serve".into(), args.jail_socket.clone().into_os_string()];
    // Started as root, the jailer becomes another user and would not let this process in.
    arguments.push("--allow-peer-uid".into());
    arguments.push(rustix::process::geteuid().as_raw().to_string().into());
    // Here they lie where it was said, and on the same machine.
    for secret in [&args.keyset, &args.internal_key, &args.upstream] {
        arguments.push("--secret".into());
        arguments.push(secret.clone().into_os_string());
    }
    if let Some(browser) = &args.browser {
        arguments.push("--browser".into());
        arguments.push(browser.clone().into_os_string());
    }
    Some(Child::new(
        config::jailer_program(args.jailer_program.as_deref()),
        arguments,
    ))
}

fn follow_keyset(
    path: PathBuf,
    status: &Arc<Status>,
    tasks: &mut Vec<AbortOnDropHandle<()>>,
) -> watch::Sender<KeyState> {
    let (keys, mut watched) = watch::channel(KeyState::default());
    let sender = keys.clone();
    tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
        keyset::follow(&path, &sender).await;
    })));
    let status = Arc::clone(status);
    let report = async move {
        while watched.changed().await.is_ok() {
            let state = watched.borrow_and_update().clone();
            match (&state.current, state.refused) {
                (None, reason) => {
                    let reason = reason.unwrap_or("keyset_missing");
                    status.against(Component::Keyset, reason, "there is no usable keyset");
                }
                (Some(keyset), None) => {
                    tracing::info!(revision = keyset.revision, keys = keyset.keys.len(), "keyset in force");
                    status.cleared(Component::Keyset);
                }
                (Some(_), Some(reason)) => tracing::warn!(reason, "a newer keyset is refused; the old one stays"),
            }
        }
    };
    tasks.push(AbortOnDropHandle::new(tokio::spawn(report)));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_may_last_until_its_deadline_and_as_long_as_it_takes_to_clear_up_after_it() {
        let (deadline, moment) = (Duration::from_secs(10), Duration::from_millis(1));
        for within in [Duration::ZERO, deadline, deadline + CLEAR_UP] {
            assert!(may_last(within, deadline), "{within:?}");
        }
        assert!(!may_last(deadline + CLEAR_UP + moment, deadline));
    }
}
