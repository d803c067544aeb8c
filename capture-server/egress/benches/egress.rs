//! What the proxy costs: a decision, a connection, connections per second.
//!
//! Writes rows to the file given. Everything runs on one thread and on loopback: browser, proxy and target together,
//! so the figures per core are those of all three; but for the proxy's own cost, for which it has a thread of its own, whose
//! clock is read. `value` is the median of the rounds, `spread` the smallest and largest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)] // A benchmark fails loudly.
#![allow(clippy::cast_precision_loss, reason = "figures are for people")]

use std::hint::black_box;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_rows::Rows;
use capture_egress::{Answers, Budget, Dial, Egress, Pinned, ResolveError, Resolver, Scope, Session};
use futures_util::future::BoxFuture;
use screenshot_policy::host::{Host, HostName};
use screenshot_policy::policy::{Ceiling, EffectivePolicy, MAX_CIDRS, MAX_DOMAINS, PolicyDocument};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

const PUBLIC: &str = "93.184.216.34";
const ROUNDS: usize = 7;
const NOW: &str = "2026-06-01T00:00:00Z";

/// A policy with so many names, half of them allowed, so many ranges, half of them the cluster's own, and, if there are
/// any, 32 exceptions.
fn policy(names: usize, ranges: usize) -> EffectivePolicy {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    if names > 0 {
        let rules = &mut document.egress;
        rules.domains.allow = (1..names / 2)
            .map(|n| format!("*.a{n}.example.com").parse().unwrap())
            .collect();
        rules.domains.deny = (0..names / 2)
            .map(|n| format!("*.b{n}.example.com").parse().unwrap())
            .collect();
        rules.domains.allow.push("www.site.com".parse().unwrap());
        let some = |first: u8| (0..ranges / 2).map(move |n| format!("{first}.{n}.0.0/16").parse().unwrap());
        (rules.cidrs.deny, rules.cluster.cidrs) = (some(1).collect(), some(2).collect());
        rules.exceptions = serde_json::from_value(json!(
            (0..32)
                .map(|n| json!({"host": format!("web{n}.shop.svc"), "ports": [8080], "reason": "r", "expires": "2027-01-01T00:00:00Z"}))
                .collect::<Vec<_>>()
        ))
        .unwrap();
    }
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

/// Microseconds for one decision: the host, and four addresses of it.
fn decision(policy: &EffectivePolicy) -> Vec<f64> {
    const TIMES: u32 = 20_000;
    let host: Host = "www.site.com".parse().unwrap();
    let addresses: &[IpAddr; 4] = &[PUBLIC, "8.8.8.8", "2606:4700::1", "2a00:1450::1"].map(|ip| ip.parse().unwrap());
    let now = NOW.parse().unwrap();
    let round = |_| {
        let begun = Instant::now();
        for _ in 0..TIMES {
            let verdict = policy.admit_host(black_box(&host), 443, now).unwrap();
            black_box(policy.admit_addresses(&verdict, black_box(addresses), now).unwrap());
        }
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
    };
    (0..ROUNDS).map(round).collect()
}

struct Everyone;

impl Resolver for Everyone {
    fn lookup<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Answers, ResolveError>> {
        let addresses = vec![PUBLIC.parse().unwrap()];
        Box::pin(async move {
            Ok(Answers {
                aliases: Vec::new(),
                addresses,
            })
        })
    }
}

/// Leads every checked address to one listener on loopback.
struct Loopback(SocketAddr);

impl Dial for Loopback {
    fn connect(&self, _: Pinned) -> BoxFuture<'static, io::Result<TcpStream>> {
        let to = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

async fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = stream.write_all(ANSWER).await;
            });
        }
    });
    address
}

async fn proxy(target: SocketAddr) -> (Session, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let now = NOW.parse().unwrap();
    let egress = Egress::new(
        Arc::new(Everyone),
        Arc::new(Loopback(target)),
        Arc::new(policy(0, 0)),
        Arc::new(move || now),
    );
    let scope = Scope {
        capture_id: "bench".into(),
        deadline: tokio::time::Instant::now() + Duration::from_secs(600),
        budget: Budget {
            requests: u64::MAX,
            hosts: u64::MAX,
            sockets: 4096,
            wire_bytes: u64::MAX,
        },
        synthetic: None,
    };
    (egress.open(listener, scope), address)
}

/// One connection from its first packet to its last byte.
async fn ask(at: SocketAddr, target: &str) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .write_all(format!("GET {target} HTTP/1.1\r\nHost: www.site.com\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"hi"));
}

const THROUGH: &str = "http://www.site.com/";

/// Milliseconds that the proxy adds to the median connection; direct and through take turns, so both see the same machine.
async fn added(target: SocketAddr, proxy: SocketAddr) -> f64 {
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let begun = Instant::now();
        ask(target, "/").await;
        direct.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        ask(proxy, THROUGH).await;
        through.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let median = |list: &mut Vec<f64>| {
        list.sort_by(f64::total_cmp);
        list[list.len() / 2]
    };
    median(&mut through) - median(&mut direct)
}

const COUNT: usize = 2000;

/// Connections per second with 32 at a time.
async fn rate(proxy: SocketAddr) -> f64 {
    let begun = Instant::now();
    let mut open = JoinSet::new();
    for _ in 0..COUNT {
        if open.len() == 32 {
            open.join_next().await.unwrap().unwrap();
        }
        open.spawn(ask(proxy, THROUGH));
    }
    while open.join_next().await.is_some() {}
    COUNT as f64 / begun.elapsed().as_secs_f64()
}

/// Milliseconds of processor time that this thread has had.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

/// A proxy on a thread of its own, which tells its processor time when it is asked.
struct Alone {
    at: SocketAddr,
    ask: mpsc::Sender<oneshot::Sender<f64>>,
}

impl Alone {
    fn start(target: SocketAddr) -> Self {
        let (told, at) = std::sync::mpsc::channel();
        let (ask, mut asked) = mpsc::channel::<oneshot::Sender<f64>>(1);
        std::thread::spawn(move || {
            runtime().block_on(async {
                let (session, at) = proxy(target).await;
                told.send(at).unwrap();
                while let Some(answer) = asked.recv().await {
                    answer.send(cpu()).unwrap();
                }
                drop(session);
            });
        });
        Self {
            at: at.recv().unwrap(),
            ask,
        }
    }

    async fn cpu(&self) -> f64 {
        let (answer, told) = oneshot::channel();
        self.ask.send(answer).await.unwrap();
        told.await.unwrap()
    }

    /// Milliseconds of processor time for one connection.
    async fn cost(&self) -> f64 {
        let before = self.cpu().await;
        rate(self.at).await;
        (self.cpu().await - before) / COUNT as f64
    }
}

/// Connections of a capture of the benchmark's article.
const CONNECTIONS: f64 = 15.0;

/// Milliseconds of processor time of a capture of the benchmark's article, the browser alone: what `make bench-capture` wrote
/// beside `rows`, or else what it once wrote.
fn article(rows: &Path) -> f64 {
    let file = std::fs::read(rows.with_file_name("capture.json")).unwrap_or_default();
    let rows: serde_json::Value = serde_json::from_slice(&file).unwrap_or_default();
    let rows = rows["rows"].as_array().into_iter().flatten();
    let mut row = rows.filter(|row| row["figure"] == "the browser alone: CPU per capture, article");
    row.find_map(|row| row["value"].as_f64()).unwrap_or(204.0)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn main() {
    let mut rows = Rows::default();
    rows.at_most("policy decision, default policy", "us", 5.0, &decision(&policy(0, 0)));
    rows.at_most(
        "policy decision, 128 names, 64 ranges, 32 exceptions",
        "us",
        5.0,
        &decision(&policy(128, 64)),
    );
    rows.at_most(
        "policy decision at the bounds of the schema: 512 names, 256 ranges, 32 exceptions",
        "us",
        5.0,
        &decision(&policy(2 * MAX_DOMAINS, 2 * MAX_CIDRS)),
    );
    runtime().block_on(async {
        let target = target().await;
        let (session, at) = proxy(target).await;
        ask(at, THROUGH).await;
        let alone = Alone::start(target);
        ask(alone.at, THROUGH).await;
        let (mut delays, mut rates, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            costs.push(alone.cost().await);
            delays.push(added(target, at).await);
            rates.push(rate(at).await);
        }
        rows.at_most("proxy over direct, per connection, p50", "ms", 1.0, &delays);
        rows.at_least(
            "connections through the proxy, one core for all parts",
            "1/s",
            500.0,
            &rates,
        );
        let article = article(&bench_rows::path());
        let shares: Vec<f64> = costs.iter().map(|cost| 100.0 * cost * CONNECTIONS / article).collect();
        rows.shown("an article's capture, the browser's processor time", "ms", &[article]);
        rows.at_most(
            "the proxy's own processor time in an article's capture",
            "%",
            1.0,
            &shares,
        );
        let _ = session.finish().await;
    });
    rows.write(&bench_rows::path());
}
