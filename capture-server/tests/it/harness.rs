//! One server with its own jailer, policy, keys and ports; an HTTP client of forty lines; bounded waits.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use capture_server::config::{JailerMode, ServeArgs};
use capture_server::server::Server;
use screenshot_policy::attest::InternalKey;
use screenshot_policy::keyset::{Key, KeyState, Keyset, Scope};
use screenshot_policy::policy::{CaptureLimits, Ceiling, EffectivePolicy, Isolation, PolicyDocument};
use screenshot_policy::token::{Kid, Token};
use screenshot_policy::unit::{Count, Millis};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio::task::JoinHandle;

/// Two cores do not carry many browsers at once, and timings are looked at: one test at a time.
static TURN: Mutex<()> = Mutex::const_new(());
/// Nothing in this suite waits longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Key number `n` of the suite.
pub fn key(n: u8) -> (Token, Key) {
    let kid = Kid::from_bytes([n; 5]);
    let token = Token::generate(&kid, [n; 32]);
    let digest = token.digest_hex();
    let key = Key {
        kid,
        client: if n == 1 { "it".into() } else { format!("it-{n}") },
        scopes: Scope::ALL.into(),
        digest,
        state: KeyState::Active,
        not_before: None,
        retire_after: None,
    };
    (token, key)
}

pub fn keyset(revision: u64, keys: &[u8]) -> String {
    let keys = keys.iter().map(|n| key(*n).1).collect();
    Keyset {
        version: 1,
        revision,
        keys,
    }
    .canonical_json()
}

pub fn policy(limits: CaptureLimits) -> EffectivePolicy {
    policy_with(limits, Isolation::PerClient)
}

pub fn policy_with(limits: CaptureLimits, isolation: Isolation) -> EffectivePolicy {
    policy_of(limits, |document| document.sandbox.isolation = isolation)
}

/// A policy with these limits and whatever else is changed.
pub fn policy_of(limits: CaptureLimits, change: impl FnOnce(&mut PolicyDocument)) -> EffectivePolicy {
    let mut document = PolicyDocument::secure_default("it", "it").unwrap();
    document.capture = limits;
    change(&mut document);
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

pub fn limits(deadline_ms: u64) -> CaptureLimits {
    CaptureLimits {
        deadline_ms: Millis::nearest(deadline_ms),
        concurrency: Count::nearest(1),
        ..CaptureLimits::DEFAULT
    }
}

/// Where cargo puts the programs of this build.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        program.is_file(),
        "{} is missing; build it first: cargo build -p capture-jail",
        program.display()
    );
    program
}

/// The files of one server.
pub struct Site {
    pub dir: TempDir,
}

impl Site {
    pub fn new(limits: CaptureLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The jailer may run as another user, which must reach its socket.
        std::fs::create_dir(dir.path().join("run")).unwrap();
        for open in [dir.path().to_path_buf(), dir.path().join("run")] {
            std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let site = Self { dir };
        site.write("policy.json", &policy(limits).canonical_json());
        site.write("keyset.json", &keyset(1, &[1]));
        site.write("key", &InternalKey::from_bytes([9; 32]).to_text());
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn args(&self) -> ServeArgs {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        ServeArgs {
            listen: any,
            health_listen: any,
            metrics_listen: any,
            policy: self.path("policy.json"),
            policy_digest: None,
            keyset: self.path("keyset.json"),
            internal_key: self.path("key"),
            jail_socket: self.path("run/jailer.sock"),
            jailer: JailerMode::Connect,
            jailer_program: None,
            browser: None,
            browser_build: self.path("build.json"),
            upstream: self.path("upstream"),
            pod_name: "pod-it".into(),
        }
    }
}

/// A jailer process of this test.
pub struct Jailer(Child);

impl Jailer {
    pub fn start(site: &Site) -> Self {
        Self::start_with(site, &[])
    }

    /// The same with more arguments.
    pub fn start_with(site: &Site, more: &[std::ffi::OsString]) -> Self {
        Self::under(&[], site, more)
    }

    /// The same, started by a command line that takes something away from it first.
    pub fn under(prefix: &[&str], site: &Site, more: &[std::ffi::OsString]) -> Self {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let program = program("capture-jail");
        let mut command = match prefix {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let child = command
            .arg("serve")
            .arg(site.path("run/jailer.sock"))
            .args(["--allow-peer-uid", &uid])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// A signal to the jailer alone.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    /// The first process of each of its jails.
    pub fn browsers(&self) -> Vec<i32> {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children
            .split_whitespace()
            .map(|child| child.parse().unwrap())
            .collect()
    }

    /// SIGKILL to every browser of this jailer, which itself goes on.
    pub fn kill_browsers(&self) {
        for child in self.browsers() {
            let pid = rustix::process::Pid::from_raw(child).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }

    /// SIGKILL: nothing is cleaned up.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Jailer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub struct Running {
    pub site: Site,
    pub api: SocketAddr,
    pub health: SocketAddr,
    pub metrics: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _turn: MutexGuard<'static, ()>,
}

impl Running {
    pub async fn with(site: Site, args: ServeArgs) -> Self {
        let server = Server::start(args).await.unwrap();
        Self::serving(site, server).await
    }

    /// Runs a server that was built elsewhere.
    pub async fn serving(site: Site, server: Server) -> Self {
        let turn = TURN.lock().await;
        let [api, health, metrics] = server.addresses().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.run(stopped).await.unwrap();
        });
        Self {
            site,
            api,
            health,
            metrics,
            stop: Some(stop),
            task,
            _turn: turn,
        }
    }

    /// A server with a jailer, ready.
    pub async fn ready(limits: CaptureLimits) -> (Self, Jailer) {
        let site = Site::new(limits);
        let args = site.args();
        let jailer = Jailer::start(&site);
        let running = Self::with(site, args).await;
        running.until_ready(true).await;
        (running, jailer)
    }

    pub async fn until_ready(&self, wanted: bool) {
        until("readiness", async || {
            (get(self.health, "/health/ready", &[]).await.status == 200) == wanted
        })
        .await;
    }

    pub async fn reasons(&self) -> Vec<String> {
        let answer = get(self.health, "/health/ready", &[]).await.json();
        let reasons = answer["reasons"].as_array().unwrap().iter();
        reasons
            .map(|reason| reason["reason"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Sends a request for a capture, whose answer is for whoever reads on. Dropping it hangs up.
    pub async fn begin(&self, html: &str) -> TcpStream {
        let body = json!({"html_content": html}).to_string();
        let head = format!(
            "POST /v1/capture HTTP/1.1\r\nhost: it\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n\r\n{body}",
            key(1).0.text(),
            body.len()
        );
        let mut stream = TcpStream::connect(self.api).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    pub async fn capture(&self, body: Value) -> Answer {
        self.capture_as(key(1).0.text(), body).await
    }

    pub async fn capture_as(&self, token: &str, body: Value) -> Answer {
        post(self.api, token, &body.to_string()).await
    }

    pub async fn html(&self, html: &str) -> Answer {
        self.capture(json!({"html_content": html, "window_width": 200, "window_height": 100}))
            .await
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// Polls until it holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polled = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, polled).await.is_ok(),
        "{what} did not come"
    );
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The last part of the problem's type, with the status.
    pub fn problem(&self) -> (u16, String) {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        (self.status, kind.rsplit('/').next().unwrap().to_owned())
    }

    pub fn image(&self) -> image::RgbImage {
        let problem = || String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.status, 200, "{}", problem());
        image::load_from_memory(&self.body).unwrap().to_rgb8()
    }
}

pub async fn post(to: SocketAddr, token: &str, body: &str) -> Answer {
    let authorization = format!("authorization: Bearer {token}");
    let length = format!("content-length: {}", body.len());
    send(
        to,
        "POST /v1/capture",
        &[&authorization, &length, "content-type: application/json"],
        body,
    )
    .await
}

pub async fn get(to: SocketAddr, path: &str, headers: &[&str]) -> Answer {
    send(to, &format!("GET {path}"), headers, "").await
}

pub async fn send(to: SocketAddr, line: &str, headers: &[&str], body: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let headers = headers.iter().fold(String::new(), |all, header| all + header + "\r\n");
        let head = format!("{line} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer and close before it has read a body that it refuses.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        parse(&all)
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("the server did not answer in time")
}

fn parse(all: &[u8]) -> Answer {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("no head");
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(a, b)| (a.to_lowercase(), b.to_owned()));
    Answer {
        status,
        headers: headers.collect(),
        body: all[end + 4..].to_vec(),
    }
}

/// Runs the test `name` again in a network without a route out, and tells whether this is the run that must do the
/// work. A control that fails must not reach a real metadata service or neighbour.
pub fn without_a_route_out(name: &str) -> bool {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap();
    if routes.lines().count() <= 1 {
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    let mut again = Command::new("unshare");
    again.args(if root {
        ["-n"].as_slice()
    } else {
        ["-r", "-n"].as_slice()
    });
    again.args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    if !root {
        // Back to the caller's own ids, so that the programs do not take themselves for root.
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        again.args([
            "unshare",
            "-U",
            &format!("--map-user={uid}"),
            &format!("--map-group={gid}"),
        ]);
    }
    run_again(again, name);
    false
}

/// Runs the test `name` of this program behind the command line `again`. It must have run, and passed.
fn run_again(mut again: Command, name: &str) {
    let output = again
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{name} did not run"
    );
}

/// Runs the test `name` again in a namespace of its own (`flag` of `unshare`), and tells whether this is the run that must
/// do the work. `marker` is how that run knows itself.
pub fn again_inside(flag: &str, name: &str, marker: &str) -> bool {
    let marker = format!("IT_INSIDE_{marker}");
    if std::env::var_os(&marker).is_some() {
        return true;
    }
    let mut again = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        again.arg("-r");
    }
    again.arg(flag).env(&marker, "1");
    run_again(again, name);
    false
}
