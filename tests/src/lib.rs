//! What the end-to-end tests share: `kubectl` as a user runs it, a forwarded port, captures over HTTP.
//!
//! In: a cluster with the operator, named by `KUBECONFIG` (`hack/install.sh up` makes one). Out: plain values that
//! tests compare. Everything is bounded in time; what a test starts ends with it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

/// Why a step of a test failed, in words.
pub type Failure = String;

/// Runs `kubectl` with text on standard input and gives its standard output.
pub fn kubectl_with(args: &[&str], input: &str) -> Result<String, Failure> {
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("kubectl: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .map_err(|error| format!("kubectl: {error}"))?;
    }
    let output = child.wait_with_output().map_err(|error| format!("kubectl: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Runs `kubectl` and gives its standard output.
pub fn kubectl(args: &[&str]) -> Result<String, Failure> {
    kubectl_with(args, "")
}

/// Applies a manifest.
pub fn apply(manifest: &str) -> Result<String, Failure> {
    kubectl_with(&["apply", "-f", "-"], manifest)
}

/// Gives an object as JSON.
pub fn get(namespace: &str, kind: &str, name: &str) -> Result<Value, Failure> {
    let text = kubectl(&["-n", namespace, "get", kind, name, "-o", "json"])?;
    serde_json::from_str(&text).map_err(|error| format!("{kind}/{name}: {error}"))
}

/// Asks again every 100 ms until the answer is `Some` or the time is over.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let start = Instant::now();
    loop {
        if let Some(value) = ask() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            return Err(format!("{what}: not within {limit:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A condition of a ScreenshotService: status, reason and message.
pub fn condition(namespace: &str, name: &str, kind: &str) -> Option<(String, String, String)> {
    let object = get(namespace, "screenshotservice", name).ok()?;
    let found = object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == kind)?
        .clone();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Waits until a ScreenshotService is ready for its present generation.
pub fn wait_ready(namespace: &str, name: &str) -> Result<(), Failure> {
    let ready = || {
        let object = get(namespace, "screenshotservice", name).ok()?;
        let seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        (seen && condition(namespace, name, "Ready")?.0 == "True").then_some(())
    };
    eventually("Ready", Duration::from_secs(120), ready).map_err(|failure| {
        let describe = kubectl(&["-n", namespace, "describe", "screenshotservice", name]).unwrap_or_default();
        let pods = kubectl(&["-n", namespace, "get", "pods", "-o", "wide"]).unwrap_or_default();
        format!("{failure}\n{describe}\n{pods}")
    })
}

/// The token that a client of the service reads.
pub fn token(namespace: &str, name: &str) -> Result<String, Failure> {
    let secret = get(namespace, "secret", &format!("{name}-token"))?;
    let encoded = secret["data"]["token"].as_str().ok_or("no token in the Secret")?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// A namespace of a test, removed with it.
pub struct Namespace(pub String);

impl Namespace {
    /// Makes a namespace that enforces Pod Security `restricted`.
    pub fn create(name: &str) -> Result<Self, Failure> {
        kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait"])?;
        apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n"
        ))?;
        Ok(Self(name.to_owned()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::env::var("SHOT_KEEP").unwrap_or_default().is_empty() {
            let _ = kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
        }
    }
}

/// `kubectl port-forward` to one pod or service.
pub struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    /// Forwards a free loopback port.
    pub fn open(namespace: &str, target: &str, port: u16) -> Result<Self, Failure> {
        let mut child = Command::new("kubectl")
            .args(["-n", namespace, "port-forward", target, &format!(":{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("port-forward: {error}"))?;
        let stdout = child.stdout.take().ok_or("port-forward: no output")?;
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        lines.read_line(&mut line).map_err(|error| error.to_string())?;
        // It writes a line per connection; with nobody to read it would end by SIGPIPE. The thread ends with the child.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        // "Forwarding from 127.0.0.1:40123 -> 8080"
        let port = line
            .split_whitespace()
            .nth(2)
            .and_then(|address| address.rsplit(':').next()?.parse().ok());
        if let Some(port) = port {
            return Ok(Self { child, port });
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("port-forward to {target} answered {line:?}"))
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the API answered.
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The picture or the problem.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Asks for a capture; `token` goes into `Authorization` when there is one.
pub fn capture(port: u16, token: Option<&str>, request: &Value) -> Result<Answer, Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .proxy(None)
        .build()
        .into();
    let mut call = agent
        .post(format!("http://127.0.0.1:{port}/v1/capture"))
        .header("content-type", "application/json");
    if let Some(token) = token {
        call = call.header("authorization", format!("Bearer {token}"));
    }
    let mut response = call
        .send(request.to_string())
        .map_err(|error| format!("capture: {error}"))?;
    let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
    };
    let headers = response.headers().iter().map(header).collect();
    let body = response
        .body_mut()
        .with_config()
        .limit(256 << 20)
        .read_to_vec()
        .map_err(|error| format!("capture body: {error}"))?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers,
        body,
    })
}
