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
mod tests {
    use screenshot_policy::keyset::{Keyset, Scope, VERSION};
    use screenshot_policy::policy::{Ceiling, Isolation, PolicyDocument};
    use screenshot_policy::unit::Count;

    use super::*;
    use crate::browser::Viewport;
    use crate::capture::Lane;
    use crate::capture::engine::Picture;
    use crate::limits::queue::{Offer, Queue};

    #[test]
    fn an_element_is_let_in_with_what_the_largest_that_is_shown_takes() {
        let limits = CaptureLimits::DEFAULT;
        let asked = |body: &str| {
            let body = format!(r#"{{"html_content":"x",{body}}}"#);
            let request = CaptureRequest::parse(body.as_bytes(), &limits).unwrap();
            let ask = ask("a", &request, &limits);
            let bytes = (ask.bytes - BYTES_PER_CAPTURE) / BYTES_PER_PIXEL;
            (ask.lane, ask.places, ask.weight, bytes, request)
        };
        let shown = |request: &CaptureRequest, width, height| request.reckoned(Viewport { width, height }, &limits);
        let (lane, places, weight, pixels, request) = asked(r#""selector":"p""#);
        assert_eq!((lane, places, weight, pixels), (Lane::Fast, 1, 4, 4_000_000));
        assert!(shown(&request, 2000, 2000) && !shown(&request, 2000, 2001));
        // With a larger window it is large work from the start.
        let large = r#""selector":"p","window_width":3840,"window_height":2160,"pixel_density":1.5"#;
        let (lane, places, weight, pixels, request) = asked(large);
        assert_eq!((lane, places, weight, pixels), (Lane::Bulk, 2, 19, 18_662_400));
        assert!(shown(&request, 3840, 2160) && !shown(&request, 3840, 2161));
    }

    fn caller() -> Caller {
        let (token, key) = crate::access::tests::key(1, None);
        let keyset = Keyset {
            version: VERSION,
            revision: 1,
            keys: vec![key],
        };
        let mut headers = http::HeaderMap::new();
        let value = format!("Bearer {}", token.text());
        headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
        crate::access::authenticate(&headers, Some(&keyset), clock::wall()).unwrap()
    }

    /// A service of one core to whose jailer nobody ever gets through.
    fn without_a_jailer() -> Service {
        let mut document = PolicyDocument::secure_default("a", "b").unwrap();
        document.capture.concurrency = Count::nearest(1);
        let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
        let resolver = SystemResolver::asking(&[([127, 0, 0, 1], 53).into()], Duration::from_secs(1)).unwrap();
        let network = Network {
            resolver: Arc::new(resolver),
            dial: Arc::new(SystemDial),
        };
        let config = Config::new(Arc::new(policy), "/nowhere/jailer.sock".into(), network);
        Service::start(config, &Arc::new(Status::default()))
    }

    #[tokio::test]
    async fn captures_that_never_had_a_browser_do_not_make_the_wait_look_shorter() {
        let (service, caller) = (without_a_jailer(), caller());
        let limits = service.policy.limits();
        let request = || CaptureRequest::parse(br#"{"html_content":"x"}"#, limits).unwrap();
        let permit = || caller.permit_capture(Scope::CaptureHtml).unwrap();
        let within = |time: Duration| clock::monotonic() + time;
        for _ in 0..50 {
            let (deadline, ledger) = (within(Duration::from_secs(20)), Ledger::open(clock::monotonic()));
            let taken = service.capture(&caller, permit(), request(), deadline, "it", ledger);
            let finished = taken.await.unwrap();
            assert_eq!(finished.result.map(drop), Err(CaptureError::NoBrowser));
        }
        let enter = async |time: Duration| {
            let ask = ask(caller.client(), &request(), limits);
            service.admission.enter(permit(), ask, within(time)).await
        };
        let _both_places = [
            enter(Duration::from_secs(5)).await.unwrap(),
            enter(Duration::from_secs(5)).await.unwrap(),
        ];
        // One more would have to wait for a quarter of a second, and take half of one.
        let refused = enter(Duration::from_millis(700)).await.unwrap_err();
        assert_eq!(refused.reason(), "would_miss_deadline");
    }

    /// A capture that has come to a picture of 25 KiB.
    fn finished() -> Finished {
        let mut ledger = Ledger::open(clock::monotonic());
        ledger.enter(Phase::Encode, clock::monotonic());
        ledger.close(clock::monotonic());
        let picture = Picture {
            bytes: vec![0_u8; 25 << 10].into(),
            media_type: "image/png",
        };
        Finished {
            result: Ok(picture),
            egress: None,
            ledger,
        }
    }

    #[tokio::test]
    async fn a_picture_waits_until_earlier_ones_are_read_and_no_longer_than_its_deadline() {
        let mut service = without_a_jailer();
        service.answers = Answers::of(100 << 10);
        let made = async |client: &str, time: Duration| {
            let mut finished = finished();
            let deadline = clock::monotonic() + time;
            service.make_room(client, deadline, &mut finished).await;
            finished
        };
        let (moment, long) = (Duration::from_millis(50), Duration::from_secs(5));
        let (read, _unread) = (made("a", long).await, made("a", long).await);
        let late = made("a", moment).await;
        let queued = late.ledger.spent().find(|(phase, _)| *phase == Phase::Queue);
        assert!(queued.is_some_and(|(_, time)| time >= moment / 2), "{queued:?}");
        assert_eq!(late.result.map(drop), Err(CaptureError::Timeout(Phase::Queue)));
        // Another client's are not in its way.
        assert!(made("b", moment).await.result.is_ok());
        let reads = async {
            tokio::time::sleep(moment).await;
            drop(read);
        };
        let (next, ()) = tokio::join!(made("a", long), reads);
        assert_eq!(next.result.map(|picture| picture.bytes.len()), Ok(25 << 10));
    }

    #[test]
    fn the_gate_lets_no_more_in_than_can_have_a_jail_each() {
        let limits = CaptureLimits::CEILING;
        let resources = Resources {
            cores: 64,
            ..Resources::default()
        };
        let size = machine(&limits, &resources);
        for isolation in [Isolation::PerClient, Isolation::PerCapture] {
            let rules = Rules::new(isolation, cores(&limits, &resources));
            assert!(
                size.fast <= size.total && size.total <= rules.max_jails,
                "{size:?} {rules:?}"
            );
        }
    }

    /// What the gate has, once it is not what it began with.
    #[expect(clippy::disallowed_methods, reason = "a made-up jailer")]
    async fn followed(resources: Resources) -> Size {
        use capture_jail::client::Jailer;
        use capture_jail::protocol::{self, JailFacts, Outcome, Request, Response, VERSION};

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while let Ok(request) = protocol::read_frame::<Request>(&mut stream) {
                let mut facts = JailFacts::default();
                facts.jailer.resources = resources;
                let response = Response {
                    version: VERSION,
                    number: request.number,
                    outcome: Outcome::Facts(facts),
                };
                std::io::Write::write_all(&mut stream, &protocol::encode(&response).unwrap()).unwrap();
            }
        });
        let link = Arc::new(Link::start(Jailer::connect(&path).unwrap(), crate::state::Heard::default()).unwrap());
        let limits = CaptureLimits::DEFAULT;
        let before = machine(&limits, &Resources::default());
        let admission = Admission::new(before);
        let (_link, linked) = watch::channel(Some(link));
        let jails = pool::Config {
            mode: Mode::Required,
            accepted_key: None,
            rules: Rules::new(Isolation::PerClient, 1),
            max_frame: 1,
            strays: crate::browser::Strays::default(),
        };
        let pool = Pool::new(linked.clone(), jails, Counters::default());
        let mut size = before;
        let changed = async {
            for _ in 0..500 {
                admission.resize(|now| {
                    size = now;
                    now
                });
                if size != before {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = watch_machine(linked, admission.clone(), pool.clone(), limits) => {}
            () = changed => {}
        }
        size
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_gate_has_what_the_jailer_finds_on_the_machine() {
        let resources = Resources {
            cores: 3,
            memory_limit: Some(1 << 30),
            memory_used: 1 << 29,
        };
        let expected = machine(&CaptureLimits::DEFAULT, &resources);
        assert!(expected.memory.is_some_and(|left| left < 1 << 29));
        assert_eq!(followed(resources).await, expected);
    }

    /// 600 MiB are what six browsers hold that have nothing to do: as many as there are on so many cores.
    #[test]
    fn on_the_default_resources_the_places_are_filled_however_much_the_captures_in_them_hold_already() {
        let limits = CaptureLimits::DEFAULT;
        let with = |used: u64| {
            let resources = Resources {
                cores: 2,
                memory_limit: Some(1536 << 20),
                memory_used: used << 20,
            };
            machine(&limits, &resources)
        };
        let asked = |body: &str| {
            let request = CaptureRequest::parse(body.as_bytes(), &limits).unwrap();
            ask("a", &request, &limits)
        };
        let window = asked(r#"{"html_content":"x"}"#);
        let largest = asked(r#"{"html_content":"x","full_page":true,"window_width":4096}"#);
        assert_eq!((window.bytes >> 20, largest.bytes >> 20), (50, 424));
        let mut queue = Queue::new(with(600));
        let mut held = 600;
        for (ask, holds) in [(&largest, 400), (&window, 45), (&window, 45), (&window, 45)] {
            let left = Duration::from_secs(30);
            assert_eq!(queue.offer(ask.clone(), left), Ok(Offer::Enter), "{held}");
            queue.resize(with(held));
            held += holds;
            queue.resize(with(held));
        }
        assert_eq!(
            queue.in_flight(Lane::Fast) + queue.in_flight(Lane::Bulk),
            queue.size().total
        );
    }

    #[test]
    fn the_gate_follows_the_least_of_cores_and_policy_and_memory_is_what_is_left() {
        let limits = CaptureLimits {
            concurrency: Count::nearest(4),
            ..CaptureLimits::DEFAULT
        };
        let resources = Resources {
            cores: 2,
            memory_limit: Some(1000),
            memory_used: 300,
        };
        let expected = Size {
            fast: 4,
            bulk: 1,
            total: 8,
            queue: 0,
            memory: Some(600),
        };
        assert_eq!(machine(&limits, &resources), expected);
        let wide = Resources {
            cores: 64,
            memory_limit: None,
            memory_used: 300,
        };
        let expected = Size {
            fast: 8,
            bulk: 2,
            total: 8,
            queue: 0,
            memory: None,
        };
        assert_eq!(machine(&limits, &wide), expected);
        let full = Resources {
            memory_used: 5000,
            ..resources
        };
        assert_eq!(machine(&limits, &full).memory, Some(0));
    }
}
