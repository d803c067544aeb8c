//! Budgets: each trips on the use after the last, and a spent one is final.

use std::time::Duration;

use capture_egress::{Refusal, Spent};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::harness::{PUBLIC, Target, World, hello, reason, refusal, to_end, with_site};

async fn tripped(session: &capture_egress::Session) -> Refusal {
    timeout(Duration::from_secs(5), session.tripped())
        .await
        .expect("a budget is spent")
}

#[tokio::test]
async fn the_request_after_the_last_is_refused_and_trips_the_session() {
    let mut world = with_site().await;
    world.budget.requests = 2;
    let proxy = world.open().await;
    for _ in 0..2 {
        assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    }
    assert!(
        timeout(Duration::from_millis(50), proxy.session.tripped())
            .await
            .is_err(),
        "not before"
    );
    let answer = (403, "connection_limit_reached".into(), "budget_requests".into());
    assert_eq!(refusal(&proxy.get("http://site.com/").await), answer);
    assert_eq!(tripped(&proxy.session).await, Refusal::Budget(Spent::Requests));
    assert_eq!(world.wires.dialled().len(), 2);
}

#[tokio::test]
async fn refused_requests_count_too() {
    let mut world = World::new();
    world.budget.requests = 1;
    let proxy = world.open().await;
    assert_eq!(reason(&proxy.get("http://127.0.0.1/").await), "loopback_address");
    assert_eq!(reason(&proxy.get("http://127.0.0.1/").await), "budget_requests");
}

#[tokio::test]
async fn a_new_host_after_the_last_is_refused_before_its_look_up() {
    let mut world = with_site().await;
    world.names.set("second.com", &[&[PUBLIC]]);
    world.budget.hosts = 1;
    let proxy = world.open().await;
    for _ in 0..2 {
        assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(
        reason(&proxy.get("http://localhost/").await),
        "localhost_name",
        "a forbidden name costs no host"
    );
    assert_eq!(reason(&proxy.get("http://second.com/").await), "budget_hosts");
    assert_eq!(tripped(&proxy.session).await, Refusal::Budget(Spent::Hosts));
    assert!(!world.names.asked().contains(&"second.com".to_owned()));
}

#[tokio::test]
async fn more_open_sockets_than_allowed_are_refused_without_tripping() {
    let mut world = with_site().await;
    world.budget.sockets = 1;
    let proxy = world.open().await;
    let mut held = proxy.connect().await;
    held.write_all(b"GET http://site.com/").await.unwrap();
    assert_eq!(reason(&proxy.get("http://site.com/").await), "budget_sockets");
    // It trips nothing, so the place is what tells whose refusal it was.
    let refused = proxy.session.refusals();
    let places: Vec<(&str, u16)> = refused.iter().map(|one| (one.host.as_str(), one.port)).collect();
    assert_eq!(places, [("site.com", 80)]);
    held.write_all(b" HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(to_end(&mut held).await.starts_with("HTTP/1.1 200"));
    drop(held);
    let mut answer = String::new();
    for _ in 0..100 {
        answer = proxy.get("http://site.com/").await;
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "the place comes back: {answer}");
    assert!(
        timeout(Duration::from_millis(50), proxy.session.tripped())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_response_over_the_byte_budget_is_cut_short() {
    let mut world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    let body = "x".repeat(100_000);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{body}").leak();
    world
        .wires
        .route(&format!("{PUBLIC}:80"), Target::new().await.answering(answer));
    world.budget.wire_bytes = 50_000;
    let proxy = world.open().await;
    let got = proxy.get("http://site.com/").await;
    assert!(got.len() < 50_000, "{}", got.len());
    assert_eq!(tripped(&proxy.session).await, Refusal::Budget(Spent::WireBytes));
    assert_eq!(reason(&proxy.get("http://site.com/").await), "budget_wire_bytes");
    let outcomes = proxy.outcomes(3).await;
    assert_eq!(outcomes, ["allowed", "budget_wire_bytes", "budget_wire_bytes"]);
}

#[tokio::test]
async fn bytes_through_a_tunnel_count_in_both_directions() {
    let mut world = World::new();
    let target = Target::new().await;
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:443"), target.address);
    world.budget.wire_bytes = 10_000;
    let proxy = world.open().await;
    let (mut browser, _) = proxy.tunnel("site.com:443").await;
    browser.write_all(&hello(Some("site.com"))).await.unwrap();
    let mut seen = target.accept().await;
    seen.write_all(&[7; 6000]).await.unwrap();
    let _ = crate::harness::exactly(&mut browser, 6000).await;
    browser.write_all(&[7; 6000]).await.unwrap();
    assert_eq!(tripped(&proxy.session).await, Refusal::Budget(Spent::WireBytes));
    let _ = to_end(&mut browser).await;
}

#[tokio::test]
async fn at_the_deadline_open_connections_are_cut_and_new_ones_refused() {
    let mut world = World::new();
    let target = Target::new().await;
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:443"), target.address);
    world.deadline = Duration::from_millis(300);
    // So that nothing but the deadline can be what ends the tunnel.
    world.timings.idle = Duration::from_secs(60);
    let proxy = world.open().await;
    let (mut browser, _) = proxy.tunnel("site.com:443").await;
    browser.write_all(&hello(Some("site.com"))).await.unwrap();
    let mut seen = target.accept().await;
    assert_eq!(tripped(&proxy.session).await, Refusal::Budget(Spent::Deadline));
    let _ = to_end(&mut browser).await;
    let _ = to_end(&mut seen).await;
    assert_eq!(reason(&proxy.get("http://site.com/").await), "budget_deadline");
    let (report, _) = proxy.session.finish().await;
    assert_eq!(report.tripped, Some(Refusal::Budget(Spent::Deadline)));
}
