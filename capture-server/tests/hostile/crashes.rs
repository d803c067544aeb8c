//! Death of one part of one client's jail, with another client's captures beside it, in a jail of their own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use screenshot_policy::policy::CaptureLimits;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use crate::harness::{Answer, Jailer, Running, Site, key, keyset, limits};
use crate::kills::{ENDLESS, kill, renderers};

/// Computes for four seconds, and is green then.
const SLOW: &str =
    "<body style='margin:0;background:#0f0'><script>const t=Date.now();while(Date.now()-t<4000){}</script>";

async fn world() -> (Running, Jailer) {
    let site = Site::new(CaptureLimits {
        concurrency: screenshot_policy::unit::Count::nearest(3),
        ..limits(20_000)
    });
    site.write("keyset.json", &keyset(1, &[1, 2]));
    let jailer = Jailer::start(&site);
    let args = site.args();
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    // Both clients have a jail.
    for n in [1, 2] {
        assert_eq!(second(&server, n, "<p>first").await.status, 200);
    }
    (server, jailer)
}

async fn second(server: &Running, n: u8, html: &str) -> Answer {
    let body = json!({"html_content": html, "window_width": 200, "window_height": 100});
    server.capture_as(key(n).0.text(), body).await
}

/// The first process of the jail that a process is in.
fn jail_of(jailer: i32, pid: i32) -> i32 {
    let roots = std::fs::read_to_string(format!("/proc/{jailer}/task/{jailer}/children")).unwrap();
    let mut roots = roots.split_whitespace().map(|root| root.parse().unwrap());
    let found = roots.find(|root| capture_jail::inspect::descendants(*root).contains(&pid));
    found.expect("it is in a jail")
}

/// The GPU processes of one jail.
fn gpu_processes(jail: i32) -> Vec<i32> {
    let mut pids = capture_jail::inspect::descendants(jail);
    pids.retain(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("--type=gpu-process"))
    });
    pids
}

/// The renderer that has computed for 150 ms since `before`.
async fn renderer_busy_since(jailer: i32, before: &HashMap<i32, u64>) -> i32 {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let spent = |(pid, ms): (&i32, &u64)| (ms.saturating_sub(before.get(pid).copied().unwrap_or(0)), *pid);
        if let Some((150.., pid)) = renderers(jailer).iter().map(spent).max() {
            return pid;
        }
        assert!(Instant::now() < end, "no renderer is busy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The second client's capture of a page while `blow` falls on a process of its jail, which is told by its busy renderer
/// before the first client begins; the first client's captures are all pictures. Returns the answer, and how long after
/// the blow it came.
async fn struck(server: &Running, jailer: &Jailer, html: &str, blow: impl Fn(i32)) -> (Answer, Duration) {
    let (ended, watch) = watch::channel(false);
    let (found, busy) = oneshot::channel();
    let before = renderers(jailer.pid());
    let attack = async {
        let answer = second(server, 2, html).await;
        ended.send_replace(true);
        (answer, Instant::now())
    };
    let strike = async {
        let renderer = renderer_busy_since(jailer.pid(), &before).await;
        found.send(()).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        blow(renderer);
        Instant::now()
    };
    let neighbour = async {
        busy.await.unwrap();
        let mut count = 0;
        while !*watch.borrow() || count < 10 {
            let began = Instant::now();
            let answer = second(server, 1, "<p>beside").await;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            count += 1;
        }
    };
    let ((answer, answered), struck, ()) = tokio::join!(attack, strike, neighbour);
    assert!(server.reasons().await.is_empty());
    (answer, answered - struck)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gpu_process_costs_nothing_and_is_there_again() {
    let (server, jailer) = world().await;
    let hit = std::sync::Mutex::new(Vec::new());
    let (answer, after) = struck(&server, &jailer, SLOW, |renderer| {
        let jail = jail_of(jailer.pid(), renderer);
        let gpu = gpu_processes(jail);
        assert!(!gpu.is_empty(), "a browser without a GPU process");
        gpu.iter().copied().for_each(kill);
        hit.lock().unwrap().extend(gpu);
    })
    .await;
    println!(
        "{} after {after:?}: {:?}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
            .chars()
            .take(200)
            .collect::<String>()
    );
    assert_eq!(answer.image().get_pixel(199, 99).0, [0, 255, 0]);
    assert!(after < Duration::from_secs(8), "{after:?}");
    let next = second(&server, 2, "<body style='background:#00f'>").await;
    assert_eq!(next.image().get_pixel(199, 99).0, [0, 0, 255]);
    assert!(
        capture_jail::inspect::descendants(jailer.pid())
            .iter()
            .all(|pid| !hit.lock().unwrap().contains(pid))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_renderer_is_its_own_captures_crash_and_not_another_clients() {
    let (server, jailer) = world().await;
    let (answer, after) = struck(&server, &jailer, ENDLESS, kill).await;
    assert_eq!(answer.problem(), (502, "page_crashed".into()));
    assert!(after < Duration::from_secs(2), "{after:?}");
    assert_eq!(second(&server, 2, "<p>next").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_browser_is_its_own_captures_crash_and_not_another_clients() {
    let (server, jailer) = world().await;
    let (answer, after) = struck(&server, &jailer, ENDLESS, |renderer| {
        kill(jail_of(jailer.pid(), renderer));
    })
    .await;
    assert_eq!(answer.problem(), (502, "page_crashed".into()));
    assert!(after < Duration::from_secs(2), "{after:?}");
    assert_eq!(second(&server, 2, "<p>next").await.status, 200);
    server.stop().await;
}
