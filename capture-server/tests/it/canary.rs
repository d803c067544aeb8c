//! The canary: tried only for the operator, believed only for its own answer, and what follows for readiness.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use screenshot_policy::attest::{AttestReport, InternalKey, MAC_HEADER, NONCE_HEADER, nonce, nonce_text};
use screenshot_policy::canary::{CANARY_HEADER, Canary, CanaryKey, Finding, Outcome};
use screenshot_policy::egress::EgressException;
use screenshot_policy::policy::{Enforcement, PolicyDocument};
use screenshot_policy::unit::Port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Answer, Running, Site, get, limits, policy_of, until, without_a_route_out};

/// Longer than an attempt is given again instead of repeated.
const PAST_FRESH: Duration = Duration::from_millis(5_200);

/// The operator's side: a listener that answers as the canary while `honest`, and counts who comes.
struct Listener {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
    honest: Arc<AtomicBool>,
    key: CanaryKey,
}

impl Listener {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let made = Self {
            address: listener.local_addr().unwrap(),
            visits: Arc::default(),
            honest: Arc::new(AtomicBool::new(true)),
            key: CanaryKey::from_bytes([6; 32]),
        };
        let (visits, honest, key) = (Arc::clone(&made.visits), Arc::clone(&made.honest), made.key.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                visits.fetch_add(1, Ordering::Relaxed);
                let mut challenge = [0; 32];
                if stream.read_exact(&mut challenge).await.is_ok() {
                    let answer = if honest.load(Ordering::Relaxed) {
                        key.answer(&challenge)
                    } else {
                        [0; 32]
                    };
                    let _ = stream.write_all(&answer).await;
                }
            }
        });
        made
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }

    /// The canary of a question with the nonce `n`, at this listener or at another address.
    fn canary(&self, n: u8, at: SocketAddr) -> String {
        Canary::new(&[at], &self.key.answer(&nonce_of(n))).unwrap().text()
    }
}

/// A nonce of this test's time, which a server takes once.
fn nonce_of(n: u8) -> [u8; 32] {
    static AT: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);
    nonce(*AT, [n; 24])
}

/// A question with a canary; `signed` is what the code covers.
async fn ask(server: &Running, n: u8, key: u8, canary: &str, signed: &str) -> Answer {
    let nonce = nonce_text(nonce_of(n));
    let mac = InternalKey::from_bytes([key; 32]).request_mac(&nonce, signed);
    let headers = [
        format!("{NONCE_HEADER}: {nonce}"),
        format!("{MAC_HEADER}: {mac}"),
        format!("{CANARY_HEADER}: {canary}"),
    ];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    get(server.health, "/internal/attest", &headers).await
}

async fn attested(server: &Running, n: u8, canary: &str) -> AttestReport {
    let answer = ask(server, n, 9, canary, canary).await;
    assert_eq!(answer.status, 200);
    serde_json::from_slice(&answer.body).unwrap()
}

/// A server under a policy with this word of enforcement, and without a jailer.
async fn server(enforcement: Enforcement) -> Running {
    under(|document| document.egress.enforcement = enforcement).await
}

/// The same under any policy.
async fn under(change: impl FnOnce(&mut PolicyDocument)) -> Running {
    let site = Site::new(limits(5_000));
    site.write("policy.json", &policy_of(limits(5_000), change).canonical_json());
    let args = site.args();
    let server = Running::with(site, args).await;
    until("policy and keyset", async || server.reasons().await == ["JailerAbsent"]).await;
    server
}

async fn metric(server: &Running, line: &str) -> bool {
    let text = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    text.lines().any(|found| found == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dialled_that_did_not_come_under_the_operators_code() {
    let (server, listener) = (server(Enforcement::Required).await, Listener::open().await);
    let canary = listener.canary(1, listener.address);
    for (key, canary, signed) in [
        // Nobody's key; an address that the operator did not sign; one added to those that it signed.
        (8, canary.as_str(), canary.as_str()),
        (9, canary.as_str(), ""),
        (9, format!("{canary} {}", listener.address).as_str(), canary.as_str()),
    ] {
        let answer = ask(&server, 1, key, canary, signed).await;
        assert_eq!(answer.status, 401);
    }
    // Signed, but no canary.
    let report = attested(&server, 2, "not-a-canary").await;
    assert_eq!(report.egress.canary, None);
    assert_eq!(listener.visits(), 0);
    assert_eq!(
        attested(&server, 1, &canary).await.egress.canary.unwrap().finding(),
        Finding::Open
    );
    assert_eq!(listener.visits(), 1);
    // The same message once more, by whoever listened on the way.
    tokio::time::sleep(PAST_FRESH).await;
    assert_eq!(ask(&server, 1, 9, &canary, &canary).await.status, 401);
    assert_eq!(listener.visits(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_reaches_the_canary_is_not_ready_until_it_is_out_of_reach_again() {
    let (server, listener) = (server(Enforcement::Required).await, Listener::open().await);
    assert!(metric(&server, "screenshot_server_egress_enforced -1").await);
    let report = attested(&server, 1, &listener.canary(1, listener.address)).await;
    assert_eq!(report.egress.enforcement, Enforcement::Required);
    let facts = report.egress.canary.unwrap();
    assert_eq!(facts.finding(), Finding::Open);
    assert!(facts.proxy_refuses(), "loopback is closed to every page");
    assert!(report.not_ready.iter().any(|why| why.reason == "egress_not_enforced"));
    assert!(server.reasons().await.contains(&"egress_not_enforced".to_owned()));
    assert!(metric(&server, "screenshot_server_egress_enforced 0").await);
    // Without a canary, and with one that something else answers, the last finding stays.
    attested(&server, 2, "").await;
    tokio::time::sleep(PAST_FRESH).await;
    listener.honest.store(false, Ordering::Relaxed);
    let report = attested(&server, 3, &listener.canary(3, listener.address)).await;
    assert_eq!(
        report.egress.canary.unwrap().finding(),
        Finding::Unproven(Outcome::Mistaken)
    );
    assert!(server.reasons().await.contains(&"egress_not_enforced".to_owned()));
    // Out of reach: nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let report = attested(&server, 4, &listener.canary(4, closed)).await;
    assert_eq!(report.egress.canary.unwrap().finding(), Finding::Closed);
    assert_eq!(server.reasons().await, ["JailerAbsent"]);
    assert!(metric(&server, "screenshot_server_egress_enforced 1").await);
    assert!(metric(&server, "screenshot_server_canary_tries_total{reason=\"reached\"} 1").await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_says_of_each_address_what_its_own_proxy_would_say_to_a_page() {
    if !without_a_route_out("canary::a_pod_says_of_each_address_what_its_own_proxy_would_say_to_a_page") {
        return;
    }
    let [opened, closed]: [SocketAddr; 2] = ["203.0.113.9:8082", "203.0.113.9:8083"].map(|text| text.parse().unwrap());
    let server = under(|document| {
        document.egress.exceptions = vec![EgressException {
            host: "203.0.113.9".parse().unwrap(),
            ports: vec![Port::try_from(opened.port()).unwrap()],
            cidr: None,
            reason: "a test".parse().unwrap(),
            expires: "2099-01-01T00:00:00Z".parse().unwrap(),
        }];
    })
    .await;
    let answer = CanaryKey::from_bytes([6; 32]).answer(&nonce_of(1));
    let canary = Canary::new(&[opened, closed], &answer).unwrap();
    let facts = attested(&server, 1, &canary.text()).await.egress.canary.unwrap();
    let said: Vec<_> = facts.tries.iter().map(|one| (one.address, one.proxy_refuses)).collect();
    assert_eq!(said, [(opened, false), (closed, true)]);
    assert!(!facts.proxy_refuses());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn advisory_tells_and_stops_nothing() {
    let (server, listener) = (server(Enforcement::Advisory).await, Listener::open().await);
    let report = attested(&server, 1, &listener.canary(1, listener.address)).await;
    assert_eq!(report.egress.canary.unwrap().finding(), Finding::Open);
    assert_eq!(server.reasons().await, ["JailerAbsent"]);
    assert!(metric(&server, "screenshot_server_egress_enforced 0").await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_keys_are_accepted_while_one_replaces_the_other() {
    let (server, old, new) = (server(Enforcement::Required).await, 9, 10);
    let ids = |keys: &[u8]| -> Vec<String> { keys.iter().map(|n| InternalKey::from_bytes([*n; 32]).id()).collect() };
    let asked = AtomicU8::new(0);
    let another = || asked.fetch_add(1, Ordering::Relaxed);
    let knows = async |key| {
        let answer = ask(&server, another(), key, "", "").await;
        let report: Option<AttestReport> = serde_json::from_slice(&answer.body).ok();
        (answer.status == 200).then(|| report.unwrap().internal_keys)
    };
    assert_eq!((knows(old).await, knows(new).await), (Some(ids(&[old])), None));
    server.site.write("next", &InternalKey::from_bytes([new; 32]).to_text());
    for key in [old, new] {
        let n = another();
        let answer = ask(&server, n, key, "", "").await;
        let mac = answer.header(MAC_HEADER).unwrap();
        let key = InternalKey::from_bytes([key; 32]);
        assert!(
            key.verify_response(&nonce_text(nonce_of(n)), &answer.body, mac),
            "answered with the key of the question"
        );
    }
    assert_eq!(knows(new).await, Some(ids(&[old, new])));
    server.site.write("key", &InternalKey::from_bytes([new; 32]).to_text());
    std::fs::remove_file(server.site.path("next")).unwrap();
    assert_eq!((knows(old).await, knows(new).await), (None, Some(ids(&[new]))));
    server.stop().await;
}
