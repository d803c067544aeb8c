//! What every pass shares: settings, the client, the clock, randomness, what the watches show, what is remembered.
//!
//! Clock and randomness are values here so that the decisions built on them can be tested.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use kube::Client;
use kube::runtime::events::Reporter;

use crate::attest::Attester;
use crate::backoff::Backoff;
use crate::cache::health::Health;
use crate::cache::services::Services;
use crate::cache::targets::TargetWatches;
use crate::cache::watches::Served;
use crate::cache::{Cache, Key};
use crate::canary::Canary;
use crate::cluster::{Cluster, ClusterSettings};
use crate::error::Error;
use crate::events::Teller;
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::trigger::queue::Queue;

/// What the operator was installed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of capture pods for services that name none.
    pub capture_image: Option<String>,
    /// Namespace the operator runs in; capture pods let its pods attest them.
    pub operator_namespace: String,
    /// Value of the operator pods' label `app.kubernetes.io/name`.
    pub operator_name: String,
    /// What is said of the cluster, for all services.
    pub cluster: ClusterSettings,
}

/// What every pass shares.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// What the operator was installed with.
    pub settings: Settings,
    /// Asks pods what they enforce.
    pub attester: Attester,
    /// What pods are asked to try. Absent until it is set.
    pub canary: Arc<Canary>,
    /// Publishes events; one per process, as it merges repetitions.
    pub teller: Teller,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The resources, as the watches show them.
    pub services: Services,
    /// Their children and pods, as the watches show them.
    pub cache: Cache,
    /// Services that exceptions name.
    pub targets: TargetWatches,
    /// What the cluster has of its own that is public.
    pub cluster: Cluster,
    /// Whether the watches work.
    pub health: Health,
    /// Which optional kinds the API server serves.
    pub served: Served,
    /// Which services are due for a pass.
    pub queue: Arc<Queue>,
    /// What is remembered of each service, so that nothing is sent or read without need.
    pub memories: Memories,
    /// Whether this process makes passes; a standby only watches.
    pub leading: AtomicBool,
    /// Failures in a row per service.
    pub backoff: Backoff,
    /// The clock.
    pub now: fn() -> Timestamp,
}

impl Context {
    /// A context that remembers nothing yet. `metrics` is what the client counts its calls in. `now` gives whole seconds: the API server keeps nothing finer.
    pub fn new(
        client: Client,
        metrics: Arc<Metrics>,
        settings: Settings,
        reporter: Reporter,
        now: fn() -> Timestamp,
    ) -> Self {
        Self {
            teller: Teller::new(client.clone(), reporter),
            client,
            settings,
            attester: Attester::default(),
            canary: Arc::new(Canary::absent()),
            metrics,
            services: Services::default(),
            cache: Cache::default(),
            targets: TargetWatches::default(),
            cluster: Cluster::default(),
            health: Health::default(),
            served: Served::default(),
            queue: Arc::default(),
            memories: Memories::default(),
            leading: AtomicBool::new(false),
            backoff: Backoff::default(),
            now,
        }
    }

    /// A service is gone: no pass over it is due, and nothing of it is remembered.
    pub fn gone(&self, service: &Key) {
        self.queue.withdraw(service);
        self.forget(service);
    }

    /// Forgets all that is remembered of a service that is gone or was replaced.
    pub fn forget(&self, service: &Key) {
        self.memories.forget(service);
        self.backoff.succeeded(service);
        self.targets.need(&self.client, &self.queue, service, &BTreeSet::new());
    }
}

/// Random bytes from the operating system.
///
/// # Errors
/// [`Error::Random`] when it has none.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    use rand::TryRng as _;
    let mut bytes = [0; N];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| Error::Random)?;
    Ok(bytes)
}

/// Contexts for unit tests.
#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// Of an operator `o` in namespace `o`.
    pub(crate) fn settings(capture_image: Option<&str>) -> Settings {
        Settings {
            capture_image: capture_image.map(str::to_owned),
            operator_namespace: "o".into(),
            operator_name: "o".into(),
            cluster: ClusterSettings::default(),
        }
    }

    /// One that has seen nothing yet.
    pub(crate) fn context(client: Client) -> Context {
        Context::new(
            client,
            Arc::default(),
            settings(None),
            "test".into(),
            crate::clock::whole_seconds,
        )
    }

    /// A client whose API server answers every call with this.
    pub(crate) fn answering(answer: &Value) -> Client {
        let text = answer.to_string();
        let server = tower::service_fn(move |_: http::Request<Body>| {
            let answer = http::Response::new(Body::from(text.clone().into_bytes()));
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(server, "web")
    }
}
