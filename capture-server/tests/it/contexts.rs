//! Two contexts in one real browser, a proxy session each: what the page of one gets of the other's, and that a download is
//! denied. The driver is the product's own; beside it stands a driver that leaves out what the product says to the browser.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capture_egress::{Budget, Egress, EgressReport, Scope, Session};
use capture_jail::client::{ClientError, Jailer as Link, Spawned};
use capture_jail::protocol::{Mode, SpawnSpec};
use capture_server::browser::{Browser, Density, Event, Events, ImageFormat, Page, Shot, Strays, Viewport, Window};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::harness::{Jailer, Site, limits, policy, until};
use crate::web;

const WINDOW: Window = Window {
    viewport: Viewport {
        width: 200,
        height: 100,
    },
    density: Density::ONE,
};
/// What a download brings; nothing else has it.
const SAVED: &[u8] = b"the bytes of a download that nobody asked for";

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let page = |text: &str| Some(("200 OK\r\ncontent-type: text/html".to_owned(), text.into()));
    match path {
        "/spy" => page(
            "<body><script>const at=location.search.slice(1);for(const path of ['fetch','own'])
fetch(`http://${at}/${path}`,{mode:path==='fetch'?'no-cors':'cors'}).catch(()=>0);
new Image().src=`http://${at}/image`;const f=document.createElement('iframe');f.src=`http://${at}/frame`;
document.body.append(f);try{new WebSocket(`ws://${at}/socket`)}catch{}</script>",
        ),
        "/file" => Some((
            "200 OK\r\ncontent-type: application/octet-stream\r\ncontent-disposition: attachment".into(),
            SAVED.into(),
        )),
        _ => page("<p>a page"),
    }
}

/// A jail with two contexts, whose listeners are served.
struct World {
    _site: Site,
    jailer: Jailer,
    _link: Link,
    profiles: std::path::PathBuf,
    ports: [u16; 2],
    sessions: [Session; 2],
}

fn scope(name: &str) -> Scope {
    Scope {
        capture_id: name.into(),
        deadline: Instant::now() + Duration::from_secs(60),
        budget: Budget {
            requests: 1000,
            hosts: 100,
            sockets: 100,
            wire_bytes: 1 << 24,
        },
        synthetic: None,
    }
}

impl World {
    /// With the pipe of its browser: what it says, what it is told.
    async fn new() -> (Self, std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
        let site = Site::new(limits(20_000));
        let profiles = site.path("profiles");
        std::fs::create_dir(&profiles).unwrap();
        std::fs::set_permissions(&profiles, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let jailer = Jailer::start_with(&site, &["--profile-dir".into(), profiles.clone().into_os_string()]);
        let mut link = Err(ClientError::Absent);
        until("the jailer", async || {
            link = Link::connect(&site.path("run/jailer.sock"));
            link.is_ok()
        })
        .await;
        let mut link = link.unwrap();
        let spec = SpawnSpec::new(2, Mode::Required);
        let Spawned {
            cdp_read,
            cdp_write,
            listeners,
            ..
        } = link.spawn(&spec, Duration::from_secs(20)).unwrap();
        let network = web::network(answers).await;
        let policy = Arc::new(policy(limits(20_000)));
        let egress = Egress::new(network.resolver, network.dial, policy, Arc::new(jiff::Timestamp::now));
        let [first, second] = listeners.try_into().unwrap();
        let ports = [first.1, second.1];
        let sessions = [(first, "first"), (second, "second")].map(|((listener, _), name)| {
            let listener = std::net::TcpListener::from(listener);
            listener.set_nonblocking(true).unwrap();
            egress.open(TcpListener::from_std(listener).unwrap(), scope(name))
        });
        let world = Self {
            _site: site,
            jailer,
            _link: link,
            profiles,
            ports,
            sessions,
        };
        (world, cdp_read, cdp_write)
    }

    fn report(&self, context: usize) -> EgressReport {
        self.sessions[context].report()
    }

    /// What the product's driver opens in a context.
    async fn open(&self, browser: &Browser, context: usize) -> (Page, Events) {
        browser.open(self.ports[context], WINDOW).await.unwrap()
    }

    /// Whether a file with these bytes lies below the jail's own directory, the only one that it can write to.
    fn has_saved(&self) -> bool {
        fn below(directory: &Path) -> bool {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).any(|path| {
                let holds =
                    || std::fs::read(&path).is_ok_and(|bytes| bytes.windows(SAVED.len()).any(|part| part == SAVED));
                if path.is_dir() {
                    below(&path)
                } else {
                    path.is_file() && holds()
                }
            })
        }
        below(&self.profiles)
    }
}

/// A driver of no care: one question after the other over the pipe.
struct Raw {
    read: std::fs::File,
    write: std::fs::File,
}

impl Raw {
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let question = json!({"id": 1, "method": method, "params": params}).to_string();
        self.write.write_all(question.as_bytes()).unwrap();
        self.write.write_all(b"\0").unwrap();
        loop {
            let mut answer = Vec::new();
            let mut byte = [0];
            while self.read.read_exact(&mut byte).is_ok() && byte[0] != 0 {
                answer.push(byte[0]);
            }
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            if answer["id"] == 1 {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// A context with this proxy and nothing else said, and a page in it.
    fn open(&mut self, port: u16, more: impl FnOnce(&mut Self, &Value), url: &str) {
        let proxy = json!({"proxyServer": format!("http://127.0.0.1:{port}")});
        let context = self.ask("Target.createBrowserContext", &proxy)["browserContextId"].clone();
        more(self, &context);
        self.ask("Target.createTarget", &json!({"url": url, "browserContextId": context}));
    }
}

/// All of it by the product's driver: the page's requests go to its own proxy, which refuses them, and nothing arrives at
/// the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_one_context_does_not_reach_the_others_listener_and_is_refused_by_its_own() {
    let (world, read, write) = World::new().await;
    let browser = Browser::attach(read, write, 1 << 26, Strays::default()).unwrap();
    let (mut other, _its_events) = world.open(&browser, 1).await;
    other.navigate("http://b.net/").await.unwrap();
    let (mut spy, _events) = world.open(&browser, 0).await;
    let theirs = format!("127.0.0.1:{}", world.ports[1]);
    spy.navigate(&format!("http://a.net/spy?{theirs}")).await.unwrap();
    let refused = || {
        let decisions = world.report(0).decisions;
        let there = decisions
            .iter()
            .filter(|one| (one.host.as_str(), one.port) == ("127.0.0.1", world.ports[1]));
        assert!(there.clone().all(|one| !one.is_allowed()), "{decisions:?}");
        there.count()
    };
    until("four ways were tried", async || refused() >= 4).await;
    let whole = spy.navigate(&format!("http://{theirs}/")).await.unwrap();
    assert!(refused() >= 5, "{whole:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let arrived = world.report(1);
    let hosts: Vec<_> = arrived.decisions.iter().map(|one| one.host.as_str()).collect();
    assert!(hosts.iter().all(|host| *host == "b.net"), "{arrived:?}");
    assert_eq!(arrived.requests, u64::try_from(hosts.len()).unwrap());
}

/// And if the browser did not keep to its proxy: the listener is a proxy's, and takes no request for a server.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_the_own_proxy_arrives_at_the_others_and_is_refused_there_for_its_form() {
    let (world, read, write) = World::new().await;
    let mut raw = Raw {
        read: read.into(),
        write: write.into(),
    };
    let theirs = format!("http://127.0.0.1:{}/", world.ports[1]);
    raw.open(world.ports[0], |_, _| {}, &theirs);
    until("something arrives", async || !world.report(1).decisions.is_empty()).await;
    let arrived = world.report(1).decisions;
    assert!(
        arrived.iter().all(|one| one.outcome == "head_origin_form"),
        "{arrived:?}"
    );
    assert_eq!(world.report(0).requests, 0, "this browser goes past its proxy");
}

/// What a browser is told when a page is opened in it, by a browser that agrees to everything.
fn told() -> (Browser, Arc<Mutex<Vec<Value>>>) {
    let ([said, heard], orders) = obedient();
    (
        Browser::attach(said, heard, 1 << 20, Strays::default()).unwrap(),
        orders,
    )
}

/// That browser's pipe, first what it says.
pub fn obedient() -> ([OwnedFd; 2], Arc<Mutex<Vec<Value>>>) {
    let (said, says) = rustix::pipe::pipe().unwrap();
    let (reading, heard) = rustix::pipe::pipe().unwrap();
    let orders = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&orders);
    std::thread::spawn(move || {
        let mut says = std::fs::File::from(says);
        for order in std::io::BufReader::new(std::fs::File::from(reading)).split(0) {
            let order: Value = serde_json::from_slice(&order.unwrap()).unwrap();
            let result =
                json!({"browserContextId": "context", "targetId": "target", "sessionId": "session", "data": ""});
            let mut answer = json!({"id": order["id"], "result": result}).to_string();
            answer.push('\0');
            noted.lock().unwrap().push(order);
            if says.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    ([said, heard], orders)
}

/// The headless shell saves no download unless it is told to; the product does not rely on that.
#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_told_its_proxy_and_that_downloads_are_denied_before_it_has_a_page() {
    let (browser, orders) = told();
    let _page = browser.open(4711, WINDOW).await.unwrap();
    let orders = orders.lock().unwrap();
    let of = |method: &str| orders.iter().position(|order| order["method"] == method).unwrap();
    let context = &orders[of("Target.createBrowserContext")]["params"];
    assert_eq!(context["proxyServer"], "http://127.0.0.1:4711");
    assert_eq!(context["proxyBypassList"], "<-loopback>");
    let denied = of("Browser.setDownloadBehavior");
    let wanted = json!({"behavior": "deny", "browserContextId": "context"});
    assert_eq!(orders[denied]["params"], wanted);
    assert!(denied < of("Target.createTarget"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_leaves_no_file_behind() {
    let (world, read, write) = World::new().await;
    let browser = Browser::attach(read, write, 1 << 26, Strays::default()).unwrap();
    let (mut page, _events) = world.open(&browser, 0).await;
    let navigated = page.navigate("http://a.net/file").await.unwrap();
    assert!(navigated.download, "{navigated:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!world.has_saved());
}

/// The control of the test above: where it is allowed, the file is there and found.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_may_save_a_download_saves_it() {
    let (world, read, write) = World::new().await;
    let mut raw = Raw {
        read: read.into(),
        write: write.into(),
    };
    let own = std::fs::read_dir(&world.profiles)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let allow = |raw: &mut Raw, context: &Value| {
        let allow = json!({"behavior": "allow", "browserContextId": context, "downloadPath": own});
        raw.ask("Browser.setDownloadBehavior", &allow);
    };
    raw.open(world.ports[0], allow, "http://a.net/file");
    until("the file is there", async || world.has_saved()).await;
}

/// Its own addresses for crashes, which a page is refused and a caller cannot ask for: the driver opens them.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_crashes_takes_its_own_page_and_the_other_one_in_its_browser_goes_on() {
    const SHOT: Shot = Shot {
        format: ImageFormat::Png,
        area: None,
    };
    let (world, read, write) = World::new().await;
    let browser = Browser::attach(read, write, 1 << 26, Strays::default()).unwrap();
    let (mut beside, _beside_events) = world.open(&browser, 1).await;
    beside.navigate("http://a.net/").await.unwrap();
    let before = beside.screenshot(SHOT).await.unwrap();
    for address in ["chrome://crash", "chrome://kill"] {
        let (mut page, mut events) = world.open(&browser, 0).await;
        let told = page.navigate(address).await.unwrap();
        assert_eq!(told.error.as_deref(), Some("net::ERR_ABORTED"), "{address}");
        let mut crashed = false;
        let watched = async {
            while !crashed && let Some(event) = events.next().await {
                crashed = event == Event::Crashed;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), watched).await;
        assert!(crashed, "{address}");
        assert_eq!(beside.screenshot(SHOT).await.unwrap(), before, "{address}");
        page.close().await.unwrap();
    }
    let gpu = || -> Vec<i32> {
        let mut pids = capture_jail::inspect::descendants(world.jailer.pid());
        pids.retain(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("gpu-process"))
        });
        pids
    };
    let old = gpu();
    assert!(!old.is_empty());
    let (mut page, _events) = world.open(&browser, 0).await;
    let told = page.navigate("chrome://gpucrash").await.unwrap();
    assert_eq!(told.error.as_deref(), Some("net::ERR_ABORTED"));
    // The headless shell does not have this one; `crashes` kills the process itself.
    assert_eq!(gpu(), old);
    assert_eq!(beside.screenshot(SHOT).await.unwrap(), before);
    assert!(page.screenshot(SHOT).await.is_ok());
}
