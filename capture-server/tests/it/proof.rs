//! What is proven of a browser, and when: at the start, again and again, and of every browser that is launched in between. A
//! middleman between server and jailer passes everything on and, on demand, tells of jails that Landlock does not confine.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capture_jail::client::{ClientError, Jailer as Client};
use capture_jail::protocol::{self, Call, JailId, Outcome, Request, Response, VERSION};
use capture_jail::report;
use capture_server::service::{self, Network, Service};
use capture_server::state::Status;

use crate::harness::{Jailer, Running, Site, get, limits, policy, program, until};

const LIE: &str = "LandlockUnavailable";

#[derive(Default)]
struct Seen {
    lies: bool,
    lied_about: BTreeSet<JailId>,
    killed: BTreeSet<JailId>,
    /// What the honest answer took the jailer.
    took: Vec<Duration>,
}

#[derive(Clone, Default)]
struct Middleman(Arc<Mutex<Seen>>);

impl Middleman {
    fn start(site: &Site) -> (Self, PathBuf) {
        let (own, real) = (site.path("run/middleman.sock"), site.path("run/jailer.sock"));
        let listener = UnixListener::bind(&own).unwrap();
        let middleman = Self::default();
        let inside = middleman.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // It ends with either side.
                let _ = inside.serve(&stream, &real);
            }
        });
        (middleman, own)
    }

    fn serve(&self, mut stream: &UnixStream, real: &Path) -> Result<(), ClientError> {
        let mut jailer = loop {
            match Client::connect(real) {
                Err(ClientError::Absent | ClientError::Refused) => std::thread::sleep(Duration::from_millis(20)),
                other => break other?,
            }
        };
        while let Ok(request) = protocol::read_frame::<Request>(&mut stream) {
            let (outcome, fds) = match self.ask(&mut jailer, &request.call) {
                Err(ClientError::Jail(error)) => (Outcome::Failed(error), Vec::new()),
                other => other?,
            };
            let response = Response {
                version: VERSION,
                number: request.number,
                outcome,
            };
            let frame = protocol::encode(&response).unwrap();
            let borrowed: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
            let sent = report::send_with_fds(stream, &frame, &borrowed).map_err(|_| ClientError::Closed)?;
            std::io::Write::write_all(&mut stream, &frame[sent..]).map_err(|_| ClientError::Closed)?;
        }
        Ok(())
    }

    fn ask(&self, jailer: &mut Client, call: &Call) -> Result<(Outcome, Vec<OwnedFd>), ClientError> {
        let outcome = match call {
            Call::Spawn(spec) => {
                let spawned = jailer.spawn(spec, Duration::from_secs(10))?;
                let (listeners, ports): (Vec<OwnedFd>, Vec<u16>) = spawned.listeners.into_iter().unzip();
                let outcome = Outcome::Spawned {
                    jail: spawned.id,
                    ports,
                    degraded: spawned.degraded,
                };
                let pipes = [spawned.cdp_read, spawned.cdp_write];
                return Ok((outcome, pipes.into_iter().chain(listeners).collect()));
            }
            Call::Kill { jail } => {
                let exit = jailer.kill(*jail)?;
                self.0.lock().unwrap().killed.insert(*jail);
                Outcome::Killed(exit)
            }
            Call::Stats { jail } => Outcome::Stats(jailer.stats(*jail)?),
            Call::Facts { jail } => {
                let began = Instant::now();
                let mut facts = jailer.facts(*jail)?;
                let mut seen = self.0.lock().unwrap();
                if let Some(jail) = jail {
                    seen.took.push(began.elapsed());
                    if seen.lies {
                        facts.landlock.files = false;
                        seen.lied_about.insert(*jail);
                    }
                }
                Outcome::Facts(facts)
            }
        };
        Ok((outcome, Vec::new()))
    }

    fn lies(&self, lies: bool) {
        self.0.lock().unwrap().lies = lies;
    }

    /// Whether it lied, and every jail that it lied about is dead.
    fn victims_are_dead(&self) -> bool {
        let seen = self.0.lock().unwrap();
        !seen.lied_about.is_empty() && seen.lied_about.is_subset(&seen.killed)
    }
}

/// What the metric says.
async fn verified(server: &Running) -> String {
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("screenshot_server_sandbox_verified "));
    value.expect("the metric").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_is_launched_later_and_is_not_confined_never_serves_and_ends_readiness() {
    let site = Site::new(limits(20_000));
    let (middleman, socket) = Middleman::start(&site);
    let args = capture_server::config::ServeArgs {
        jail_socket: socket,
        ..site.args()
    };
    let _jailer = Jailer::start(&site);
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    assert_eq!(verified(&server).await, "1");
    middleman.lies(true);
    // The proof is repeated in ten minutes. The browser that was proven at the start serves; the next one is launched in
    // its place.
    assert_eq!(server.html("<p>first").await.status, 200);
    until("the reason", async || server.reasons().await == [LIE]).await;
    assert_eq!(verified(&server).await, "0");
    assert_eq!(server.html("<p>second").await.problem(), (503, "not_ready".into()));
    middleman.lies(false);
    server.until_ready(true).await;
    assert_eq!(verified(&server).await, "1");
    assert_eq!(server.html("<p>third").await.status, 200);
    until("the end of what was not confined", async || {
        middleman.victims_are_dead()
    })
    .await;
    let took = middleman.0.lock().unwrap().took.clone();
    println!("the facts of a browser took {took:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_is_repeated_and_one_that_fails_takes_the_browsers_away_until_it_passes() {
    let site = Site::new(limits(20_000));
    let (middleman, socket) = Middleman::start(&site);
    let _jailer = Jailer::start(&site);
    let status = Arc::new(Status::default());
    let config = service::Config {
        reprove: Duration::from_millis(300),
        ..service::Config::new(Arc::new(policy(limits(20_000))), socket, Network::system().unwrap())
    };
    let service = Service::start(config, &status);
    let reason = || status.sandbox().reason;
    let against = || status.not_ready().iter().any(|one| one.reason == LIE);
    until("the first proof", async || status.sandbox().verified).await;
    // Nothing is launched meanwhile but by the proof itself: there is no work, and one browser is warm.
    until("a warm browser", async || service.pool.census()[0] >= 1).await;
    middleman.lies(true);
    until("the failed proof", async || {
        reason().as_deref() == Some(LIE) && against()
    })
    .await;
    assert!(!status.sandbox().verified && !status.sandbox().checks["landlock"]);
    middleman.lies(false);
    until("the next proof", async || status.sandbox().verified && !against()).await;
}

/// podPidsLimit met by the threads of a browser, as RLIMIT_NPROC of a uid that has nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_pid_limit_is_too_small_for_a_browser_says_so() {
    let site = Site::new(limits(20_000));
    let root = rustix::process::geteuid().is_root();
    let uid = (200_000 + std::process::id() % 50_000).to_string();
    let most = if root { 16 } else { 16 + own_threads() };
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nproc={most}:{most}"))
        .arg(program("capture-jail"));
    command.arg("serve").arg(site.path("run/jailer.sock"));
    if root {
        command.args(["--allow-peer-uid", "0", "--uid", &uid, "--gid", &uid]);
    }
    let mut jailer = command.stdin(Stdio::null()).spawn().unwrap();
    let args = site.args();
    let server = Running::with(site, args).await;
    until("the reason", async || server.reasons().await == ["PidLimit"]).await;
    server.stop().await;
    jailer.kill().unwrap();
    jailer.wait().unwrap();
}

/// As a browser does whose profile lacks a call, or whose image a library.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_gives_up_as_it_starts_is_told_as_such() {
    let site = Site::new(limits(20_000));
    let _jailer = Jailer::start_with(&site, &["--browser".into(), "/usr/bin/false".into()]);
    let args = site.args();
    let server = Running::with(site, args).await;
    until("the reason", async || server.reasons().await == ["BrowserDiedEarly"]).await;
    server.stop().await;
}

fn own_threads() -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let uid = rustix::process::geteuid().as_raw();
    let own = std::fs::read_dir("/proc").unwrap().flatten();
    let own = own.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == uid));
    own.filter_map(|entry| Some(std::fs::read_dir(entry.path().join("task")).ok()?.count()))
        .sum()
}
