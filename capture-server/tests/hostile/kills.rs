//! Death in every place, a full disk, and no memory: captures may be lost, the server and the next capture never.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture_server::server::Server;
use screenshot_policy::policy::{CaptureLimits, Isolation};
use serde_json::json;

use crate::harness::{Jailer, Running, Site, again_inside, get, key, limits, policy_with, program, until};
use crate::site as enemy;

pub const ENDLESS: &str = "<script>while(true){}</script>";
pub const BOMB: &str = "<body><script>onload=()=>{const a=[];for(;;)try{const b=new Uint8Array(1<<24);b.fill(1);a.push(b)}catch{}}</script>";

fn two_at_once(deadline_ms: u64) -> CaptureLimits {
    CaptureLimits {
        concurrency: screenshot_policy::unit::Count::nearest(2),
        ..limits(deadline_ms)
    }
}

/// The renderers below a process, with the CPU time in ms that each has used.
pub fn renderers(below: i32) -> HashMap<i32, u64> {
    let mut pids = capture_jail::inspect::descendants(below);
    pids.retain(|pid| capture_jail::inspect::is_renderer(*pid));
    pids.into_iter()
        .map(|pid| (pid, capture_jail::inspect::usage(pid).cpu_ms))
        .collect()
}

/// The renderer that has used the most CPU time of all below a process.
fn busiest_renderer(below: i32) -> i32 {
    let busiest = renderers(below).into_iter().max_by_key(|(_, ms)| *ms);
    busiest.expect("no renderer").0
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_renderer_fails_its_capture_at_once_and_no_other() {
    let (server, jailer) = Running::ready(two_at_once(20_000)).await;
    let began = Instant::now();
    let doomed = server.html(ENDLESS);
    let killed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        kill(busiest_renderer(jailer.pid()));
        server.html("<p>beside").await.status
    };
    let (answer, beside) = tokio::join!(doomed, killed);
    assert_eq!(answer.problem(), (502, "page_crashed".into()));
    assert_eq!(beside, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(server.html("<p>next").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_killed_server_every_browser_dies_and_nothing_is_left() {
    let site = Site::new(limits(20_000));
    // Longer there than the server's own directory.
    let profiles = tempfile::tempdir().unwrap();
    std::fs::set_permissions(profiles.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let jailer = Jailer::start_with(&site, &["--profile-dir".into(), profiles.path().into()]);
    let directories = || std::fs::read_dir(profiles.path()).unwrap().count();
    let mut server = Command::new(env!("CARGO_BIN_EXE_capture-server"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--health-listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
        ])
        .args(["--policy".as_ref(), site.path("policy.json").as_os_str()])
        .args(["--keyset".as_ref(), site.path("keyset.json").as_os_str()])
        .args(["--jail-socket".as_ref(), site.path("run/jailer.sock").as_os_str()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let below = || capture_jail::inspect::descendants(jailer.pid());
    until("browsers", async || below().len() > 4 && directories() > 0).await;
    server.kill().unwrap();
    server.wait().unwrap();
    let began = Instant::now();
    until("the end of every browser", async || {
        below().is_empty() && directories() == 0
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(5));
    until("the socket again", async || site.path("run/jailer.sock").exists()).await;
    // The same jailer serves the next one.
    let args = site.args();
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    assert_eq!(server.html("<p>next").await.status, 200);
    assert!(directories() > 0);
    server.stop().await;
    until("nothing, again", async || below().is_empty() && directories() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_driven_to_its_memory_limit_loses_captures_but_not_the_neighbours_nor_the_server() {
    let site = Site::new(two_at_once(8_000));
    site.write("keyset.json", &crate::harness::keyset(1, &[1, 2]));
    let jailer = Jailer::start_with(&site, &["--memory-limit-mb".into(), "350".into()]);
    let args = site.args();
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    for _ in 0..2 {
        let began = Instant::now();
        let body = json!({"html_content": BOMB});
        let (token, _) = key(2);
        let bomb = server.capture_as(token.text(), body);
        let neighbour = async {
            for _ in 0..10 {
                assert_eq!(server.html("<p>beside").await.status, 200);
            }
        };
        let (answer, ()) = tokio::join!(bomb, neighbour);
        // Ended before its deadline: the jailer took it, not the clock.
        assert_eq!(
            answer.problem(),
            (502, "page_crashed".into()),
            "after {:?}",
            began.elapsed()
        );
    }
    assert_eq!(get(server.health, "/health/live", &[]).await.status, 200);
    assert!(server.reasons().await.is_empty());
    drop(jailer);
    server.stop().await;
}

/// What a page stores lies in the browser's own process. It never loads, so that it is given the time.
const HOARD: &str = "<body><img src='http://enemy.net/never'><script>const o=indexedDB.open('x');\
    o.onupgradeneeded=()=>o.result.createObjectStore('s');o.onsuccess=()=>{let n=0;const put=()=>{\
    const t=o.result.transaction('s','readwrite');t.objectStore('s').put(new Blob([new Uint8Array(1<<22)]),n++);\
    t.oncomplete=put};put()}</script>";
/// A page of a size of its own, by right: larger than any process of the other's but its browser.
const LARGE: &str = "<body><script>window.a=new Uint8Array(100<<20).fill(1)</script><p>beside";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_fills_its_browsers_own_process_takes_that_browser_down_and_no_neighbours_page() {
    let site = Site::new(two_at_once(15_000));
    site.write("keyset.json", &crate::harness::keyset(1, &[1, 2]));
    let jailer = Jailer::start_with(&site, &["--memory-limit-mb".into(), "1000".into()]);
    let args = site.args();
    let server = Server::start_on(args, enemy::network().await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    let (token, _) = key(2);
    let hoard = server.capture_as(token.text(), json!({"html_content": HOARD}));
    let neighbour = async {
        for _ in 0..10 {
            let answer = server.html(LARGE).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    };
    let (answer, ()) = tokio::join!(hoard, neighbour);
    assert_eq!(answer.problem(), (502, "page_crashed".into()));
    assert!(server.reasons().await.is_empty());
    drop(jailer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_captures_and_the_server_says_so_until_there_is_room() {
    const NAME: &str = "kills::a_full_disk_costs_captures_and_the_server_says_so_until_there_is_room";
    if !again_inside("-m", NAME, "FULL_DISK") {
        return;
    }
    let site = Site::new(two_at_once(20_000));
    // Each capture needs a browser of its own, and that a directory.
    let policy = policy_with(two_at_once(20_000), Isolation::PerCapture);
    site.write("policy.json", &policy.canonical_json());
    let disk = site.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m,nr_inodes=600,mode=1777", "none"])
        .arg(&disk)
        .status()
        .unwrap();
    assert!(mounted.success());
    let jailer = Jailer::start_with(&site, &["--profile-dir".into(), disk.clone().into_os_string()]);
    let args = site.args();
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    assert_eq!(server.html("<p>with room").await.status, 200);
    let ballast = fill(&disk);
    // A browser wants files and hardly a byte in them: without room for bytes it goes on.
    assert_eq!(server.html("<p>without bytes").await.status, 200);
    // One whose browser runs already wants nothing more of the disk.
    let beside = server.html("<p>beside<script>const t=Date.now();while(Date.now()-t<5000){}</script>");
    let full = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let files = crowd(&disk);
        let mut lost = None;
        until("a lost capture", async || {
            let answer = server.html("<p>without files").await;
            lost = (answer.status != 200).then(|| answer.problem());
            lost.is_some()
        })
        .await;
        (files, lost.unwrap())
    };
    let (beside, (files, (status, word))) = tokio::join!(beside, full);
    assert_eq!(beside.status, 200, "{beside:?}");
    assert!((502..=504).contains(&status), "{status} {word}");
    assert!(
        ["no_browser", "browser_lost", "timeout"].contains(&word.as_str()),
        "{status} {word}"
    );
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(
        metrics.contains(&format!("captures_total{{reason=\"{word}\"}}")),
        "{metrics}"
    );
    assert_eq!(get(server.health, "/health/live", &[]).await.status, 200);
    drop(files);
    std::fs::remove_file(ballast).unwrap();
    until("a picture", async || server.html("<p>room again").await.status == 200).await;
    drop(jailer);
    server.stop().await;
}

fn fill(disk: &Path) -> PathBuf {
    use std::io::Write as _;
    let ballast = disk.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    assert!(program("capture-jail").is_file());
    ballast
}

/// Takes every file that can be had, again and again, until it is dropped.
struct Crowd {
    directory: PathBuf,
    over: Arc<AtomicBool>,
    taking: Option<JoinHandle<()>>,
}

fn crowd(disk: &Path) -> Crowd {
    let directory = disk.join("crowd");
    std::fs::create_dir(&directory).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (here, until) = (directory.clone(), Arc::clone(&over));
    let taking = std::thread::spawn(move || {
        let mut count = 0;
        while !until.load(Ordering::Relaxed) {
            while std::fs::File::create(here.join(count.to_string())).is_ok() {
                count += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    Crowd {
        directory,
        over,
        taking: Some(taking),
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.taking.take().unwrap().join().unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}
