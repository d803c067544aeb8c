//! CONNECT: what must come first, and that nothing reaches the target before it has.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::authority::{pin, self_signed, tunnelled};
use crate::harness::{PUBLIC, Proxy, Target, World, exactly, head_of, hello, to_end};
use crate::pins::{exception, key, world};

async fn with_target(port: u16) -> (World, Target) {
    let (mut world, target) = (World::new(), Target::new().await);
    world.timings.header = Duration::from_millis(300);
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:{port}"), target.address);
    (world, target)
}

/// Opens a tunnel and sends `first`; gives the browser's and the target's end.
async fn opened(proxy: &Proxy, target: &Target, to: &str, first: &[u8]) -> (TcpStream, TcpStream) {
    let (mut browser, head) = proxy.tunnel(to).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    browser.write_all(first).await.unwrap();
    (browser, target.accept().await)
}

/// Both ends are closed, the target got nothing, and the log says why.
async fn is_cut(proxy: &Proxy, ends: (TcpStream, TcpStream), word: &str) {
    let (mut browser, mut seen) = ends;
    assert_eq!(to_end(&mut browser).await, "");
    assert_eq!(to_end(&mut seen).await, "");
    assert_eq!(proxy.outcomes(1).await, [word]);
}

#[tokio::test]
async fn a_client_hello_for_the_host_opens_the_tunnel_both_ways() {
    let (world, target) = with_target(443).await;
    let proxy = world.open().await;
    let first = hello(Some("site.com"));
    let (mut browser, mut seen) = opened(&proxy, &target, "site.com:443", &first).await;
    assert_eq!(exactly(&mut seen, first.len()).await, first);
    seen.write_all(b"server hello").await.unwrap();
    assert_eq!(exactly(&mut browser, 12).await, b"server hello");
    browser.write_all(b"more").await.unwrap();
    assert_eq!(exactly(&mut seen, 4).await, b"more");
    drop(browser);
    assert_eq!(to_end(&mut seen).await, "", "closing passes on");
    let report = proxy.session.report();
    assert_eq!(report.bytes, u64::try_from(first.len() + 16).unwrap());
    assert_eq!(report.decisions[0].outcome, "allowed");
}

#[tokio::test]
async fn a_client_hello_in_small_pieces_opens_the_tunnel() {
    let (world, target) = with_target(443).await;
    let proxy = world.open().await;
    let first = hello(Some("SITE.com"));
    let (mut browser, mut seen) = opened(&proxy, &target, "site.com:443", &first[..1]).await;
    for byte in &first[1..] {
        browser.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(exactly(&mut seen, first.len()).await, first);
}

#[tokio::test]
async fn a_tunnel_without_a_client_hello_is_cut() {
    for first in [
        &b"\x00\x01\x00\x58"[..],
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/1.1\r\nHost: site.com\r\n\r\n",
    ] {
        let (world, target) = with_target(443).await;
        let proxy = world.open().await;
        let ends = opened(&proxy, &target, "site.com:443", first).await;
        is_cut(&proxy, ends, "tunnel_not_tls").await;
    }
}

#[tokio::test]
async fn a_tunnel_for_another_name_is_cut() {
    let (world, target) = with_target(443).await;
    let proxy = world.open().await;
    let ends = opened(&proxy, &target, "site.com:443", &hello(Some("other.com"))).await;
    is_cut(&proxy, ends, "tunnel_sni_mismatch").await;
}

#[tokio::test]
async fn a_tunnel_to_a_name_without_a_server_name_is_cut() {
    let (world, target) = with_target(443).await;
    let proxy = world.open().await;
    let ends = opened(&proxy, &target, "site.com:443", &hello(None)).await;
    is_cut(&proxy, ends, "tunnel_sni_missing").await;
}

#[tokio::test]
async fn a_tunnel_to_an_address_needs_no_server_name_and_accepts_none() {
    let (world, target) = with_target(443).await;
    let proxy = world.open().await;
    let first = hello(None);
    let (_browser, mut seen) = opened(&proxy, &target, &format!("{PUBLIC}:443"), &first).await;
    assert_eq!(exactly(&mut seen, first.len()).await, first);

    let other = with_target(443).await;
    let proxy = other.0.open().await;
    let ends = opened(&proxy, &other.1, &format!("{PUBLIC}:443"), &hello(Some("site.com"))).await;
    is_cut(&proxy, ends, "tunnel_sni_mismatch").await;
}

#[tokio::test]
async fn a_silent_or_half_client_hello_is_cut_in_time() {
    for first in [&b""[..], &hello(Some("site.com"))[..20]] {
        let (world, target) = with_target(443).await;
        let proxy = world.open().await;
        let ends = opened(&proxy, &target, "site.com:443", first).await;
        is_cut(&proxy, ends, "tunnel_hello_missing").await;
    }
}

#[tokio::test]
async fn an_endless_client_hello_is_cut() {
    let (world, target) = with_target(443).await;
    let proxy = world.open().await;
    let ends = opened(&proxy, &target, "site.com:443", &[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]).await;
    is_cut(&proxy, ends, "tunnel_hello_too_large").await;
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: site.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_websocket_through_a_tunnel_on_the_plain_port_passes() {
    let (world, target) = with_target(80).await;
    let proxy = world.open().await;
    let (mut browser, mut seen) = opened(&proxy, &target, "site.com:80", UPGRADE.as_bytes()).await;
    assert!(
        head_of(&mut seen)
            .await
            .starts_with("GET /ws HTTP/1.1\r\nHost: site.com\r\n")
    );
    seen.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    assert!(head_of(&mut browser).await.starts_with("HTTP/1.1 101 "));
    browser.write_all(b"ping").await.unwrap();
    assert_eq!(exactly(&mut seen, 4).await, b"ping");
}

#[tokio::test]
async fn a_plain_tunnel_for_anything_but_a_websocket_to_its_host_is_cut() {
    for first in [
        UPGRADE.replace("site.com", "other.com"),
        UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c"),
        UPGRADE.replace("\r\n\r\n", "\r\n\r\nearly frame"),
        "GET / HTTP/1.1\r\nHost: site.com\r\n\r\n".to_owned(),
    ] {
        let (world, target) = with_target(80).await;
        let proxy = world.open().await;
        let ends = opened(&proxy, &target, "site.com:80", first.as_bytes()).await;
        is_cut(&proxy, ends, "tunnel_not_websocket").await;
    }
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_and_that_is_no_refusal() {
    let (mut world, target) = with_target(443).await;
    world.timings.idle = Duration::from_millis(200);
    let proxy = world.open().await;
    let (mut browser, mut seen) = opened(&proxy, &target, "site.com:443", &hello(Some("site.com"))).await;
    seen.write_all(b"server hello").await.unwrap();
    assert_eq!(to_end(&mut browser).await, "server hello");
    assert!(proxy.session.refusals().is_empty());
}

#[tokio::test]
async fn a_target_that_never_says_a_word_through_a_tunnel_is_a_timeout() {
    let (mut world, target) = with_target(443).await;
    // So that nothing but the wait for its first byte can be what ends the tunnel.
    world.timings.idle = Duration::from_secs(60);
    world.timings.first_byte = Duration::from_millis(200);
    let proxy = world.open().await;
    let (mut browser, _seen) = opened(&proxy, &target, "site.com:443", &hello(Some("site.com"))).await;
    assert_eq!(to_end(&mut browser).await, "");
    assert_eq!(proxy.outcomes(2).await, ["allowed", "response_timeout"]);
}

#[tokio::test]
async fn a_target_may_take_longer_for_its_first_word_than_it_may_be_idle_after_it() {
    let (mut world, target) = with_target(443).await;
    world.timings.idle = Duration::from_millis(100);
    world.timings.first_byte = Duration::from_secs(60);
    let proxy = world.open().await;
    let (mut browser, mut seen) = opened(&proxy, &target, "site.com:443", &hello(Some("site.com"))).await;
    // What is tried is that nothing happens for three times as long.
    tokio::time::sleep(Duration::from_millis(300)).await;
    seen.write_all(b"server hello").await.unwrap();
    assert_eq!(to_end(&mut browser).await, "server hello");
    assert!(proxy.session.refusals().is_empty());
}

/// The target speaks TLS with the proxy, so that its handshake is no first word. Asked is it by what the browser says.
#[tokio::test]
async fn a_named_host_that_never_answers_what_it_is_asked_is_a_timeout_and_one_not_asked_is_none() {
    for (said, outcomes) in [
        (&b"GET /x HTTP/1.1\r\n"[..], &["allowed", "response_timeout"][..]),
        (b"", &["allowed"]),
    ] {
        let pair = key();
        let named = vec![exception("site.com", &[pin(&pair)])];
        let (mut world, _site) = world(named, self_signed("site.com", &pair, |_| ()), &pair).await;
        world.timings.idle = Duration::from_millis(if said.is_empty() { 200 } else { 60_000 });
        world.timings.first_byte = Duration::from_millis(if said.is_empty() { 60_000 } else { 200 });
        let proxy = world.open().await;
        let mut tunnel = tunnelled(&proxy, "site.com", 443).await.unwrap();
        tunnel.stream.write_all(said).await.unwrap();
        let end = timeout(Duration::from_secs(10), tunnel.stream.read(&mut [0; 1])).await;
        assert!(!matches!(end.unwrap(), Ok(count) if count > 0));
        assert_eq!(proxy.outcomes(outcomes.len()).await, outcomes);
    }
}
