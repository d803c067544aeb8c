//! Who shares a browser with whom, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
        tokio::time::sleep(Duration::from_millis(300)).await;
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
        // On a machine that does other things a capture that follows at once may find its browser still clearing up.
        settled(&server).await;
    }
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
    let open = open.unwrap_or_else(|| panic!("no such phase: {timing}"));
    let open: f64 = open.parse().unwrap();
    // Opening a context and a page takes 30 ms and more.
    assert!(open < 10.0, "{timing}");
    server.stop().await;
}

/// With one core: two captures and a large one beside them, and a browser kept warm.
const PLACES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_hang_up_while_a_browser_is_launched_for_them_have_no_more_of_them_than_there_are_places() {
    let (server, jailer) = running(Isolation::PerCapture, limits(20_000)).await;
    settled(&server).await;
    let (jailer, before) = (Arc::new(jailer), launched(&server).await);
    let over = Arc::new(AtomicBool::new(false));
    let most = {
        let (jailer, over) = (Arc::clone(&jailer), Arc::clone(&over));
        std::thread::spawn(move || {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(jailer.browsers().len());
                std::thread::sleep(Duration::from_millis(1));
            }
            most
        })
    };
    let told = async || {
        let slots = counter(&server, "screenshot_server_slots_in_use").await;
        // Where no capture is said to be in hand, there is nothing of one but what is kept warm for the next.
        let alive = jailer.browsers().len();
        assert!(slots > 0 || alive <= 1, "{alive} browsers for nobody");
        slots
    };
    for _ in 0..50 {
        let caller = server.begin("<p>never seen").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(caller);
        told().await;
    }
    until("every place", async || told().await == 0).await;
    settled(&server).await;
    over.store(true, Ordering::Relaxed);
    let most = most.join().unwrap();
    assert!(most <= PLACES, "{most} browsers at one time");
    assert!(launched(&server).await > before + 2, "it did not come to launches");
    assert_eq!(server.html("<p>next").await.status, 200);
    until("one warm browser", async || jailer.browsers().len() == 1).await;
    server.stop().await;
}
