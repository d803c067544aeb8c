//! Plain requests: what the target gets, what the browser gets, and that one connection is one request.

use bytes::Bytes;
use capture_egress::Synthetic;
use tokio::io::AsyncWriteExt;

use crate::harness::{OK, PUBLIC, Target, World, exactly, head_of, reason, refusal, to_end, with_site};

/// A world in which `site.com` leads to a target that the test plays itself.
async fn with_target() -> (World, Target) {
    let (world, target) = (World::new(), Target::new().await);
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:80"), target.address);
    (world, target)
}

#[tokio::test]
async fn the_target_gets_origin_form_and_none_of_the_proxys_fields() {
    let (world, target) = with_target().await;
    let proxy = world.open().await;
    let mut browser = proxy.connect().await;
    let request = "GET http://site.com/a?b HTTP/1.1\r\nHost: other.com\r\nProxy-Connection: keep-alive\r\n\
                   Proxy-Authorization: Basic eDp5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nCookie: c=d\r\n\r\n";
    browser.write_all(request.as_bytes()).await.unwrap();
    let mut seen = target.accept().await;
    let expected = "GET /a?b HTTP/1.1\r\nHost: site.com\r\nCookie: c=d\r\nConnection: close\r\n\r\n";
    assert_eq!(head_of(&mut seen).await, expected);
    seen.write_all(OK.as_bytes()).await.unwrap();
    let answer = to_end(&mut browser).await;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    );
}

#[tokio::test]
async fn a_body_is_passed_on_whole() {
    let (world, target) = with_target().await;
    let proxy = world.open().await;
    let mut browser = proxy.connect().await;
    browser
        .write_all(b"POST http://site.com/ HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc")
        .await
        .unwrap();
    let mut seen = target.accept().await;
    assert!(head_of(&mut seen).await.contains("Content-Length: 6\r\n"));
    browser.write_all(b"def").await.unwrap();
    assert_eq!(exactly(&mut seen, 6).await, b"abcdef");
}

#[tokio::test]
async fn what_follows_a_request_never_reaches_the_target() {
    let (world, target) = with_target().await;
    let proxy = world.open().await;
    let mut browser = proxy.connect().await;
    browser
        .write_all(b"GET http://site.com/ HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut seen = target.accept().await;
    let _ = head_of(&mut seen).await;
    browser
        .write_all(b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(
        to_end(&mut seen).await,
        "",
        "the exchange is cut and nothing more was sent"
    );
}

#[tokio::test]
async fn two_requests_at_once_are_refused_before_any_look_up() {
    let (world, target) = with_target().await;
    let proxy = world.open().await;
    let twice = "GET http://site.com/ HTTP/1.1\r\n\r\n".repeat(2);
    assert_eq!(reason(&proxy.say(&twice).await), "head_pipelined");
    assert!(world.names.asked().is_empty());
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn a_request_that_was_not_meant_for_a_proxy_is_400() {
    let world = with_site().await;
    let proxy = world.open().await;
    for (text, word) in [
        ("GET / HTTP/1.1\r\nHost: site.com\r\n\r\n", "head_origin_form"),
        ("OPTIONS * HTTP/1.1\r\nHost: site.com\r\n\r\n", "head_origin_form"),
        ("GET https://site.com/ HTTP/1.1\r\n\r\n", "head_scheme"),
        ("GET http://u:p@site.com/ HTTP/1.1\r\n\r\n", "head_userinfo"),
        ("CONNECT u@site.com:443 HTTP/1.1\r\n\r\n", "head_userinfo"),
        ("GET http://site.com/ HTTP/1.0\r\n\r\n", "head_version"),
        (
            "POST http://site.com/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "head_framing",
        ),
        ("nonsense\r\n\r\n", "head_malformed"),
    ] {
        let expected = (400, "http_request_error".to_owned(), word.to_owned());
        assert_eq!(refusal(&proxy.say(text).await), expected, "{text}");
    }
    assert!(world.wires.dialled().is_empty());
    assert_eq!(proxy.session.refusals().len(), 8);
}

#[tokio::test]
async fn a_head_over_the_bound_is_refused() {
    let proxy = with_site().await.open().await;
    // What is promised, and not what the constant happens to be.
    let bound = 64 * 1024;
    let fits = format!("GET http://site.com/{} HTTP/1.1\r\n\r\n", "a".repeat(bound - 64));
    assert!(proxy.say(&fits).await.starts_with("HTTP/1.1 200"));
    let over = format!("GET http://site.com/{} HTTP/1.1\r\n\r\n", "a".repeat(bound));
    assert_eq!(reason(&proxy.say(&over).await), "head_too_large");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let mut world = with_site().await;
    world.timings.header = std::time::Duration::from_millis(150);
    let proxy = world.open().await;
    let mut browser = proxy.connect().await;
    browser.write_all(b"GET http://site.com/ HT").await.unwrap();
    assert_eq!(reason(&to_end(&mut browser).await), "head_slow");
    let mut idle = proxy.connect().await;
    assert_eq!(
        to_end(&mut idle).await,
        "",
        "a connection without a word is closed without one"
    );
}

#[tokio::test]
async fn a_body_ends_where_its_length_says() {
    let world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nX: smuggled\r\n\r\n";
    world
        .wires
        .route(&format!("{PUBLIC}:80"), Target::new().await.answering(answer));
    let answer = world.open().await.get("http://site.com/").await;
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
}

#[tokio::test]
async fn interim_responses_are_skipped_and_bounded() {
    let world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    world
        .wires
        .route(&format!("{PUBLIC}:80"), Target::new().await.answering(hints));
    let proxy = world.open().await;
    assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200 OK"));
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(50).leak();
    world
        .wires
        .route(&format!("{PUBLIC}:80"), Target::new().await.answering(endless));
    assert_eq!(reason(&proxy.get("http://site.com/").await), "response_too_large");
}

#[tokio::test]
async fn a_head_of_a_target_over_the_bound_is_refused() {
    let world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    let proxy = world.open().await;
    // What is promised, and not what the constant happens to be.
    let bound = 64 * 1024;
    for (filler, fits) in [(bound - 64, true), (bound, false)] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
            "a".repeat(filler)
        )
        .leak();
        world
            .wires
            .route(&format!("{PUBLIC}:80"), Target::new().await.answering(answer));
        let got = proxy.get("http://site.com/").await;
        if fits {
            assert!(got.starts_with("HTTP/1.1 200"));
        } else {
            assert_eq!(reason(&got), "response_too_large");
        }
    }
}

#[tokio::test]
async fn a_target_that_breaks_the_protocol_gives_502() {
    let world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    let proxy = world.open().await;
    for (answer, word) in [
        ("SSH-2.0-x\r\n\r\n", "response_malformed"),
        ("HTTP/1.1 407 Give me the password\r\n\r\n", "response_status"),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
            "response_status",
        ),
        ("HTTP/1.1 200 O", "response_incomplete"),
    ] {
        world
            .wires
            .route(&format!("{PUBLIC}:80"), Target::new().await.answering(answer));
        let (status, _, details) = refusal(&proxy.get("http://site.com/").await);
        assert_eq!((status, details.as_str()), (502, word), "{answer}");
    }
}

#[tokio::test]
async fn a_silent_target_gives_504() {
    let (mut world, target) = with_target().await;
    world.timings.first_byte = std::time::Duration::from_millis(150);
    let proxy = world.open().await;
    let asked = tokio::spawn(async move { (proxy.get("http://site.com/").await, proxy) });
    let _silent = target.accept().await;
    let (answer, _proxy) = asked.await.unwrap();
    assert_eq!(
        refusal(&answer),
        (504, "http_response_timeout".into(), "response_timeout".into())
    );
}

/// The bound for the first byte is far, and no longer counts.
#[tokio::test]
async fn a_response_that_falls_silent_is_cut_and_that_is_no_refusal() {
    let (mut world, target) = with_target().await;
    world.timings.idle = std::time::Duration::from_millis(200);
    let proxy = world.open().await;
    let mut browser = proxy.connect().await;
    browser
        .write_all(b"GET http://site.com/ HTTP/1.1\r\nHost: site.com\r\n\r\n")
        .await
        .unwrap();
    let mut silent = target.accept().await;
    silent
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        .await
        .unwrap();
    let began = std::time::Instant::now();
    assert!(to_end(&mut browser).await.ends_with("half"));
    assert!(began.elapsed() < world.timings.first_byte / 2, "{:?}", began.elapsed());
    assert!(proxy.session.refusals().is_empty());
}

#[tokio::test]
async fn a_websocket_upgrade_becomes_a_two_way_stream() {
    let (world, target) = with_target().await;
    let proxy = world.open().await;
    let mut browser = proxy.connect().await;
    let upgrade = "GET http://site.com/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    browser.write_all(upgrade.as_bytes()).await.unwrap();
    let mut seen = target.accept().await;
    assert!(
        head_of(&mut seen)
            .await
            .contains("Upgrade: websocket\r\nConnection: Upgrade\r\n")
    );
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly";
    seen.write_all(switch.as_bytes()).await.unwrap();
    assert!(head_of(&mut browser).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(exactly(&mut browser, 5).await, b"early");
    browser.write_all(b"ping").await.unwrap();
    assert_eq!(exactly(&mut seen, 4).await, b"ping");
    seen.write_all(b"pong").await.unwrap();
    assert_eq!(exactly(&mut browser, 4).await, b"pong");
}

fn page(world: &mut World) {
    world.synthetic = Some(Synthetic {
        host: "c1.html-content.invalid".into(),
        content_type: "text/html; charset=utf-8",
        body: Bytes::from_static(b"<p>mine</p>"),
    });
}

#[tokio::test]
async fn the_callers_html_is_served_without_any_network() {
    let mut world = World::new();
    page(&mut world);
    let proxy = world.open().await;
    let answer = proxy.get("http://c1.html-content.invalid/").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n<p>mine</p>"), "{answer}");
    let missing = proxy.get("http://c1.html-content.invalid/favicon.ico").await;
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert!(
        proxy
            .say("POST http://c1.html-content.invalid/ HTTP/1.1\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 404")
    );
    let head = proxy.say("HEAD http://c1.html-content.invalid/ HTTP/1.1\r\n\r\n").await;
    assert!(
        head.contains("Content-Length: 11\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for text in [&answer, &missing, &head] {
        assert!(
            text.contains("\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"),
            "{text}"
        );
    }
    assert_eq!((world.names.asked().len(), world.wires.dialled().len()), (0, 0));
    let report = proxy.session.report();
    assert_eq!((report.bytes, report.hosts, report.requests), (0, 0, 4));
}

#[tokio::test]
async fn the_synthetic_host_is_served_to_its_own_session_and_only_plainly() {
    let mut world = World::new();
    page(&mut world);
    let proxy = world.open().await;
    assert_eq!(
        reason(&proxy.get("http://c2.html-content.invalid/").await),
        "invalid_name"
    );
    assert_eq!(
        reason(&proxy.get("http://c1.html-content.invalid:443/").await),
        "invalid_name"
    );
    assert_eq!(
        reason(&proxy.tunnel("c1.html-content.invalid:443").await.1),
        "invalid_name"
    );
    world.synthetic = None;
    let other = world.open().await;
    assert_eq!(
        reason(&other.get("http://c1.html-content.invalid/").await),
        "invalid_name"
    );
}
