//! The arm `http`: the capture server as users run it, asked over HTTP with a bearer token.
//!
//! In: a job. Out: the picture, and the phases of the answer's `Server-Timing`. Connections are kept, as a client's
//! would be. Must not: read the server's logs for anything but its addresses.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;

use super::service::{Files, body, program};
use super::{Phases, Setup, Shot, ms, under_common_names};
use crate::Failure;
use crate::protocol::Job;

/// How long the server may take to listen, and then to become ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to end.
const END: Duration = Duration::from_secs(5);

/// A server process with an HTTP client.
pub struct Http {
    api: SocketAddr,
    authorizations: [String; 2],
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    process: Child,
    _files: Files,
}

impl Http {
    /// Starts the server; returns once it answers that it is ready.
    pub async fn start(setup: &Setup) -> Result<Self, Failure> {
        let files = Files::new(setup)?;
        let arguments = files.arguments(setup);
        let mut process = Command::new(program(setup, "capture-server"))
            .arg("serve")
            .args(["--listen", &arguments.listen.to_string()])
            .args(["--health-listen", &arguments.health_listen.to_string()])
            .args(["--metrics-listen", &arguments.metrics_listen.to_string()])
            .args(["--jailer", "spawn"])
            .arg("--policy")
            .arg(&arguments.policy)
            .arg("--keyset")
            .arg(&arguments.keyset)
            .arg("--internal-key")
            .arg(&arguments.internal_key)
            .arg("--jail-socket")
            .arg(&arguments.jail_socket)
            .arg("--jailer-program")
            .arg(program(setup, "capture-jail"))
            .arg("--browser")
            .arg(&setup.browser)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = process.stderr.take().ok_or("the server has no log")?;
        // From here on the value's end ends the process.
        let mut http = Self {
            api: arguments.listen,
            authorizations: files.authorizations(),
            idle: Mutex::default(),
            process,
            _files: files,
        };
        http.api = listening(log)?;
        http.until_ready().await?;
        Ok(http)
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    async fn until_ready(&self) -> Result<(), Failure> {
        let until = Instant::now() + READY;
        loop {
            let request = Request::get("/health/ready").header(HOST, "bench");
            let (status, _, body) = self.exchange(request.body(Full::default())?).await?;
            if status == StatusCode::OK {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("not ready: {}", String::from_utf8_lossy(&body)).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Takes one picture.
    pub async fn capture(&self, job: &Job) -> Result<Shot, Failure> {
        let request = Request::post("/v1/capture")
            .header(HOST, "bench")
            .header(AUTHORIZATION, &self.authorizations[usize::from(job.of_another)])
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body(job)))?;
        let began = Instant::now();
        let (status, headers, picture) = self.exchange(request).await?;
        let latency = began.elapsed();
        if status != StatusCode::OK {
            let problem: Value = serde_json::from_slice(&picture).unwrap_or_default();
            return Err(format!("{status} {}", problem["type"].as_str().unwrap_or_default()).into());
        }
        let timing = headers.get("server-timing").and_then(|value| value.to_str().ok());
        let mut phases = server_timing(timing.unwrap_or_default());
        let known: f64 = phases.iter().map(|(_, spent)| spent).sum();
        phases.push(("close".to_owned(), (ms(latency) - known).max(0.0)));
        Ok(Shot {
            picture,
            latency,
            phases,
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        let idle = self.idle().pop();
        let mut sender = match idle {
            Some(sender) if sender.is_ready() => sender,
            _ => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if sender.ready().await.is_ok() {
            self.idle().push(sender);
        }
        Ok((head.status, head.headers, body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(self.api).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + END;
        while Instant::now() < until {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the address of the API from the server's log, and lets a thread read the rest so that the server never blocks.
fn listening(log: ChildStderr) -> Result<SocketAddr, Failure> {
    let (found, address) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Some(address) = api_address(&line) {
                let _ = found.send(address);
            }
        }
    });
    Ok(address.recv_timeout(READY).map_err(|_| "the server does not listen")?)
}

fn api_address(line: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry["message"] == "listening").then(|| entry["api"].as_str()?.parse().ok())?
}

/// The phases of a `Server-Timing` header. A total is no phase.
fn server_timing(text: &str) -> Phases {
    let phases = text.split(',').filter_map(|metric| {
        let (name, duration) = metric.trim().split_once(";dur=")?;
        Some((name.to_owned(), duration.parse().ok()?))
    });
    under_common_names(phases.filter(|(name, _)| name != "total"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_of_server_timing_are_read_without_the_total() {
        let phases = server_timing("browser;dur=1.5, load;dur=20.0, render;dur=30.25, total;dur=51.75");
        let expected = [("open", 1.5), ("load", 20.0), ("render", 30.25)];
        assert_eq!(phases, expected.map(|(name, spent)| (name.to_owned(), spent)));
        assert_eq!(server_timing(""), []);
    }

    #[test]
    fn the_log_tells_the_address() {
        let line = r#"{"level":"INFO","message":"listening","api":"127.0.0.1:4242","health":"127.0.0.1:1"}"#;
        assert_eq!(api_address(line), Some(SocketAddr::from(([127, 0, 0, 1], 4242))));
        assert_eq!(api_address(r#"{"message":"jailer started"}"#), None);
        assert_eq!(api_address("no JSON"), None);
    }
}
