//! The field's advisories, by their number in our list (T1 to T31), as far as a proxy alone can stand against them.
//!
//! Not here: what only a browser, a jail or the API can show (T1, T11 to T13, T15, T17 to T20, T22 to T26, T30, T31),
//! rebinding over real sockets (T8, `rebinding`), and that nothing dials without a decision (T14, the compile-fail
//! examples on `Pinned`).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use screenshot_policy::egress::EgressException;
use screenshot_policy::unit::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{OK, PUBLIC, Proxy, Target, World, hello, reason, refusal, with_site};

/// Asks in both ways that a browser has; both answers' reasons.
async fn both(proxy: &Proxy, host: &str) -> [String; 2] {
    let plain = reason(&proxy.get(&format!("http://{host}/")).await);
    [plain, reason(&proxy.tunnel(&format!("{host}:443")).await.1)]
}

#[tokio::test]
async fn t2_a_scheme_is_no_way_around_however_it_is_spelled() {
    let world = with_site().await;
    let proxy = world.open().await;
    for url in [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "File://localhost/etc/passwd",
        "view-source:http://site.com/",
        "ftp://site.com/",
        "gopher://site.com/",
        "chrome://version/",
        "data:text/html,x",
        "javascript:x",
        "blob:http://site.com/x",
        "ws://site.com/",
        "https://site.com/",
        "\thttp://site.com/",
        "ht\ttp://site.com/",
        "http:/site.com/",
        "http:\\\\site.com\\",
    ] {
        assert_eq!(refusal(&proxy.get(url).await).0, 400, "{url}");
    }
    for url in ["HTTP://SITE.COM/", "Http://Site.Com./", "http://site.com.:80/"] {
        assert!(proxy.get(url).await.starts_with("HTTP/1.1 200"), "{url}");
    }
    for host in ["LOCALHOST", "LocalHost.", "KUBERNETES.default.SVC", "x.INTERNAL."] {
        for word in both(&proxy, host).await {
            assert!(word.ends_with("_name"), "{host}: {word}");
        }
    }
    for host in ["%6cocalhost", "local%68ost", "127%2e0.0.1", "[%3a:1]"] {
        assert_eq!(both(&proxy, host).await, ["head_authority"; 2], "{host}");
    }
}

#[tokio::test]
async fn t3_every_spelling_of_loopback_is_refused() {
    let world = World::new();
    let proxy = world.open().await;
    for (host, word) in [
        ("[::ffff:7f00:1]", "loopback_address"),
        ("[::ffff:127.0.0.1]", "loopback_address"),
        ("[0:0:0:0:0:ffff:127.0.0.1]", "loopback_address"),
        ("[::1]", "loopback_address"),
        ("[0000:0000:0000:0000:0000:0000:0000:0001]", "loopback_address"),
        ("[::]", "unspecified_address"),
        ("0.0.0.0", "unspecified_address"),
        ("127.0.0.1", "loopback_address"),
        ("localhost", "localhost_name"),
        ("localhost.", "localhost_name"),
        ("a.localhost", "localhost_name"),
        ("localhost.localdomain", "local_name"),
        ("ip6-localhost", "single_label_name"),
        ("2130706433", "head_authority"),
        ("017700000001", "head_authority"),
        ("0177.0.0.1", "head_authority"),
        ("0x7f000001", "head_authority"),
        ("0X7F.0.0.1", "head_authority"),
        ("127.1", "head_authority"),
        ("127.0.1", "head_authority"),
        ("0", "head_authority"),
        ("127.0.0.1.", "head_authority"),
        ("[::1%25lo]", "head_authority"),
        ("[::1%lo]", "head_authority"),
        ("::1", "head_authority"),
    ] {
        assert_eq!(both(&proxy, host).await, [word; 2], "{host}");
    }
    // Ideographic full stops and full-width digits never reach a proxy as such; if they do, they are no host.
    for host in ["127\u{3002}0.0.1", "\u{ff11}27.0.0.1", "lo\u{24d2}alhost"] {
        assert_eq!(refusal(&proxy.get(&format!("http://{host}/")).await).0, 400, "{host}");
    }
    assert!(world.names.asked().is_empty() && world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t4_an_ipv4_address_wrapped_in_ipv6_is_refused_as_literal_and_as_answer() {
    let world = World::new();
    let proxy = world.open().await;
    for wrapped in [
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:53aa:64c:0:0:5601:5601",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "2606:4700::5efe:a9fe:a9fe",
        "2606:4700::200:5efe:a9fe:a9fe",
    ] {
        assert_eq!(
            both(&proxy, &format!("[{wrapped}]")).await,
            ["embedded_ipv4_address"; 2],
            "{wrapped}"
        );
        world.names.set("evil.com", &[&[wrapped]]);
        assert_eq!(
            both(&proxy, "evil.com").await,
            ["embedded_ipv4_address"; 2],
            "{wrapped}"
        );
    }
    for (ip, class) in [
        ("fec0::1", "site_local_address"),
        ("::ffff:a9fe:a9fe", "metadata_address"),
    ] {
        assert_eq!(both(&proxy, &format!("[{ip}]")).await, [class; 2], "{ip}");
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t5_ranges_that_others_forget_are_refused() {
    let world = World::new();
    let proxy = world.open().await;
    for ip in [
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "198.18.0.1",
        "198.19.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "192.88.99.1",
        "[3fff::1]",
        "[5f00::1]",
        "[100::1]",
        "[2001:db8::1]",
        "[ff02::1]",
    ] {
        for word in both(&proxy, ip).await {
            assert!(word.ends_with("_address"), "{ip}: {word}");
        }
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t6_a_service_that_asked_for_nothing_refuses_everything_special() {
    let world = World::new();
    assert!(world.policy().exceptions().is_empty());
    let proxy = world.open().await;
    for host in [
        "127.0.0.1",
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "[fd00::1]",
        "[fe80::1]",
    ] {
        let plain = refusal(&proxy.get(&format!("http://{host}/")).await);
        assert_eq!(
            (plain.0, plain.1.as_str()),
            (403, "destination_ip_prohibited"),
            "{host}"
        );
    }
}

#[tokio::test]
async fn t7_a_redirect_is_the_browsers_to_follow_and_each_hop_is_decided_anew() {
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://169.254.169.254/latest\r\nRefresh: 0;url=http://10.0.0.1/\r\n\
             Link: <http://127.0.0.1/>; rel=preload\r\nContent-Length: 0\r\n\r\n"
        );
        let world = World::new();
        world.names.set("site.com", &[&[PUBLIC]]);
        let target = Target::new().await.answering(answer.leak());
        world.wires.route(&format!("{PUBLIC}:80"), target);
        let proxy = world.open().await;
        let got = proxy.get("http://site.com/").await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{got}");
        assert_eq!(world.wires.dialled().len(), 1, "the proxy follows nothing itself");
        for hop in ["169.254.169.254", "10.0.0.1", "127.0.0.1"] {
            let words = both(&proxy, hop).await;
            assert!(words.iter().all(|word| word.ends_with("_address")), "{words:?}");
        }
        assert_eq!(world.wires.dialled().len(), 1);
    }
}

#[tokio::test]
async fn t7_a_chain_of_redirects_ends_at_the_budget_of_requests() {
    let mut world = with_site().await;
    world.budget.requests = 20;
    let proxy = world.open().await;
    let mut answers = Vec::new();
    for hop in 0..25 {
        answers.push(proxy.get(&format!("http://site.com/{hop}")).await);
    }
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.starts_with("HTTP/1.1 200"))
            .count(),
        20
    );
    assert_eq!(reason(&answers[24]), "budget_requests");
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";

#[tokio::test]
async fn t9_a_websocket_is_decided_like_everything_else() {
    let world = World::new();
    world.names.set("evil.com", &[&["10.0.0.1"]]);
    let proxy = world.open().await;
    for (host, class) in [
        ("127.0.0.1", "loopback_address"),
        ("[::1]", "loopback_address"),
        ("169.254.169.254", "metadata_address"),
        ("evil.com", "private_address"),
        ("localhost", "localhost_name"),
    ] {
        let plain = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}");
        assert_eq!(reason(&proxy.say(&plain).await), class);
        for port in [80, 443] {
            assert_eq!(
                reason(&proxy.tunnel(&format!("{host}:{port}")).await.1),
                class,
                "{host}:{port}"
            );
        }
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t9_a_websocket_cannot_be_aimed_elsewhere_once_its_tunnel_is_open() {
    let world = World::new();
    let target = Target::new().await;
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:80"), target.address);
    let proxy = world.open().await;
    for inner in ["Host: 169.254.169.254", "Host: site.com\r\nHost: 10.0.0.1", "X: y"] {
        let (mut stream, head) = proxy.tunnel("site.com:80").await;
        assert!(head.starts_with("HTTP/1.1 200"));
        let mut seen = target.accept().await;
        stream
            .write_all(format!("GET / HTTP/1.1\r\n{inner}\r\n{UPGRADE}").as_bytes())
            .await
            .unwrap();
        assert_eq!(
            crate::harness::to_end(&mut seen).await,
            "",
            "{inner}: not a byte reaches the target"
        );
    }
    assert!(
        proxy
            .outcomes(3)
            .await
            .iter()
            .all(|word| *word == "tunnel_not_websocket")
    );
}

/// TURN and ICE over TCP come as a CONNECT whose first bytes are STUN.
#[tokio::test]
async fn t11_turn_over_tcp_gets_no_byte_through_a_tunnel() {
    let world = World::new();
    let target = Target::new().await;
    world.names.set("turn.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:443"), target.address);
    let proxy = world.open().await;
    let (mut stream, _) = proxy.tunnel("turn.com:443").await;
    let mut seen = target.accept().await;
    stream
        .write_all(b"\x00\x03\x00\x08\x21\x12\xa4\x42abcdefghijkl\x00\x19\x00\x04\x11\x00\x00\x00")
        .await
        .unwrap();
    assert_eq!(crate::harness::to_end(&mut seen).await, "");
    assert_eq!(proxy.outcomes(1).await, ["tunnel_not_tls"]);
}

#[tokio::test]
async fn t10_what_the_browser_would_reach_past_a_proxy_is_refused_when_it_comes_to_one() {
    let world = World::new();
    let own = Target::new().await;
    let proxy = world.open().await;
    for port in [80, 443, own.address.port(), proxy.address.port()] {
        for host in ["127.0.0.1", "[::1]", "localhost", "169.254.1.1", "[fe80::1]"] {
            let answer = proxy.get(&format!("http://{host}:{port}/")).await;
            assert_eq!(refusal(&answer).0, 403, "{host}:{port}");
        }
    }
    assert!(own.is_left_alone().await);
}

#[tokio::test]
async fn t16_the_longest_lists_decide_in_no_time() {
    let mut world = with_site().await;
    let long = ["a".repeat(60), "a".repeat(63), "a".repeat(63), "a".repeat(55)].join(".");
    world.rules.domains.deny = (0..256).map(|n| format!("*.{n:03}{long}").parse().unwrap()).collect();
    world.rules.cidrs.deny = (0..128).map(|n| format!("1.{n}.0.0/16").parse().unwrap()).collect();
    let policy = world.policy();
    let (host, now) = (
        format!("b.{long}").parse().unwrap(),
        crate::harness::NOW.parse().unwrap(),
    );
    let begun = Instant::now();
    for _ in 0..100 {
        let verdict = policy.admit_host(&host, 443, now).unwrap();
        assert!(
            policy
                .admit_addresses(&verdict, &[PUBLIC.parse().unwrap(); 64], now)
                .is_ok()
        );
    }
    assert!(
        begun.elapsed() / 100 < Duration::from_millis(10),
        "{:?}",
        begun.elapsed() / 100
    );
}

#[tokio::test]
async fn t27_an_allow_list_compares_parsed_hosts() {
    let mut world = with_site().await;
    world.rules.domains.allow = vec!["good.com".parse().unwrap(), "*.good.com".parse().unwrap()];
    for name in ["good.com", "www.good.com", "good.com.evil.net", "notgood.com"] {
        world.names.set(name, &[&[PUBLIC]]);
    }
    let proxy = world.open().await;
    for host in ["good.com", "www.good.com", "GOOD.com."] {
        assert!(
            proxy.get(&format!("http://{host}/")).await.starts_with("HTTP/1.1 200"),
            "{host}"
        );
    }
    for (url, word) in [
        ("http://good.com.evil.net/", "unlisted_name"),
        ("http://notgood.com/", "unlisted_name"),
        ("http://evil.net/good.com", "unlisted_name"),
        ("http://evil.net/?http://good.com", "unlisted_name"),
        ("http://93.184.216.34/", "unlisted_name"),
        ("http://good.com@evil.net/", "head_userinfo"),
        ("http://good.com:80@evil.net/", "head_userinfo"),
        ("http://good.com\\@evil.net/", "head_userinfo"),
        ("http://good.com\\.evil.net/", "head_authority"),
        ("http://good.com#@evil.net/", "head_malformed"),
    ] {
        assert_eq!(reason(&proxy.get(url).await), word, "{url}");
    }
    let asked = world.names.asked();
    assert!(asked.iter().all(|name| name.ends_with("good.com")), "{asked:?}");
}

#[tokio::test]
async fn t28_an_entry_that_allows_switches_no_other_check_off() {
    let mut world = World::new();
    world.rules.domains.allow = vec!["*.com".parse().unwrap()];
    world.rules.cidrs.allow = vec!["0.0.0.0/0".parse().unwrap()];
    world.rules.exceptions = vec![EgressException {
        host: "intra.com".parse().unwrap(),
        ports: vec![Port::try_from(8080u64).unwrap(), Port::HTTPS],
        cidr: Some("10.1.0.0/16".parse().unwrap()),
        reason: "a test".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
    }];
    world.names.set(
        "intra.com",
        &[
            &["10.1.0.1"],
            &["169.254.169.254"],
            &["127.0.0.1"],
            &["10.2.0.1"],
            &["10.1.0.1"],
        ],
    );
    world.names.set("site.com", &[&["10.1.0.1"]]);
    let target = Target::new().await;
    let address = target.address;
    world.wires.route("10.1.0.1:8080", Target::new().await.answering(OK));
    world.wires.route("10.1.0.1:443", address);
    let proxy = world.open().await;
    let get = async |url: &str| proxy.get(url).await;
    assert!(get("http://intra.com:8080/").await.starts_with("HTTP/1.1 200"));
    // Pinned anew for each connection, metadata and loopback closed, the range kept to.
    assert_eq!(reason(&get("http://intra.com:8080/").await), "metadata_address");
    assert_eq!(reason(&get("http://intra.com:8080/").await), "loopback_address");
    assert_eq!(reason(&get("http://intra.com:8080/").await), "outside_exception");
    // Ports and schemes as ever, and TLS for the host in a tunnel.
    assert_eq!(reason(&get("http://intra.com:22/").await), "port_not_allowed");
    assert_eq!(reason(&get("https://intra.com:8080/").await), "head_scheme");
    assert_eq!(reason(&get("http://10.1.0.1:8080/").await), "private_address");
    assert_eq!(reason(&get("http://site.com/").await), "private_address");
    let (mut stream, _) = proxy.tunnel("intra.com:443").await;
    let mut seen = target.accept().await;
    stream.write_all(&hello(Some("other.com"))).await.unwrap();
    assert_eq!(crate::harness::to_end(&mut seen).await, "");
}

/// What a log line is made of: everything that is written while the subscriber is the thread's own.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

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
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
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
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains("site.com") && text.contains("loopback_address"),
        "the log is there: {text}"
    );
    for shown in answers.into_iter().chain([text, format!("{report:?}")]) {
        assert!(!shown.contains(CANARY), "{shown}");
    }
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
