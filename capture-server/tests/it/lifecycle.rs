//! Jailers come and go, callers hang up, signals arrive: the server stays whole.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use screenshot_policy::layout::BROWSER_HEALTH_PATH;
use serde_json::{Value, json};

use crate::harness::{Jailer, Running, Site, get, key, limits, post, program, until, without_a_route_out};

const ENDLESS: &str = "<script>while(true){}</script>";

/// What the probes of the browser container are told: status and reason.
async fn browser_health(server: &Running) -> (u16, Value) {
    let answer = get(server.health, BROWSER_HEALTH_PATH, &[]).await;
    (answer.status, answer.json()["reasons"][0]["reason"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jailer_that_comes_late_is_waited_for() {
    let site = Site::new(limits(20_000));
    let args = site.args();
    let server = Running::with(site, args).await;
    until("the reason", async || server.reasons().await == ["JailerAbsent"]).await;
    assert_eq!(server.html("x").await.problem(), (503, "not_ready".into()));
    assert_eq!(browser_health(&server).await, (503, json!("JailerSilent")));
    let _jailer = Jailer::start(&server.site);
    server.until_ready(true).await;
    assert_eq!(browser_health(&server).await, (200, Value::Null));
    assert_eq!(server.html("<p>here").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_jailer_fails_what_is_in_hand_and_the_next_one_takes_over_without_a_lost_slot() {
    let (server, jailer) = Running::ready(limits(20_000)).await;
    let began = Instant::now();
    let doomed = server.html(ENDLESS);
    let killed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        jailer.kill();
    };
    let (answer, ()) = tokio::join!(doomed, killed);
    assert_eq!(answer.problem(), (503, "browser_lost".into()));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    server.until_ready(false).await;
    let _next = Jailer::start(&server.site);
    server.until_ready(true).await;
    // One slot in all: two captures in a row show that it came back.
    for _ in 0..2 {
        assert_eq!(server.html("<p>again").await.status, 200);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jailer_that_hangs_is_told_to_its_probes_until_it_answers_again() {
    let (server, jailer) = Running::ready(limits(20_000)).await;
    assert_eq!(browser_health(&server).await, (200, Value::Null));
    jailer.signal(Signal::STOP);
    until("the silence", async || {
        browser_health(&server).await == (503, json!("JailerSilent"))
    })
    .await;
    // Another server would not hear it either.
    assert_eq!(get(server.health, "/health/live", &[]).await.status, 200);
    jailer.signal(Signal::CONT);
    server.until_ready(true).await;
    assert_eq!(browser_health(&server).await, (200, Value::Null));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_dies_alone_died_of_its_page_and_the_next_capture_works() {
    let (server, jailer) = Running::ready(limits(20_000)).await;
    // After a first capture the next one starts on a warm spare at once.
    assert_eq!(server.html("<p>first").await.status, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let doomed = server.html(ENDLESS);
    let killed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        jailer.kill_browsers();
    };
    let (answer, ()) = tokio::join!(doomed, killed);
    assert_eq!(answer.problem(), (502, "page_crashed".into()));
    assert_eq!(server.html("<p>next").await.status, 200);
    assert!(server.reasons().await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_spends_a_budget_is_told_so() {
    let budget = screenshot_policy::policy::CaptureLimits {
        max_requests: screenshot_policy::unit::Count::nearest(5),
        ..limits(20_000)
    };
    let (server, _jailer) = Running::ready(budget).await;
    let html = "<script>for(let i=0;i<30;i++)document.write(`<img src='/${i}.png'>`)</script>";
    let answer = server.html(html).await;
    assert_eq!(answer.problem(), (422, "budget_exceeded".into()));
    assert!(answer.json()["detail"].as_str().unwrap().contains("budget_requests"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_frees_its_slot() {
    if !without_a_route_out("lifecycle::a_caller_that_hangs_up_frees_its_slot") {
        return;
    }
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let stream = server
        .begin("<script>fetch('http://169.254.169.254/').catch(()=>{for(;;);})</script>")
        .await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    drop(stream);
    let began = Instant::now();
    assert_eq!(server.html("<p>next").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(metrics.contains("captures_total{reason=\"abandoned\"} 1"), "{metrics}");
    // What it tried is counted although nobody waited for the answer.
    let tried = "egress_decisions_total{reason=\"metadata_address\"} 1";
    assert!(metrics.contains(tried), "{metrics}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_starts_its_own_jailer_and_finishes_what_is_in_hand_on_sigterm() {
    let site = Site::new(limits(20_000));
    let mut child = Command::new(env!("CARGO_BIN_EXE_capture-server"))
        .args([
            "serve",
            "--jailer",
            "spawn",
            "--listen",
            "127.0.0.1:0",
            "--health-listen",
            "127.0.0.1:0",
        ])
        .args(["--metrics-listen", "127.0.0.1:0", "--jailer-program"])
        .arg(program("capture-jail"))
        .args(["--policy".as_ref(), site.path("policy.json").as_os_str()])
        .args(["--keyset".as_ref(), site.path("keyset.json").as_os_str()])
        .args(["--jail-socket".as_ref(), site.path("run/jailer.sock").as_os_str()])
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (lines, mut log) = tokio::sync::mpsc::unbounded_channel::<Value>();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = lines.send(serde_json::from_str(&line).unwrap_or_default());
        }
    });
    let mut listening = log.recv().await.unwrap();
    while listening["message"] != "listening" {
        listening = log.recv().await.unwrap();
    }
    let address = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
    let (api, health) = (address("api"), address("health"));
    until("readiness", async || {
        get(health, "/health/ready", &[]).await.status == 200
    })
    .await;
    let asked = Command::new(env!("CARGO_BIN_EXE_capture-server"))
        .args(["health", "--address", &health_text(health)])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(asked.success());

    let slow = "<body><script>const t=Date.now();while(Date.now()-t<1500){}</script>";
    let in_hand = tokio::spawn(async move {
        let body = json!({"html_content": slow, "window_width": 100, "window_height": 100});
        post(api, key(1).0.text(), &body.to_string()).await.status
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(in_hand.await.unwrap(), 200);
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("it did not end")
        .unwrap();
    assert!(ended.success());

    let mut audit = None;
    while let Ok(line) = log.try_recv() {
        if line["target"] == "audit" {
            audit = Some(line);
        }
    }
    let audit = audit.expect("no audit line");
    assert_eq!(
        (&audit["outcome"], &audit["client"], &audit["status"]),
        (&"ok".into(), &"it".into(), &200.into())
    );
}

fn health_text(address: std::net::SocketAddr) -> String {
    address.to_string()
}
