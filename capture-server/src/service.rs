//! The service behind the API: gate, engine and browsers under one policy. Also the crate's face as a library.
//!
//! In: a policy and where the jailer is. Out: captures. `Service::start` builds every room and the background work that
//! keeps browsers at hand; dropping the service ends all of it, jails included. Must not: know HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capture_egress::{Dial, Egress, Resolver, SystemDial, SystemResolver};
use capture_jail::protocol::Mode;
use capture_jail::resources::Resources;
use screenshot_policy::policy::{CaptureLimits, EffectivePolicy, SandboxMode};
use screenshot_policy::tls::SpkiPin;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::access::{Caller, Capture, Permit};
use crate::capture::engine::{Engine, Finished, Job};
use crate::capture::link::Link;
use crate::capture::pool::fleet::{MOST_JAILS, PER_CORE, Rules, bulk};
use crate::capture::pool::{self, Counters, Pool};
use crate::capture::request::CaptureRequest;
use crate::capture::{CaptureError, Ledger, Phase};
use crate::child::Child;
use crate::clock;
use crate::cluster_ranges::InForce;
use crate::limits::admission::{Admission, Refused};
use crate::limits::answers::Answers;
use crate::limits::queue::{Ask, Size};
use crate::state::Status;
use crate::supervisor::{REPROVE, Supervisor};
use crate::upstream;

/// A browser's messages besides the picture itself.
const FRAME_MARGIN: u64 = 1024 * 1024;

/// How often the machine is looked at.
const MACHINE_CHECK: Duration = Duration::from_secs(1);
/// How long a picture waits for room among those that are not read yet; its place waits with it.
const UNREAD: Duration = Duration::from_secs(2);
/// Share of the container's memory, in per cent, that captures may come to fill; the jailer ends pages beyond it.
const MEMORY_PERCENT: u64 = 90;
/// Memory of a capture without its picture.
const BYTES_PER_CAPTURE: u64 = 40 << 20;
/// Memory of a picture while it is made, all copies together.
const BYTES_PER_PIXEL: u64 = 12;
/// Pixels of a capture that takes one place of its lane: what a core encodes in about a second.
const PIXELS_PER_PLACE: u64 = 16_000_000;
/// Pixels of a capture that uses up one part of its client's share.
const PIXELS_PER_WEIGHT: u64 = 1_000_000;

/// The names and connections of the proxy.
#[derive(Clone)]
pub struct Network {
    /// Looks names up.
    pub resolver: Arc<dyn Resolver>,
    /// Connects to what was judged.
    pub dial: Arc<dyn Dial>,
}

impl Network {
    /// The system's.
    ///
    /// # Errors
    /// If the system's name servers cannot be read.
    pub fn system() -> io::Result<Self> {
        let resolver = SystemResolver::from_system().map_err(|_| io::Error::other("no name servers"))?;
        Ok(Self {
            resolver: Arc::new(resolver),
            dial: Arc::new(SystemDial),
        })
    }
}

/// What a service is built from.
pub struct Config {
    /// The policy; it is never replaced.
    pub policy: Arc<EffectivePolicy>,
    /// File with the cluster's own public ranges, followed while the service runs; without it those of the policy stay.
    pub cluster_ranges: Option<PathBuf>,
    /// Directory with what the upstream proxy is asked with, followed while the service runs.
    pub upstream: Option<PathBuf>,
    /// The jailer's socket.
    pub jail_socket: PathBuf,
    /// The jailer, where this process has to start it itself.
    pub jailer: Option<Child>,
    /// How often the sandbox is proven again.
    pub reprove: Duration,
    /// What counts the browsers.
    pub counters: Counters,
    /// Names and connections; every decision about them is the policy's.
    pub network: Network,
}

impl Config {
    /// A service that waits for somebody else's jailer at `jail_socket`.
    pub fn new(policy: Arc<EffectivePolicy>, jail_socket: PathBuf, network: Network) -> Self {
        Self {
            network,
            counters: Counters::default(),
            policy,
            cluster_ranges: None,
            upstream: None,
            jail_socket,
            jailer: None,
            reprove: REPROVE,
        }
    }
}

/// What exists only with a policy.
pub struct Service {
    /// The policy in force; never replaced.
    pub policy: Arc<EffectivePolicy>,
    /// The same with the cluster's own ranges, as the proxy has it.
    pub in_force: Arc<InForce>,
    /// The gate.
    pub admission: Admission,
    /// What answers that are not read yet may take.
    pub answers: Answers,
    /// The browsers.
    pub pool: Pool,
    engine: Engine,
    egress: Egress,
    /// Background work; ends with the service.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Service {
    /// Builds the rooms and starts the background work; `status` tells when captures are possible.
    pub fn start(config: Config, status: &Arc<Status>) -> Self {
        let Config {
            policy,
            cluster_ranges,
            upstream,
            jail_socket,
            jailer,
            reprove,
            counters,
            network: Network { resolver, dial },
        } = config;
        let limits = *policy.limits();
        let mode = policy.sandbox_mode();
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let in_force = Arc::new(InForce::new(Arc::clone(&policy)));
        let decisions = counters.decisions.clone();
        let egress = Egress::following(resolver, dial, in_force.watch(), Arc::new(clock::wall)).heard_by(Arc::new(
            move |reason| {
                decisions.get_or_create(&pool::Reason { reason }).inc();
            },
        ));
        let jails = pool::Config {
            mode: match mode {
                SandboxMode::Required => Mode::Required,
                SandboxMode::Degraded => Mode::Degraded,
            },
            accepted_key: egress.browser_side_key().map(SpkiPin::bytes),
            rules: Rules::new(policy.isolation(), count(limits.concurrency.get())),
            // A picture travels as base64: four characters for three bytes.
            max_frame: count(limits.max_output_bytes.get() / 3 * 4 + FRAME_MARGIN),
            strays: counters.strays.clone(),
        };
        let (link, linked) = watch::channel(None);
        let linked_again = linked.clone();
        let pool = Pool::new(linked, jails.clone(), counters);
        let supervisor = Supervisor {
            socket: jail_socket,
            child: jailer,
            config: jails,
            pool: pool.clone(),
            reprove,
            mode,
            status: Arc::clone(status),
            link,
        };
        let supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
        let kept = pool.clone();
        let keeper = AbortOnDropHandle::new(tokio::spawn(async move { kept.keep().await }));
        let (access, upstream) = upstream::start(&policy, upstream, status);
        let egress = egress.with_access(access);
        let admission = Admission::new(Size {
            queue: count(limits.queue.get()),
            ..machine(
                &limits,
                &Resources {
                    cores: u32::MAX,
                    ..Resources::default()
                },
            )
        });
        let watcher = watch_machine(linked_again, admission.clone(), pool.clone(), limits);
        let mut tasks = vec![supervisor, keeper, AbortOnDropHandle::new(tokio::spawn(watcher))];
        tasks.extend(upstream);
        if let Some(path) = cluster_ranges {
            let followed = Arc::clone(&in_force);
            let follow = async move { followed.follow(&path).await };
            tasks.push(AbortOnDropHandle::new(tokio::spawn(follow)));
        }
        let engine = Engine::new(pool.clone(), egress.clone(), Arc::clone(&policy));
        Self {
            policy,
            in_force,
            admission,
            answers: Answers::new(limits.max_output_bytes.get()),
            pool,
            engine,
            egress,
            _tasks: tasks,
        }
    }

    /// Whether a page that asks for this address is refused.
    pub async fn refuses(&self, address: SocketAddr) -> bool {
        self.egress.judge(address).await.is_err()
    }

    /// One capture, from the queue to the picture. `id` names it in logs; it must be a DNS label of its own.
    ///
    /// # Errors
    /// [`Refused`] if it was not let in; everything later is in [`Finished`].
    pub async fn capture(
        &self,
        caller: &Caller,
        permit: Permit<Capture>,
        request: CaptureRequest,
        deadline: Instant,
        id: &str,
        mut ledger: Ledger,
    ) -> Result<Finished, Refused> {
        let ask = ask(caller.client(), &request, self.policy.limits());
        let slot = Arc::new(self.admission.enter(permit, ask, deadline).await?);
        ledger.enter(Phase::Open, clock::monotonic());
        let job = Job {
            client: caller.client(),
            request,
            slot: Arc::clone(&slot),
            deadline,
            id,
            ledger,
        };
        let mut finished = self.engine.capture(job).await;
        // What ended before it had a browser, perhaps at once, says nothing of how long captures take.
        if finished.egress.is_some() {
            slot.completed();
        }
        // In its place, so that there are never more answers that wait for room than there are places.
        let soon = deadline.min(clock::monotonic() + UNREAD);
        self.make_room(caller.client(), soon, &mut finished).await;
        Ok(finished)
    }

    /// Gives a picture its room in memory, which it has until it is read, or gives it up then.
    async fn make_room(&self, client: &str, until: Instant, finished: &mut Finished) {
        let Finished { result, ledger, .. } = finished;
        let Ok(picture) = result else { return };
        let bytes = picture.bytes.len();
        let mut room = self.answers.at_once(client, bytes);
        if room.is_none() {
            ledger.enter(Phase::Queue, clock::monotonic());
            room = self.answers.in_time(client, bytes, until).await;
            ledger.close(clock::monotonic());
        }
        if let Some(room) = room {
            picture.bytes = room.hold(std::mem::take(&mut picture.bytes));
        } else {
            tracing::warn!("a picture was given up: too many of its client's or of all are not read");
            *result = Err(CaptureError::Timeout(Phase::Queue));
        }
    }
}

/// What a capture asks of the machine: measured once, on pages of every kind, and rounded up.
fn ask(client: &str, request: &CaptureRequest, limits: &CaptureLimits) -> Ask {
    let pixels = request.most_pixels(limits);
    Ask {
        client: client.to_owned(),
        lane: request.lane(),
        places: usize::try_from(pixels.div_ceil(PIXELS_PER_PLACE)).unwrap_or(usize::MAX),
        weight: u32::try_from(pixels.div_ceil(PIXELS_PER_WEIGHT)).unwrap_or(u32::MAX),
        bytes: BYTES_PER_CAPTURE + pixels.saturating_mul(BYTES_PER_PIXEL),
    }
}

/// Captures of a window that may compute at one time: a core each, at most as the policy says.
fn cores(limits: &CaptureLimits, resources: &Resources) -> usize {
    let most = usize::try_from(limits.concurrency.get()).unwrap_or(usize::MAX);
    most.min(usize::try_from(resources.cores).unwrap_or(usize::MAX)).max(1)
}

/// The gate for this machine: [`PER_CORE`] captures for each core, and large work beside it; no more than can have a
/// jail each.
fn machine(limits: &CaptureLimits, resources: &Resources) -> Size {
    let cores = cores(limits, resources);
    let most = usize::try_from(limits.concurrency.get()).unwrap_or(usize::MAX);
    let total = most.saturating_mul(PER_CORE).min(MOST_JAILS);
    let memory = resources.memory_limit.map(|limit| {
        let usable = limit / 100 * MEMORY_PERCENT;
        usable.saturating_sub(resources.memory_used)
    });
    Size {
        fast: cores.saturating_mul(PER_CORE).min(total),
        bulk: bulk(cores),
        total,
        queue: 0,
        memory,
    }
}

/// Keeps the gate and the pool in step with what the jailer's container may use. Runs until it is dropped.
async fn watch_machine(
    linked: watch::Receiver<Option<Arc<Link>>>,
    admission: Admission,
    pool: Pool,
    limits: CaptureLimits,
) {
    loop {
        let link = linked.borrow().clone();
        if let Some(link) = link
            && let Ok(facts) = link.facts(None).await
        {
            let found = machine(&limits, &facts.jailer.resources);
            admission.resize(|size| Size {
                queue: size.queue,
                ..found
            });
            pool.sized(cores(&limits, &facts.jailer.resources));
        }
        tokio::time::sleep(MACHINE_CHECK).await;
    }
}

#[cfg(test)]
mod tests;
