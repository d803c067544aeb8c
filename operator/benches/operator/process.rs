//! The operator's binary as a process of its own, asked through its ports as anybody would.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(900);
const METRICS: &str = "127.0.0.1:19090";
const HEALTH: &str = "127.0.0.1:18081";

/// Processor time that the calling thread has used.
pub fn spent_by_this_thread() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let spent = stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    Duration::from_nanos(spent.expect("nanoseconds"))
}

pub struct Process {
    child: Child,
    client: Client<HttpConnector, Empty<bytes::Bytes>>,
    pub ready_after: Duration,
}

impl Process {
    /// Starts it and waits until it says that it is ready.
    pub async fn start() -> Self {
        let start = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_screenshot-operator"))
            .args([
                "run",
                "--operator-namespace=default",
                "--lease-name=bench",
                "--capture-image=localhost/capture-server:dev",
            ])
            .args([
                format!("--health-address={HEALTH}"),
                format!("--metrics-address={METRICS}"),
            ])
            .env(
                "KUBECONFIG",
                std::env::var("SHOT_TEST_KUBECONFIG").expect("SHOT_TEST_KUBECONFIG"),
            )
            .env("SHOT_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("the operator starts");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut process = Self {
            child,
            client,
            ready_after: Duration::ZERO,
        };
        while !process.get(HEALTH, "/readyz").await.is_some_and(|(ok, _)| ok) {
            assert!(start.elapsed() < Duration::from_secs(60), "not ready within a minute");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        process.ready_after = start.elapsed();
        process
    }

    async fn get(&self, address: &str, path: &str) -> Option<(bool, String)> {
        let address: SocketAddr = address.parse().expect("address");
        let response = self
            .client
            .get(format!("http://{address}{path}").parse().expect("uri"))
            .await
            .ok()?;
        let ok = response.status().is_success();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((ok, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Sums a counter over the lines that hold all the words.
    pub async fn count(&self, metric: &str, words: &[&str]) -> f64 {
        let (_, text) = self.get(METRICS, "/metrics").await.expect("metrics");
        let name = format!("screenshot_operator_{metric}");
        let lines = text
            .lines()
            .filter(|l| l.starts_with(&name) && words.iter().all(|word| l.contains(word)));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Calls to the API server of these verbs, without those for the Lease.
    pub async fn calls(&self, verbs: &[&str]) -> f64 {
        let mut sum = 0.0;
        for verb in verbs {
            let verb = format!("verb=\"{verb}\"");
            sum += self.count("api_calls_total", &[&verb]).await;
            sum -= self.count("api_calls_total", &[&verb, "kind=\"Lease\""]).await;
        }
        sum
    }

    /// Calls that told of something as an event.
    pub async fn events(&self) -> f64 {
        self.count("api_calls_total", &["kind=\"Event\""]).await
    }

    /// How many watches it keeps.
    pub async fn watches(&self) -> f64 {
        self.count("watch_up", &[]).await
    }

    /// Waits until it makes passes.
    pub async fn leads(&self) {
        self.until("it leads", async || self.count("leader", &[]).await > 0.0)
            .await;
    }

    /// Waits until it has given so many services all that they need but pods, which are not asked for.
    pub async fn settled(&self, services: usize) {
        let words = ["condition=\"CredentialsReady\"", "status=\"True\""];
        let wanted = f64::from(u32::try_from(services).expect("few"));
        self.until("services settle", async || {
            self.count("services", &words).await >= wanted
        })
        .await;
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !holds().await {
            assert!(start.elapsed() < PATIENCE, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until it has asked and told the API server nothing for a while and no service waits for a pass. Passes go on
    /// all the time where there are many services; those of services at rest call nobody.
    pub async fn quiet(&self, still: Duration) {
        let all = ["get", "list", "create", "update", "patch", "delete"];
        let (begun, mut last) = (Instant::now(), (-1.0, Instant::now()));
        loop {
            assert!(begun.elapsed() < PATIENCE, "it does not come to rest");
            let calls = self.calls(&all).await;
            if calls.total_cmp(&last.0).is_ne() || self.count("queue_depth", &[]).await > 20.0 {
                last = (calls, Instant::now());
            }
            if last.1.elapsed() >= still {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Resident memory in MiB.
    pub fn rss(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: f64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number");
        kib / 1024.0
    }

    /// Ends it as Kubernetes does, and waits.
    pub fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).expect("pid");
        let status = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status()
            .expect("kill");
        assert!(status.success());
        let ended = self.child.wait().expect("ends");
        assert!(ended.success(), "{ended}");
    }
}
