//! The jails with their browsers: who gets which, what is kept warm, and what ends.
//!
//! In: the link that the supervisor has proven, and wishes. Out: a [`Lease`]. Decisions are `fleet`'s; this module
//! does what they say. Launches run in tasks of their own, so that a caller that gives up leaves no jail behind that
//! nobody knows. Must not: hand out a jail of another link, or wait longer than its caller does.

pub mod cell;
pub mod fleet;
mod lease;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capture_jail::client::ClientError;
use capture_jail::facts::Reason as Finding;
use capture_jail::protocol::{JailFacts, Mode, SpawnSpec};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{Notify, watch};

use super::link::Link;
use crate::browser::{DriverError, Strays};
use crate::clock;
use crate::limits::admission::Slot;
use crate::probe;
use cell::Cell;
use fleet::{Claim, Fleet, MemberId, Refill, Retired, Rules, Want};
use lease::Claimed;
pub use lease::{Lease, Parts};

/// How often jails are looked after besides the moments when something happens.
const TICK: Duration = Duration::from_secs(1);
/// How often a resting jail's memory is looked at.
const MEASURE: Duration = Duration::from_secs(5);
/// After a launch that failed.
const FAILED_PAUSE: Duration = Duration::from_millis(500);

/// Why there is no jail.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No jailer is connected, or its preflight has not passed.
    #[error("no jailer")]
    NoJailer,
    /// Every jail is in use.
    #[error("no place")]
    Full,
    /// The jailer did not build it.
    #[error("jailer: {0}")]
    Jailer(#[from] ClientError),
    /// Its browser did not come up.
    #[error("browser: {0}")]
    Browser(#[from] DriverError),
    /// The descriptors that came with it are not what they should be.
    #[error("descriptors")]
    Descriptors,
    /// Its browser ended as it started, by this word of the jailer's.
    #[error("ended: {0}")]
    Ended(&'static str),
    /// Its browser runs and is not confined as promised; this comes first.
    #[error("not proven: {}", .0.reason())]
    Unproven(Finding),
    /// It took too long.
    #[error("timeout")]
    Timeout,
}

impl PoolError {
    /// The bounded word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoJailer => "no_jailer",
            Self::Full => "no_place",
            Self::Jailer(error) => error.reason(),
            Self::Browser(error) => error.reason(),
            Self::Descriptors => "descriptors",
            Self::Ended(reason) => reason,
            Self::Unproven(finding) => finding.reason(),
            Self::Timeout => "browser_timeout",
        }
    }
}

/// What every jail of a pool is made with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether jails may be degraded.
    pub mode: Mode,
    /// The proxy's key for hosts that the policy names, if it names any.
    pub accepted_key: Option<[u8; 32]>,
    /// Who shares, how many, how long.
    pub rules: Rules,
    /// Longest message of a browser in bytes.
    pub max_frame: usize,
    /// Counts messages of browsers that are not understood.
    pub strays: Strays,
}

impl Config {
    /// What the jailer is asked for.
    pub fn spec(&self) -> SpawnSpec {
        let contexts = u16::try_from(self.rules.contexts()).unwrap_or(u16::MAX);
        SpawnSpec {
            accepted_key: self.accepted_key,
            ..SpawnSpec::new(contexts, self.mode)
        }
    }
}

/// One counter per reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A bounded word.
    pub reason: &'static str,
}

/// What has become of jails, and of what their pages asked for.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Decisions of the proxy, by outcome: of captures that are given up, too.
    pub decisions: Family<Reason, Counter>,
    /// Jails that ended, by reason.
    pub retired: Family<Reason, Counter>,
    /// Jails that were launched.
    pub launched: Counter,
    /// Messages of browsers that were not understood.
    pub strays: Strays,
}

type Started = Option<Result<Arc<Cell>, Arc<PoolError>>>;

struct Inner {
    fleet: Fleet,
    cells: HashMap<MemberId, watch::Receiver<Started>>,
}

struct Shared {
    config: Config,
    inner: Mutex<Inner>,
    kicked: Notify,
    counters: Counters,
    /// The facts of the last browser that was not confined as promised.
    doubts: watch::Sender<Option<JailFacts>>,
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn kick(&self) {
        self.kicked.notify_one();
    }

    fn note_pages(&self, id: MemberId, cell: &Cell) {
        self.with(|inner| inner.fleet.pages(id, cell.pages()));
    }

    /// Kills a jail; returns when it is reaped, whoever else ends it. Until then it has its place.
    async fn end(&self, id: MemberId, why: Retired) {
        let Some(mut started) = self.with(|inner| inner.cells.get(&id).cloned()) else {
            return;
        };
        // One that still starts is ended as soon as it has.
        let cell = match started.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(cell))) => Some(Arc::clone(cell)),
            _ => None,
        };
        if let Some(cell) = cell {
            cell.jail.kill().await;
        }
        let known = self.with(|inner| {
            inner.fleet.gone(id);
            inner.cells.remove(&id).is_some()
        });
        if known {
            lease::ended(why);
            self.counters
                .retired
                .get_or_create(&Reason { reason: why.reason() })
                .inc();
        }
        self.kick();
    }

    /// Starts a jail under a name that the fleet gave, when the one whose place it takes is dead.
    fn launch(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: MemberId,
        link: Arc<Link>,
        victim: Option<(MemberId, Retired)>,
    ) -> watch::Receiver<Started> {
        let (sender, receiver) = watch::channel(None);
        inner.cells.insert(id, receiver.clone());
        self.counters.launched.inc();
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if let Some((victim, why)) = victim {
                shared.end(victim, why).await;
            }
            let launched = shared.proven(&link).await;
            let started = match launched {
                Ok(cell) => Ok(Arc::new(cell)),
                Err(error) => {
                    tracing::warn!(reason = error.reason(), "a browser did not start");
                    Err(Arc::new(error))
                }
            };
            shared.with(|inner| {
                if let Ok(cell) = &started {
                    inner.fleet.up(id, cell.pages());
                } else {
                    inner.fleet.gone(id);
                    inner.cells.remove(&id);
                }
            });
            // Without a receiver the cell goes with its last reference, and its jail with it.
            let _ = sender.send(Some(started));
            shared.kick();
        });
        receiver
    }

    /// A browser whose every process was found confined. One that is not never serves: it is killed, and told of.
    async fn proven(&self, link: &Arc<Link>) -> Result<Cell, PoolError> {
        let cell = Cell::launch(link, &self.config).await?;
        let facts = probe::look(link, cell.jail.id(), self.config.mode).await?;
        let Err(finding) = probe::accepts(&facts, self.config.mode) else {
            return Ok(cell);
        };
        cell.jail.kill().await;
        self.doubts.send_replace(Some(facts));
        Err(PoolError::Unproven(finding))
    }

    /// Ends jails whose browser or jailer is dead; those with captures end with them.
    fn prune(self: &Arc<Self>, inner: &mut Inner) {
        let dead: Vec<MemberId> = inner
            .cells
            .iter()
            .filter(|(_, started)| matches!(&*started.borrow(), Some(Ok(cell)) if !cell.is_usable()))
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            if let Some(why) = inner.fleet.incident(id, "browser_gone") {
                let shared = Arc::clone(self);
                tokio::spawn(async move { shared.end(id, why).await });
            }
        }
    }
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    link: watch::Receiver<Option<Arc<Link>>>,
}

impl Pool {
    /// A pool on whatever link the supervisor has proven.
    pub fn new(link: watch::Receiver<Option<Arc<Link>>>, config: Config, counters: Counters) -> Self {
        let inner = Inner {
            fleet: Fleet::new(config.rules),
            cells: HashMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                config,
                inner: Mutex::new(inner),
                kicked: Notify::new(),
                counters,
                doubts: watch::Sender::new(None),
            }),
            link,
        }
    }

    /// Follows the machine: as many captures at once as it has cores.
    pub fn sized(&self, cores: usize) {
        self.shared.with(|inner| {
            let isolation = inner.fleet.rules().isolation;
            inner.fleet.set_rules(Rules::new(isolation, cores));
        });
    }

    /// Tells of each browser from now on that was launched and is not confined as promised.
    pub fn doubts(&self) -> watch::Receiver<Option<JailFacts>> {
        self.shared.doubts.subscribe()
    }

    /// Jails that are warm, bound and draining.
    pub fn census(&self) -> [usize; 3] {
        self.shared.with(|inner| inner.fleet.census())
    }

    /// A jail and an empty page in it. The caller bounds the wait and may give up at any moment; `slot` is free when all
    /// that was begun for it has come to an end. A jail that does not open a page is blamed, and another one is asked, once.
    pub async fn lease(&self, want: &Want, slot: &Arc<Slot>) -> Result<Lease, Arc<PoolError>> {
        match self.attempt(want, slot).await {
            Err(error) if matches!(*error, PoolError::Timeout | PoolError::Browser(_) | PoolError::Ended(_)) => {
                self.attempt(want, slot).await
            }
            other => other,
        }
    }

    async fn attempt(&self, want: &Want, slot: &Arc<Slot>) -> Result<Lease, Arc<PoolError>> {
        let link = self.link.borrow().clone().ok_or(PoolError::NoJailer)?;
        let mut claimed = self.claim(want, &link, slot)?;
        let cell = claimed.started().await?;
        claimed.page(cell).await.map_err(Arc::new)
    }

    fn claim(&self, want: &Want, link: &Arc<Link>, slot: &Arc<Slot>) -> Result<Claimed, PoolError> {
        let shared = &self.shared;
        shared.with(|inner| {
            shared.prune(inner);
            let (id, started) = match inner.fleet.claim(want, clock::monotonic()) {
                Claim::Use(id) => (id, inner.cells.get(&id).cloned().ok_or(PoolError::NoJailer)?),
                Claim::Launch(id) => (id, shared.launch(inner, id, Arc::clone(link), None)),
                Claim::Replace { victim, why, launch } => {
                    let started = shared.launch(inner, launch, Arc::clone(link), Some((victim, why)));
                    (launch, started)
                }
                Claim::Full => return Err(PoolError::Full),
            };
            Ok(Claimed::new(Arc::clone(shared), id, started, Arc::clone(slot)))
        })
    }

    /// Takes a jail in that was launched and proven elsewhere: the first capture finds it warm.
    pub fn adopt(&self, cell: Cell) {
        let pages = cell.pages();
        let (_, started) = watch::channel(Some(Ok(Arc::new(cell))));
        self.shared.with(|inner| {
            if let Some(id) = inner.fleet.adopt(pages, clock::monotonic()) {
                inner.cells.insert(id, started);
            }
        });
    }

    /// Looks after the jails: keeps some warm, ends the old. Runs until it is dropped.
    pub async fn keep(&self) {
        let mut linked = self.link.clone();
        let mut measured = clock::monotonic();
        loop {
            tokio::select! {
                () = self.shared.kicked.notified() => {}
                Ok(()) = linked.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            let link = linked.borrow().clone();
            self.shared.with(|inner| self.shared.prune(inner));
            for (id, why) in self.shared.with(|inner| inner.fleet.sweep(clock::monotonic())) {
                self.shared.end(id, why).await;
            }
            let Some(link) = link else { continue };
            if clock::monotonic().duration_since(measured) >= MEASURE {
                measured = clock::monotonic();
                self.measure(&link).await;
            }
            self.refill(&link).await;
        }
    }

    async fn measure(&self, link: &Arc<Link>) {
        for id in self.shared.with(|inner| inner.fleet.resting()) {
            let Some(cell) = self.cell(id) else { continue };
            if let Ok(stats) = link.stats(cell.jail.id()).await {
                // What the jailer's budget is of: a jail that keeps too much of it would take the next capture with it.
                let held = stats.anonymous_bytes.saturating_add(stats.shared_bytes);
                self.shared.with(|inner| inner.fleet.measured(id, held));
            }
        }
    }

    /// Prepares one thing after the other for as long as a core is idle.
    async fn refill(&self, link: &Arc<Link>) {
        while let Some((refill, started)) = self.next_refill(link) {
            match refill {
                Refill::Jail(_) => {
                    let Some(mut started) = started else { return };
                    if !matches!(started.wait_for(Option::is_some).await.as_deref(), Ok(Some(Ok(_)))) {
                        tokio::time::sleep(FAILED_PAUSE).await;
                        return;
                    }
                }
                Refill::Page(id) => {
                    let Some(cell) = self.cell(id) else { return };
                    let failed = match cell.prepare().await {
                        Ok(_) => None,
                        Err(_) => Some("open"),
                    };
                    self.shared.note_pages(id, &cell);
                    if let Some(word) = failed {
                        if let Some(why) = self.shared.with(|inner| inner.fleet.incident(id, word)) {
                            self.shared.end(id, why).await;
                        }
                        return;
                    }
                }
            }
        }
    }

    fn next_refill(&self, link: &Arc<Link>) -> Option<(Refill, Option<watch::Receiver<Started>>)> {
        let shared = &self.shared;
        shared.with(|inner| {
            let refill = inner.fleet.refill(clock::monotonic())?;
            let started = match refill {
                Refill::Jail(id) => Some(shared.launch(inner, id, Arc::clone(link), None)),
                Refill::Page(_) => None,
            };
            Some((refill, started))
        })
    }

    fn cell(&self, id: MemberId) -> Option<Arc<Cell>> {
        let started = self.shared.with(|inner| inner.cells.get(&id).cloned())?;
        match &*started.borrow() {
            Some(Ok(cell)) => Some(Arc::clone(cell)),
            _ => None,
        }
    }
}
