//! Ways on from a page that was let through, and ways past the proxy: T7, T9 to T11.

use tokio::io::AsyncWriteExt;

use super::both;
use crate::harness::{PUBLIC, Target, World, reason, refusal, with_site};

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
