//! What is told, to whom: T29, and the holes H2, H17 and H24 of Pixashot.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;

use crate::harness::{OK, PUBLIC, Target, World, reason, refusal, with_site};

/// What a log line is made of: everything that is written while the subscriber is the thread's own.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Writes everything here.
    pub fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        self.at(tracing::Level::TRACE)
    }

    /// Writes what has this level, or a higher one, here.
    pub fn at(&self, level: tracing::Level) -> impl tracing::Subscriber + Send + Sync + use<> {
        let writer = self.clone();
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn t29_no_secret_of_a_request_is_in_a_log_line_a_report_or_an_answer() {
    const CANARY: &str = "canary5eed";
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.subscriber());
    let world = with_site().await;
    let proxy = world.open().await;
    let fields = format!(
        "Authorization: Bearer {CANARY}\r\nProxy-Authorization: Basic {CANARY}\r\nCookie: a={CANARY}\r\n{CANARY}: {CANARY}\r\n"
    );
    let mut answers = Vec::new();
    for url in [
        format!("http://site.com/{CANARY}?token={CANARY}"),
        format!("http://user:{CANARY}@site.com/"),
        format!("http://127.0.0.1/{CANARY}"),
        format!("/{CANARY}"),
        format!("http://site.com:{CANARY}/"),
        format!("http://{CANARY} x/"),
    ] {
        answers.push(
            proxy
                .say(&format!("GET {url} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
                .await,
        );
    }
    let decisions = proxy.outcomes(6).await;
    assert_eq!(decisions[0], "allowed");
    let (report, _) = proxy.session.finish().await;
    let text = lines.text();
    assert!(
        text.contains("site.com") && text.contains("loopback_address"),
        "the log is there: {text}"
    );
    for shown in answers.into_iter().chain([text, format!("{report:?}")]) {
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

/// What somebody needs who looks for what a page did: in one line each, at the level that is shipped, and in the report.
#[tokio::test]
async fn every_decision_is_logged_with_capture_host_address_and_rule_and_its_bytes() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.at(tracing::Level::INFO));
    let world = with_site().await;
    let proxy = world.open().await;
    for url in ["http://site.com/", "http://169.254.169.254/"] {
        proxy.get(url).await;
    }
    let (report, _) = proxy.session.finish().await;
    let bytes = report.decisions[0].bytes;
    assert!(bytes > 40, "request and answer: {bytes}");
    let text = lines.text();
    for parts in [
        [
            "capture=c1",
            "host=\"site.com\"",
            &format!("address={PUBLIC}"),
            "outcome=\"allowed\"",
            &format!("bytes={bytes}"),
        ],
        [
            "capture=c1",
            "host=\"169.254.169.254\"",
            "port=80",
            "outcome=\"metadata_address\"",
            "bytes=0",
        ],
    ] {
        let told = |line: &&str| parts.iter().all(|part| line.contains(part));
        assert_eq!(text.lines().filter(told).count(), 1, "{parts:?}: {text}");
    }
}

#[tokio::test]
async fn a_page_that_is_refused_all_day_does_not_fill_the_log() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.at(tracing::Level::INFO));
    let world = World::new();
    let proxy = world.open().await;
    for _ in 0..300 {
        proxy.get("http://127.0.0.1/").await;
    }
    // That it was refused so often hides nothing of where it gets to.
    world.names.set("site.com", &[&[PUBLIC]]);
    world
        .wires
        .route(&format!("{PUBLIC}:80"), Target::new().await.answering(OK));
    assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    let (report, _) = proxy.session.finish().await;
    assert_eq!(report.decisions.len(), 301);
    for _ in 0..100 {
        if lines.text().contains("omitted") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let text = lines.text();
    assert_eq!(
        text.lines().filter(|line| line.contains("loopback_address")).count(),
        256
    );
    assert!(text.contains("omitted=44"), "{text}");
    let allowed = text.lines().find(|line| line.contains("allowed")).expect("its line");
    assert!(allowed.contains("site.com") && allowed.contains("bytes="), "{allowed}");
}

/// Pixashot's hole H2 as it was used: metadata, cluster services and the server's own health port read as pixels.
#[tokio::test]
async fn h2_metadata_cluster_services_and_the_servers_own_ports_are_not_to_be_seen() {
    let world = World::new();
    let proxy = world.open().await;
    for url in [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://169.254.170.2/v2/credentials/",
        "http://100.100.100.200/latest/meta-data/",
        "http://168.63.129.16/machine?comp=goalstate",
        "http://kubernetes.default.svc/api",
        "http://10.96.0.1/api",
        "http://127.0.0.1:8081/health/ready",
        "http://localhost:9090/metrics",
        "http://[fd00:ec2::254]/latest/meta-data/",
    ] {
        assert_eq!(refusal(&proxy.get(url).await).0, 403, "{url}");
    }
    assert!(world.names.asked().is_empty() && world.wires.dialled().is_empty());
}

/// Pixashot's hole H17: an error must never look like a page.
#[tokio::test]
async fn h17_no_refusal_and_no_failure_has_a_body_or_a_status_of_success() {
    let world = World::new();
    world.names.set("down.com", &[&[PUBLIC]]);
    let proxy = world.open().await;
    for url in [
        "http://127.0.0.1/",
        "http://missing.com/",
        "http://down.com/",
        "/",
        "http://site.com:22/",
    ] {
        let (status, ..) = refusal(&proxy.get(url).await);
        assert!(status >= 400, "{url}: {status}");
    }
}

/// Pixashot's hole H24: a caller's `Host` or metadata header does not choose where a request goes.
#[tokio::test]
async fn h24_a_callers_header_does_not_aim_a_request() {
    let target = Target::new().await;
    let world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:80"), target.address);
    let proxy = world.open().await;
    let fields =
        "Host: 169.254.169.254\r\nMetadata-Flavor: Google\r\nX-Forwarded-Host: metadata.google.internal\r\n\r\n";
    let mut stream = proxy.connect().await;
    stream
        .write_all(format!("GET http://site.com/ HTTP/1.1\r\n{fields}").as_bytes())
        .await
        .unwrap();
    let mut seen = target.accept().await;
    let head = crate::harness::head_of(&mut seen).await;
    assert!(
        head.contains("\r\nHost: site.com\r\n") && !head.contains("Host: 169.254"),
        "{head}"
    );
    let aimed = format!("GET http://169.254.169.254/ HTTP/1.1\r\n{fields}");
    assert_eq!(reason(&proxy.say(&aimed).await), "metadata_address");
}
