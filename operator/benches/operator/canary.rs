//! What the canary costs the operator, for each pod: asking it to attest and to try, and knocking at its API port.
//!
//! The product's own client and listener on a thread of their own, whose clock is read; a pod on another, which answers as one
//! does and tries the canary. It gets through, as it should not: that is the more work.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::routing::get;
use bench_rows::Rows;
use screenshot_operator::attest::Attester;
use screenshot_operator::canary::Canary;
use screenshot_policy::attest::{AttestReport, InternalKey, MAC_HEADER, NONCE_HEADER, nonce_bytes};
use screenshot_policy::canary::{CANARY_HEADER, Canary as Asked, CanaryFacts, Outcome, Try};
use screenshot_policy::layout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::process::spent_by_this_thread;

const ROUNDS: usize = 7;
const PODS: u32 = 300;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const KEY: [u8; 32] = [1; 32];

/// The rows.
pub async fn alone(rows: &mut Rows) {
    let rounds = tokio::task::spawn_blocking(|| runtime().block_on(rounds()))
        .await
        .unwrap();
    rows.at_most("the canary: own time for one pod asked", "ms", 2.0, &rounds);
    // A pod that is at rest is asked once in 40 seconds.
    let shares: Vec<f64> = rounds
        .iter()
        .map(|milliseconds| milliseconds / 40_000.0 * 100.0)
        .collect();
    rows.at_most("the canary: share of a core for each pod", "%", 0.1, &shares);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Milliseconds for one pod.
async fn rounds() -> Vec<f64> {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let canary = Arc::new(Canary::at(&[LOCALHOST], &[], port).unwrap());
    let stop = CancellationToken::new();
    let served = tokio::spawn(Arc::clone(&canary).serve(listener, stop.clone()));
    let (told, at) = std::sync::mpsc::channel();
    std::thread::spawn(move || runtime().block_on(pod(&told)));
    let port = at.recv().unwrap();
    let attester = Attester::on_ports(port, port);
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let before = spent_by_this_thread();
        for n in 0..PODS {
            let mut nonce = [0; 32];
            nonce[..8].copy_from_slice(&[u32::try_from(round).unwrap().to_be_bytes(), n.to_be_bytes()].concat());
            assert!(canary.answers().await);
            let asked = canary.asked(&nonce);
            let key = InternalKey::from_bytes(KEY);
            let question = attester.ask("pod", LOCALHOST, &key, nonce, asked.as_ref());
            let (report, let_in) = futures_util::join!(question, attester.is_let_in(LOCALHOST));
            assert!(report.unwrap().ready && let_in);
            // What a pod mostly finds, which is looked into.
            let mut found = Some(closed(canary.addresses()[0]));
            canary.confirm(&mut found).await;
            assert!(found.is_some());
        }
        let spent = spent_by_this_thread().saturating_sub(before);
        rounds.push(spent.as_secs_f64() * 1e3 / f64::from(PODS));
    }
    stop.cancel();
    served.await.unwrap();
    rounds
}

fn closed(address: SocketAddr) -> CanaryFacts {
    let tried = Try {
        address,
        outcome: Outcome::TimedOut,
        proxy_refuses: true,
    };
    CanaryFacts {
        tries: vec![tried],
        ..CanaryFacts::default()
    }
}

/// A pod on every one of its ports.
async fn pod(told: &std::sync::mpsc::Sender<u16>) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    told.send(listener.local_addr().unwrap().port()).unwrap();
    let routes = Router::new()
        .route(layout::ATTEST_PATH, get(answer))
        .route("/health/live", get(async || "ok"));
    axum::serve(listener, routes).await.unwrap();
}

async fn answer(headers: HeaderMap) -> axum::response::Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (nonce, asked) = (header(NONCE_HEADER), header(CANARY_HEADER));
    let asked = Asked::parse(&asked).unwrap();
    reach(asked.addresses()[0], nonce_bytes(&nonce).unwrap(), &asked).await;
    let report = AttestReport {
        pod: "pod".into(),
        ready: true,
        ..Default::default()
    };
    let body = serde_json::to_vec(&report).unwrap();
    let code = InternalKey::from_bytes(KEY).response_mac(&nonce, &body);
    ([(MAC_HEADER, code)], body).into_response()
}

async fn reach(address: SocketAddr, challenge: [u8; 32], asked: &Asked) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&challenge).await.unwrap();
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(asked.gave(&answer));
}
