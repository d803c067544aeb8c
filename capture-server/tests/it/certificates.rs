//! Hosts that are known by their keys, as pages of a real browser meet them: one TLS server, whose certificate nobody
//! vouches for, behind every name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use capture_egress::{Dial, Pinned};
use capture_server::server::Server;
use capture_server::service::Network;
use rcgen::{KeyPair, PublicKeyData as _};
use screenshot_policy::tls::{SpkiPin, TlsHost, Trust};
use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::{Answer, Jailer, Running, Site, get, keyset, limits, policy_of, without_a_route_out};
use crate::{tls, web};

/// Green, if its own style sheet comes and that of the host with another key does not.
const SHEETS: &str = "<!doctype html><link rel=stylesheet href='https://good.net/green.css'>\
    <link rel=stylesheet href='https://wrong.net/red.css'><body style='margin:0'>";

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    let page = |body: &str| ("200 OK\r\ncontent-type: text/html".into(), body.into());
    let sheet = |body: &str| ("200 OK\r\ncontent-type: text/css".into(), body.into());
    Some(match path {
        "/green" => page("<body style='margin:0;background:#0f0'>"),
        "/sheets" => page(SHEETS),
        "/green.css" => sheet("body{background:#0f0}"),
        "/red.css" => sheet("body{background:#f00!important}"),
        "/500" => (
            "500 No\r\ncontent-type: text/html".into(),
            b"<body style='background:#0f0'>".into(),
        ),
        "/to-good" => ("302 Found\r\nlocation: https://good.net/green".into(), Vec::new()),
        "/to-wrong" => ("302 Found\r\nlocation: https://wrong.net/green".into(), Vec::new()),
        _ => return None,
    })
}

/// Every name's port 443 is one server, its port 80 another.
pub struct TwoServers {
    pub secure: SocketAddr,
    pub plain: SocketAddr,
}

impl Dial for TwoServers {
    fn connect(&self, to: Pinned) -> web::Boxed<'static, io::Result<TcpStream>> {
        let address = match to.address().port() {
            443 => self.secure,
            80 => self.plain,
            port => panic!("port {port}"),
        };
        Box::pin(TcpStream::connect(address))
    }
}

async fn network(pair: &KeyPair, answers: web::Answer, plain: web::Answer) -> Network {
    Network {
        resolver: Arc::new(web::Names),
        dial: Arc::new(TwoServers {
            secure: tls::answering(pair, answers).await,
            plain: web::serve(plain).await,
        }),
    }
}

fn named(host: &str, trust: Trust, pin: SpkiPin, expires: &str) -> TlsHost {
    let exception = trust == Trust::PinnedKey;
    TlsHost {
        host: host.parse().unwrap(),
        trust,
        spki_pins: vec![pin],
        reason: exception.then(|| "a test".parse().unwrap()),
        expires: exception.then(|| expires.parse().unwrap()),
    }
}

/// A server with two clients, for which `good.net` is known by its key. Answers over TLS, and answers without it.
pub async fn started(answers: web::Answer, plain: web::Answer) -> (Running, Jailer) {
    let pair = KeyPair::generate().unwrap();
    let right = SpkiPin::of(&pair.subject_public_key_info());
    let site = Site::new(limits(10_000));
    let policy = policy_of(limits(10_000), |document| {
        document.egress.tls.hosts = vec![
            named("good.net", Trust::PinnedKey, right, "2999-01-01T00:00:00Z"),
            named(
                "wrong.net",
                Trust::PinnedKey,
                SpkiPin::of(b"another"),
                "2999-01-01T00:00:00Z",
            ),
            named("over.net", Trust::PinnedKey, right, "2020-01-01T00:00:00Z"),
            named("pinned.net", Trust::PublicAuthorities, right, ""),
        ];
    });
    site.write("policy.json", &policy.canonical_json());
    site.write("keyset.json", &keyset(1, &[1, 2]));
    let jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, network(&pair, answers, plain).await)
        .await
        .unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    (server, jailer)
}

fn is_green(answer: &Answer, what: &str) {
    assert_eq!(answer.image().get_pixel(9, 9).0, [0, 255, 0], "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_under_a_certificate_that_nobody_vouches_for_is_seen_under_its_pinned_key_alone() {
    if !without_a_route_out(
        "certificates::a_page_under_a_certificate_that_nobody_vouches_for_is_seen_under_its_pinned_key_alone",
    ) {
        return;
    }
    let (server, _jailer) = started(answers, |_| None).await;
    for url in ["https://good.net/green", "https://good.net/to-good"] {
        is_green(&server.capture(json!({"url": url})).await, url);
    }
    for (url, problem, named) in [
        // A status over TLS is told as over plain HTTP.
        ("https://good.net/500", "http_status", "500"),
        ("https://good.net/nothing", "http_status", "404"),
        ("https://wrong.net/green", "tls_failed", ""),
        ("https://good.net/to-wrong", "tls_failed", ""),
        ("https://over.net/green", "tls_failed", ""),
        ("https://pinned.net/green", "tls_failed", ""),
        // Nobody named this one: the browser itself refuses the same certificate.
        ("https://other.net/green", "tls_failed", ""),
    ] {
        let answer = server.capture(json!({"url": url})).await;
        assert_ne!(answer.status, 200, "{url}: a picture");
        if problem == "tls_failed" {
            let said = answer.header("proxy-status");
            assert_eq!(said, Some("capture-egress; error=tls_certificate_error"), "{url}");
        }
        let told = answer.json();
        let kind = told["type"].as_str().and_then(|kind| kind.rsplit('/').next());
        let detail = told["detail"].as_str().unwrap_or_default();
        assert!(kind == Some(problem) && detail.contains(named), "{url}: {told}");
    }
    // Sub-resources too, and what was refused is told.
    let answer = server.capture(json!({"url": "https://good.net/sheets"})).await;
    is_green(&answer, "sheets");
    let refused = answer.header("x-capture-refusals").unwrap();
    // Once more without what it thinks was in the way: the browser's own retry.
    assert!(
        refused.split(", ").all(|one| one == "wrong.net:443;tls_pin_mismatch"),
        "{refused}"
    );
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    for reason in ["tls_pin_mismatch", "tls_untrusted"] {
        assert!(metrics.contains(&format!("reason=\"{reason}\"")), "{metrics}");
    }
    server.stop().await;
}
