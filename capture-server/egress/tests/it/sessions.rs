//! Beginning and end: what a finished session leaves behind is a report and a listener, nothing else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PUBLIC, Target, World, exactly, hello, to_end, with_site};

#[tokio::test]
async fn finishing_cuts_every_connection_at_whatever_step_it_is() {
    let world = World::new();
    let target = Target::new().await;
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:443"), target.address);
    let proxy = world.open().await;
    let mut silent = proxy.connect().await;
    let mut begun = proxy.connect().await;
    begun.write_all(b"GET http://site").await.unwrap();
    let (mut waiting, _) = proxy.tunnel("site.com:443").await;
    let _unopened = target.accept().await;
    let (mut open, _) = proxy.tunnel("site.com:443").await;
    open.write_all(&hello(Some("site.com"))).await.unwrap();
    let mut seen = target.accept().await;
    let _ = exactly(&mut seen, hello(Some("site.com")).len()).await;

    let (report, listener) = timeout(Duration::from_secs(5), proxy.session.finish())
        .await
        .expect("at once");
    assert!(listener.is_some());
    for stream in [&mut silent, &mut begun, &mut waiting, &mut open, &mut seen] {
        assert_eq!(to_end(stream).await, "");
    }
    assert_eq!((report.requests, report.hosts), (4, 1));
}

#[tokio::test]
async fn the_listener_serves_the_next_scope_with_fresh_budgets_and_an_empty_log() {
    let mut world = with_site().await;
    world.budget.requests = 1;
    let proxy = world.open().await;
    assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    let (first, listener) = proxy.session.finish().await;
    assert_eq!((first.requests, first.decisions.len()), (1, 1));
    let next = world.open_on(listener.unwrap()).await;
    assert_eq!(next.session.report().requests, 0);
    assert!(next.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_that_nobody_accepted_do_not_reach_the_next_scope() {
    // On one thread, without an await in between, the session cannot have accepted these before it is finished.
    let world = with_site().await;
    let proxy = world.open().await;
    let waiting: Vec<std::net::TcpStream> = (0..5)
        .map(|_| std::net::TcpStream::connect(proxy.address).unwrap())
        .collect();
    let (_, listener) = proxy.session.finish().await;
    let next = world.open_on(listener.unwrap()).await;
    for stream in waiting {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(to_end(&mut TcpStream::from_std(stream).unwrap()).await, "");
    }
    assert!(next.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(next.session.report().requests, 1);
}

#[tokio::test]
async fn dropping_a_session_cuts_it_and_closes_the_listener() {
    let world = with_site().await;
    let proxy = world.open().await;
    let mut held = proxy.connect().await;
    held.write_all(b"GET http://site").await.unwrap();
    let address = proxy.address;
    drop(proxy.session);
    assert!(
        timeout(Duration::from_secs(5), held.read_u8())
            .await
            .expect("cut")
            .is_err()
    );
    let mut refused = false;
    for _ in 0..100 {
        refused = TcpStream::connect(address).await.is_err();
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused);
}

#[tokio::test]
async fn sessions_do_not_share_budgets_or_logs() {
    let mut world = with_site().await;
    world.budget.requests = 1;
    let (one, two) = (world.open().await, world.open().await);
    assert!(one.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    assert!(two.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    assert_eq!((one.session.report().requests, two.session.report().requests), (1, 1));
}
