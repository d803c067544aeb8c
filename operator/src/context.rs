//! What every pass shares: settings, the client, the clock, randomness, memory of what was applied.
//!
//! Clock and randomness are values here so that the decisions built on them can be tested.

use std::sync::Mutex;

use jiff::Timestamp;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use crate::apply::Ledger;
use crate::attest::Attester;
use crate::backoff::Backoff;
use crate::error::Error;
use crate::metrics::Metrics;

/// What the operator was installed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of capture pods for services that name none.
    pub capture_image: Option<String>,
    /// Namespace the operator runs in; capture pods let its pods attest them.
    pub operator_namespace: String,
    /// Value of the operator pods' label `app.kubernetes.io/name`.
    pub operator_name: String,
}

/// What every pass shares.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// What the operator was installed with.
    pub settings: Settings,
    /// Asks pods what they enforce.
    pub attester: Attester,
    /// Publishes events; one per process, as it merges repetitions.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Metrics,
    /// What was applied last, so that nothing is sent when nothing changed.
    pub ledger: Mutex<Ledger>,
    /// Failures in a row per service.
    pub backoff: Backoff,
    /// The clock.
    pub now: fn() -> Timestamp,
}

impl Context {
    /// A context that remembers nothing yet. `now` gives whole seconds: the API server keeps nothing finer.
    pub fn new(client: Client, settings: Settings, reporter: Reporter, now: fn() -> Timestamp) -> Self {
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            settings,
            attester: Attester::default(),
            metrics: Metrics::default(),
            ledger: Mutex::default(),
            backoff: Backoff::default(),
            now,
        }
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
