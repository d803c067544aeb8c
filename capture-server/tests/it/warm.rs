//! What a jail has done before it serves anybody: its browser has a page, of which a throw-away picture was taken, and it was
//! found confined. Jailer and browser are made up here, and agree to everything.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capture_jail::client::Jailer;
use capture_jail::protocol::{
    self, Call, Exit, ExitCause, JailFacts, JailId, JailStats, Mode, Outcome, Request, Response, VERSION,
};
use capture_jail::report;
use capture_server::browser::Strays;
use capture_server::capture::link::Link;
use capture_server::capture::pool::cell::Cell;
use capture_server::capture::pool::fleet::Rules;
use capture_server::capture::pool::{Config, Counters, Pool, Reason};
use capture_server::state::Heard;
use screenshot_policy::policy::Isolation;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::contexts::obedient;
use crate::harness::until;

const EXIT: Exit = Exit {
    cause: ExitCause::Killed,
    code: None,
    signal: Some(9),
    lived_ms: 1,
    starved: false,
};

/// What is found of jails, one after the other.
type Facts = Arc<Mutex<VecDeque<JailFacts>>>;
/// What the last browser was told; none before there is one.
type Orders = Arc<Mutex<Option<Arc<Mutex<Vec<Value>>>>>>;

/// A link to a jailer that answers so.
fn linked(facts: Facts, orders: Orders) -> Arc<Link> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || agree(&listener.accept().unwrap().0, &facts, &orders));
    Arc::new(Link::start(Jailer::connect(&path).unwrap(), Heard::default()).unwrap())
}

/// Answers until the other side hangs up, with these facts one after the other; of its last browser the orders are noted. Each
/// time that it is asked, a jail holds 200 MiB more.
fn agree(mut stream: &UnixStream, facts: &Facts, orders: &Orders) {
    let mut held = 0;
    while let Ok(request) = protocol::read_frame::<Request>(&mut stream) {
        let (mut fds, mut ports) = (Vec::new(), Vec::new());
        let outcome = match request.call {
            Call::Spawn(spec) => {
                let (pipe, noted) = obedient();
                *orders.lock().unwrap() = Some(noted);
                fds.extend(pipe);
                for _ in 0..spec.contexts {
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    ports.push(listener.local_addr().unwrap().port());
                    fds.push(OwnedFd::from(listener));
                }
                Outcome::Spawned {
                    jail: JailId(1),
                    ports,
                    degraded: false,
                }
            }
            Call::Facts { .. } => Outcome::Facts(facts.lock().unwrap().pop_front().unwrap()),
            Call::Stats { .. } => {
                let stats = JailStats {
                    age_ms: 1,
                    processes: 1,
                    tasks: 1,
                    anonymous_bytes: 0,
                    shared_bytes: held,
                    cpu_ms: 1,
                    exit: None,
                };
                held += 200 << 20;
                Outcome::Stats(stats)
            }
            Call::Kill { .. } => Outcome::Killed(EXIT),
        };
        let response = Response {
            version: VERSION,
            number: request.number,
            outcome,
        };
        let frame = protocol::encode(&response).unwrap();
        let borrowed: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
        let sent = report::send_with_fds(stream, &frame, &borrowed).unwrap();
        std::io::Write::write_all(&mut stream, &frame[sent..]).unwrap();
    }
}

fn config(mode: Mode) -> Config {
    Config {
        mode,
        accepted_key: None,
        rules: Rules::new(Isolation::PerClient, 1),
        max_frame: 1 << 20,
        strays: Strays::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jail_that_serves_has_taken_a_throw_away_picture_and_a_page_that_is_opened_later_takes_none() {
    let orders = Orders::default();
    let link = linked(Facts::default(), Arc::clone(&orders));
    let config = config(Mode::Required);
    let cell = Cell::launch(&link, &config).await.unwrap();
    let orders = orders.lock().unwrap().clone().unwrap();
    let asked = |method: &str| -> Vec<Value> {
        let orders = orders.lock().unwrap();
        orders
            .iter()
            .filter(|order| order["method"] == method)
            .cloned()
            .collect()
    };
    assert_eq!((cell.pages(), asked("Target.createTarget").len()), (1, 1));
    let pictures = asked("Page.captureScreenshot");
    assert_eq!(pictures.len(), 1);
    let clip = json!({"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0, "scale": 1.0});
    assert_eq!(pictures[0]["params"]["clip"], clip);
    assert_eq!(
        orders.lock().unwrap().last().unwrap()["method"],
        "Page.captureScreenshot"
    );
    assert_eq!(cell.prepare().await.unwrap(), 2);
    assert_eq!(asked("Target.createTarget").len(), 2);
    assert_eq!(asked("Page.captureScreenshot").len(), 1);
}

/// Facts of a jail of which nothing is known but whether it is a degraded one, which is what is asked for here.
fn reading(degraded: bool) -> JailFacts {
    JailFacts {
        jail: Some(JailId(1)),
        degraded,
        ..JailFacts::default()
    }
}

/// A pool that keeps one browser warm, of which these readings are had; how many were launched, and whether one was doubted.
async fn kept<const N: usize>(readings: [JailFacts; N]) -> (u64, bool) {
    let readings = Arc::new(Mutex::new(VecDeque::from(readings)));
    let (_link, link) = watch::channel(Some(linked(Arc::clone(&readings), Orders::default())));
    let counters = Counters::default();
    let pool = Pool::new(link, config(Mode::Degraded), counters.clone());
    let doubts = pool.doubts();
    tokio::select! {
        () = pool.keep() => {}
        () = until("every reading", async || readings.lock().unwrap().is_empty()) => {}
    }
    (counters.launched.get(), doubts.has_changed().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_that_is_gone_a_moment_later_costs_no_browser_and_one_that_stays_does() {
    assert_eq!(kept([reading(false), reading(true)]).await, (1, false));
    let stays = [reading(false), reading(false), reading(true)];
    assert_eq!(kept(stays).await, (2, true));
}

/// Keeps a browser warm under these rules until one is retired for this reason.
async fn retires(rules: Rules, reason: &'static str) {
    let readings = Arc::new(Mutex::new(VecDeque::from(vec![reading(true); 100])));
    let (_link, link) = watch::channel(Some(linked(readings, Orders::default())));
    let counters = Counters::default();
    let config = Config {
        rules,
        ..config(Mode::Degraded)
    };
    let pool = Pool::new(link, config, counters.clone());
    let retired = || counters.retired.get_or_create(&Reason { reason }).get();
    tokio::select! {
        () = pool.keep() => {}
        () = until(reason, async || retired() > 0 && counters.launched.get() > 1) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_is_old_or_holds_much_is_retired_and_another_one_is_there() {
    let rules = Rules::new(Isolation::PerClient, 1);
    let old = Rules {
        max_age: Duration::from_millis(300),
        ..rules
    };
    tokio::join!(retires(old, "age"), retires(rules, "memory"));
}
