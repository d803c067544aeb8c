//! The arm `engine`: the capture server as a library, from the credential to the picture, without HTTP.
//!
//! In: a job. Out: the picture, through admission, jail, proxy and driver. Must not: skip a room that a request walks
//! through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capture_server::capture::Ledger;
use capture_server::capture::request::CaptureRequest;
use capture_server::server::{App, Server};
use capture_server::{access, clock};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::service::{Files, body};
use super::{Setup, Shot, ms, under_common_names};
use crate::Failure;
use crate::protocol::Job;

/// How long the server may take to become ready.
const READY: Duration = Duration::from_secs(20);

/// A server in this process.
pub struct Engine {
    app: Arc<App>,
    headers: [HeaderMap; 2],
    deadline: Duration,
    number: AtomicU64,
    _server: Server,
    _files: Files,
}

impl Engine {
    /// Starts it; returns once it is ready.
    pub async fn start(setup: &Setup) -> Result<(Self, String), Failure> {
        let files = Files::new(setup)?;
        let server = Server::start(files.arguments(setup)).await?;
        let app = server.app();
        let until = Instant::now() + READY;
        while !app.status.is_ready() {
            if Instant::now() > until {
                return Err(format!("not ready: {:?}", app.status.not_ready()).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut headers = [HeaderMap::new(), HeaderMap::new()];
        for (headers, authorization) in headers.iter_mut().zip(files.authorizations()) {
            headers.insert(AUTHORIZATION, authorization.parse()?);
        }
        let browser = app.status.browser().unwrap_or_default();
        let engine = Self {
            app,
            headers,
            deadline: Duration::from_millis(setup.deadline_ms),
            number: AtomicU64::new(0),
            _server: server,
            _files: files,
        };
        Ok((engine, browser))
    }

    /// Takes one picture.
    pub async fn capture(&self, job: &Job) -> Result<Shot, Failure> {
        let began = Instant::now();
        let service = self.app.service().ok_or("no policy")?;
        let headers = &self.headers[usize::from(job.of_another)];
        let caller = access::authenticate(headers, self.app.keyset().as_deref(), clock::wall())?;
        let request = CaptureRequest::parse(body(job).as_bytes(), service.policy.limits())?;
        let permit = caller.permit_capture(request.scope())?;
        let now = clock::monotonic();
        let id = format!("bench-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let finished = service
            .capture(&caller, permit, request, now + self.deadline, &id, Ledger::open(now))
            .await?;
        let latency = began.elapsed();
        let picture = finished.result.map_err(|cause| format!("{cause:?}"))?.bytes;
        let spent = finished.ledger.spent();
        let phases = spent.map(|(phase, spent)| (phase.as_str().to_owned(), ms(spent)));
        let mut phases = under_common_names(phases);
        let known: f64 = phases.iter().map(|(_, spent)| spent).sum();
        phases.push(("close".to_owned(), (ms(latency) - known).max(0.0)));
        Ok(Shot {
            picture,
            latency,
            phases,
        })
    }
}
