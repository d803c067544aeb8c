//! Who shares a browser with whom, and until when.

use serde_json::json;

use screenshot_policy::policy::{CaptureLimits, Isolation};

use crate::harness::{Jailer, Running, Site, get, key, keyset, limits, policy_with, until};

async fn running(isolation: Isolation, limits: CaptureLimits) -> (Running, Jailer) {
    let site = Site::new(limits);
    site.write("policy.json", &policy_with(limits, isolation).canonical_json());
    site.write("keyset.json", &keyset(1, &[1, 2]));
    let args = site.args();
    let jailer = Jailer::start(&site);
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    (server, jailer)
}

async fn counter(server: &Running, line: &str) -> u64 {
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    let found = metrics
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0, |number| number.parse().unwrap())
}

async fn launched(server: &Running) -> u64 {
    counter(server, "screenshot_server_browsers_launched_total").await
}

/// Waits until every capture is cleared away and the preparations are made.
async fn settled(server: &Running) {
    let mut last = None;
    until("rest", async || {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let busy = counter(server, "screenshot_server_slots_in_use").await;
        let now = Some((launched(server).await, busy));
        let rest = now == last && busy == 0;
        last = now;
        rest
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_captures_share_a_browser_and_another_clients_do_not() {
    let (server, _jailer) = running(Isolation::PerClient, limits(20_000)).await;
    assert_eq!(server.html("<p>first").await.status, 200);
    settled(&server).await;
    let before = launched(&server).await;
    for _ in 0..5 {
        assert_eq!(server.html("<p>again").await.status, 200);
    }
    settled(&server).await;
    assert_eq!(
        launched(&server).await,
        before,
        "a client's later captures launch nothing"
    );
    assert_eq!(counter(&server, "screenshot_server_browsers{state=\"bound\"}").await, 1);
    let body = json!({"html_content": "<p>other"});
    assert_eq!(server.capture_as(key(2).0.text(), body).await.status, 200);
    settled(&server).await;
    assert_eq!(counter(&server, "screenshot_server_browsers{state=\"bound\"}").await, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn per_capture_every_capture_has_a_browser_of_its_own() {
    let (server, _jailer) = running(Isolation::PerCapture, limits(20_000)).await;
    for _ in 0..3 {
        assert_eq!(server.html("<p>one").await.status, 200);
    }
    settled(&server).await;
    assert_eq!(
        counter(&server, "screenshot_server_browsers_retired_total{reason=\"served\"}").await,
        3
    );
    assert_eq!(counter(&server, "screenshot_server_browsers{state=\"bound\"}").await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_saw_an_incident_serves_nobody_again() {
    let (server, _jailer) = running(Isolation::PerClient, limits(2_000)).await;
    assert_eq!(server.html("<p>first").await.status, 200);
    assert_eq!(server.html("<script>for(;;){}</script>").await.problem().1, "timeout");
    settled(&server).await;
    assert_eq!(
        counter(&server, "screenshot_server_browsers_retired_total{reason=\"timeout\"}").await,
        1
    );
    assert_eq!(server.html("<p>next").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_capture_finds_a_browser_and_a_page_ready() {
    let (server, _jailer) = running(Isolation::PerClient, limits(20_000)).await;
    assert_eq!(server.html("<p>first").await.status, 200);
    settled(&server).await;
    let answer = server.html("<p>second").await;
    let timing = answer.header("server-timing").unwrap();
    let open = timing.split(", ").find_map(|phase| phase.strip_prefix("open;dur="));
    let open: f64 = open.map_or(0.0, |dur| dur.parse().unwrap());
    // Opening a context and a page takes 30 ms and more.
    assert!(open < 10.0, "{timing}");
    server.stop().await;
}
