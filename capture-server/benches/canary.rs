//! What the canary costs a pod: the processor time of a server that is asked to attest and to try it.
//!
//! Writes rows to the file given. The server has threads of its own, whose clocks are read: whatever they do meanwhile counts,
//! looking after its files too. The operator's part and the canary itself run on this thread. The canary answers here, which
//! is more work for a pod than when it does not, as it should be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)] // A benchmark fails loudly.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bench_rows::Rows;
use capture_server::config::{JailerMode, ServeArgs};
use capture_server::server::Server;
use jiff::Timestamp;
use screenshot_policy::attest::{InternalKey, MAC_HEADER, NONCE_HEADER, nonce, nonce_text};
use screenshot_policy::canary::{CANARY_HEADER, Canary, CanaryKey};
use screenshot_policy::keyset::{Key, KeyState, Keyset, Scope};
use screenshot_policy::policy::{Ceiling, EffectivePolicy, PolicyDocument};
use screenshot_policy::token::{Kid, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 5;
const ATTEMPTS: u8 = 6;
/// A pod tries no more often, whoever asks.
const GAP: Duration = Duration::from_millis(1_050);
/// How often the operator asks a pod that is at rest: once in 40 seconds.
const PER_MINUTE: f64 = 1.5;

/// Files of a service that asked for nothing, and the server's arguments.
fn arguments(directory: &Path) -> ServeArgs {
    let file = |name: &str, text: &str| {
        std::fs::write(directory.join(name), text).unwrap();
        directory.join(name)
    };
    let document = PolicyDocument::secure_default("web", "shots").unwrap();
    let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
    let kid = Kid::from_bytes([1; 5]);
    let key = Key {
        digest: Token::generate(&kid, [1; 32]).digest_hex(),
        kid,
        client: "bench".into(),
        scopes: Scope::ALL.into(),
        state: KeyState::Active,
        not_before: None,
        retire_after: None,
    };
    let keyset = Keyset {
        version: 1,
        revision: 1,
        keys: vec![key],
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    ServeArgs {
        listen: any,
        health_listen: any,
        metrics_listen: any,
        policy: file("policy.json", &policy.canonical_json()),
        policy_digest: None,
        keyset: file("keyset.json", &keyset.canonical_json()),
        internal_key: file("key", &InternalKey::from_bytes([9; 32]).to_text()),
        jail_socket: directory.join("jailer.sock"),
        jailer: JailerMode::Connect,
        jailer_program: None,
        browser: None,
        browser_build: directory.join("build.json"),
        upstream: directory.join("upstream"),
        pod_name: "bench".into(),
    }
}

/// Starts the server on threads of its own. Returns the runtime that holds them and the health port.
fn server(directory: &Path) -> (Runtime, SocketAddr) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::start(arguments(directory))).unwrap();
    let [_, health, _] = server.addresses().unwrap();
    runtime.spawn(async move { server.run(std::future::pending()).await.unwrap() });
    (runtime, health)
}

/// Milliseconds of processor time that all threads of this process but this one have had.
fn others() -> f64 {
    let spent = |path: &Path| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    let all = std::fs::read_dir("/proc/self/task").unwrap();
    let all: f64 = all.filter_map(|thread| spent(&thread.ok()?.path())).sum();
    (all - spent(Path::new("/proc/thread-self")).unwrap()) / 1e6
}

/// The canary, at two addresses in turn: a pod that has just tried one says again what it found.
async fn canary(key: &CanaryKey) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, key) = (listener.local_addr().unwrap(), key.clone());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut challenge = [0; 32];
            stream.read_exact(&mut challenge).await.unwrap();
            stream.write_all(&key.answer(&challenge)).await.unwrap();
        }
    });
    address
}

/// One question of the operator's.
async fn ask(health: SocketAddr, nonce: [u8; 32], canary: &str) {
    let nonce = nonce_text(nonce);
    let mac = InternalKey::from_bytes([9; 32]).request_mac(&nonce, canary);
    let head = format!(
        "GET /internal/attest HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n{NONCE_HEADER}: {nonce}\r\n{MAC_HEADER}: {mac}\r\n\
         {CANARY_HEADER}: {canary}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(health).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"reached\""),
        "{answer}"
    );
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let (server, health) = server(directory.path());
    let here = Builder::new_current_thread().enable_all().build().unwrap();
    let (mut costs, mut rest) = (Vec::new(), Vec::new());
    here.block_on(async {
        let key = CanaryKey::from_bytes([6; 32]);
        let at = [canary(&key).await, canary(&key).await];
        let asked = |n: u8| {
            let nonce = nonce(Timestamp::now(), [n; 24]);
            let canary = Canary::new(&[at[usize::from(n % 2)]], &key.answer(&nonce)).unwrap();
            (health, nonce, canary.text())
        };
        let question = async |n: u8| {
            let (health, nonce, canary) = asked(n);
            ask(health, nonce, &canary).await;
            tokio::time::sleep(GAP).await;
        };
        tokio::time::sleep(GAP).await;
        question(0).await;
        for round in 0..ROUNDS {
            let before = others();
            for n in 0..ATTEMPTS {
                question(u8::try_from(round).unwrap() * ATTEMPTS + n + 1).await;
            }
            costs.push((others() - before) / f64::from(ATTEMPTS));
            let before = others();
            tokio::time::sleep(GAP * 3).await;
            rest.push((others() - before) / 3.0);
        }
    });
    let shares: Vec<f64> = costs.iter().map(|cost| 100.0 * cost * PER_MINUTE / 60_000.0).collect();
    let mut rows = Rows::default();
    rows.at_most(
        "the canary and its attestation, a pod's processor time",
        "ms",
        5.0,
        &costs,
    );
    rows.at_most(
        "of which a server at rest spends as much in that time",
        "ms",
        5.0,
        &rest,
    );
    rows.at_most("the canary in a pod at rest, of a core", "%", 0.1, &shares);
    server.shutdown_background();
    rows.write(&bench_rows::path());
}
