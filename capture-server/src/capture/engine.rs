//! The walk of one capture: lease, open the proxy, drive the page, finish, judge.
//!
//! In: a parsed request, a [`Slot`], an absolute deadline. Out: [`Finished`]: the picture or the one cause, and what
//! the page asked of the network. Every await races the deadline. Must not: retry, decide about addresses, or answer
//! with a picture when the page's own navigation failed. Dropping the future drops lease and session, so a caller that
//! hangs up costs nothing further.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capture_egress::{Budget, Egress, EgressReport, Refusal, Scope, Session, Spent, Synthetic};
use capture_jail::client::ClientError;
use screenshot_policy::policy::EffectivePolicy;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::pool::{Lease, Pool, PoolError};
use super::request::{CaptureRequest, Source};
use super::verdict::{Signals, judge};
use super::wait::{Progress, Wait};
use super::{CaptureError, Phase, output};
use crate::browser::{DriverError, Events, Page, Shot, Viewport};
use crate::clock;
use crate::limits::admission::Slot;

/// How long the events that belong to a failed navigation may still take to arrive.
const LATE_EVENTS: Duration = Duration::from_millis(20);

/// How the proxy names the capture's own deadline, which is no budget of the page's.
const DEADLINE: Refusal = Refusal::Budget(Spent::Deadline);
/// How long the end of the jailer may take to be noticed after that of its browsers.
const JAILER_ECHO: Duration = Duration::from_millis(300);

/// A picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The encoded image.
    pub bytes: Bytes,
    /// Its media type.
    pub media_type: &'static str,
}

/// Milliseconds spent, for `Server-Timing`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Until a browser was at hand.
    pub browser: Duration,
    /// From there until the page was ready.
    pub load: Duration,
    /// From there until the picture was made.
    pub render: Duration,
}

/// How a capture ended.
#[derive(Debug)]
pub struct Finished {
    /// The picture or the cause.
    pub result: Result<Picture, CaptureError>,
    /// What the page asked of the network, if it came to that.
    pub egress: Option<EgressReport>,
    /// Where the time went.
    pub timings: Timings,
}

impl Finished {
    fn early(cause: CaptureError) -> Self {
        Self {
            result: Err(cause),
            egress: None,
            timings: Timings::default(),
        }
    }
}

/// The engine.
pub struct Engine {
    pool: Arc<Pool>,
    egress: Egress,
    policy: Arc<EffectivePolicy>,
}

/// Why the drive ended before there was a picture. What the page itself did wrong stands in the signals.
enum Stop {
    /// See the signals.
    Signalled,
    /// The driver failed.
    Driver(DriverError),
    /// Our own limit.
    Cause(CaptureError),
}

impl From<DriverError> for Stop {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// What is known while the page is driven; survives the deadline's cutting in.
struct Drive {
    phase: Phase,
    wait: Wait,
    signals: Signals,
    ready_at: Option<Instant>,
}

impl Engine {
    /// An engine over a pool, a proxy and the policy that both follow.
    pub fn new(pool: Arc<Pool>, egress: Egress, policy: Arc<EffectivePolicy>) -> Self {
        Self { pool, egress, policy }
    }

    /// Takes one picture. `id` names the capture in logs and in the synthetic host; it must be a DNS label.
    pub async fn capture(&self, request: CaptureRequest, slot: Slot, deadline: Instant, id: &str) -> Finished {
        let began = clock::monotonic();
        let mut lease = match timeout_at(deadline, self.pool.lease()).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => return Finished::early(no_lease(&error)),
            Err(_) => return Finished::early(CaptureError::Timeout(Phase::Browser)),
        };
        lease.hold(slot);
        let Some(listener) = lease.listener.take() else {
            return Finished::early(CaptureError::NoBrowser);
        };
        let leased = clock::monotonic();

        let Some((url, synthetic)) = destination(&request.source, id) else {
            return Finished::early(CaptureError::NavigationFailed);
        };
        let session = self.egress.open(listener, self.scope(id, deadline, synthetic));
        let mut drive = Drive {
            phase: Phase::Navigate,
            wait: Wait::new(lease.page.frame()),
            signals: Signals::default(),
            ready_at: None,
        };
        let driven = self
            .race(&mut lease, &mut drive, &session, &request, &url, deadline)
            .await;
        let ended = clock::monotonic();
        let (report, _listener) = session.finish().await;
        drop(lease);

        let ready = drive.ready_at.unwrap_or(ended);
        let timings = Timings {
            browser: leased.duration_since(began),
            load: ready.duration_since(leased),
            render: ended.duration_since(ready),
        };
        let result = verdict(drive, driven, &report, &url);
        Finished {
            result,
            egress: Some(report),
            timings,
        }
    }

    fn scope(&self, id: &str, deadline: Instant, synthetic: Option<Synthetic>) -> Scope {
        let limits = self.policy.limits();
        let budget = Budget {
            requests: limits.max_requests,
            hosts: limits.max_hosts,
            sockets: limits.max_sockets,
            wire_bytes: limits.max_wire_bytes,
        };
        Scope {
            capture_id: id.to_owned(),
            deadline,
            budget,
            synthetic,
        }
    }

    /// Drives the page against everything that may end it: deadline, spent budget, death of browser or jailer.
    async fn race(
        &self,
        lease: &mut Lease,
        drive: &mut Drive,
        session: &Session,
        request: &CaptureRequest,
        url: &Url,
        deadline: Instant,
    ) -> Result<Picture, Stop> {
        enum End {
            Driven(Result<Picture, Stop>),
            Tripped(Refusal),
            BrowserGone,
            JailerGone,
            Late,
        }
        let (page, events, browser, link) = (&lease.page, &mut lease.events, &lease.browser, lease.jail.link());
        let end = tokio::select! {
            biased;
            driven = self.drive(page, events, drive, request, url) => End::Driven(driven),
            refusal = session.tripped() => End::Tripped(refusal),
            () = browser.gone() => End::BrowserGone,
            () = link.gone() => End::JailerGone,
            () = tokio::time::sleep_until(deadline) => End::Late,
        };
        match end {
            End::BrowserGone | End::Driven(Err(Stop::Driver(DriverError::Closed))) => {
                // With the jailer every browser dies, and that is ours. A browser that dies alone died of its page.
                let jailer_too = tokio::time::timeout(JAILER_ECHO, link.gone()).await.is_ok();
                (drive.signals.lost, drive.signals.crashed) = (jailer_too, !jailer_too);
            }
            End::Driven(driven) => return driven,
            End::Tripped(DEADLINE) | End::Late => drive.signals.deadline = Some(drive.phase),
            End::Tripped(budget) => drive.signals.spent = Some(budget.reason()),
            End::JailerGone => drive.signals.lost = true,
        }
        Err(Stop::Signalled)
    }

    async fn drive(
        &self,
        page: &Page,
        events: &mut Events,
        drive: &mut Drive,
        request: &CaptureRequest,
        url: &Url,
    ) -> Result<Picture, Stop> {
        watched(page.resize(request.viewport), events, drive).await?;
        let answer = watched(page.navigate(url.as_str()), events, drive).await?;
        drive.wait.navigated(&answer);
        drive.signals.download = answer.download;
        drive.signals.navigation = answer.error;
        if drive.signals.navigation.is_some() || drive.signals.download {
            late_events(events, &mut drive.wait).await;
            return Err(Stop::Signalled);
        }
        drive.phase = Phase::Load;
        while drive.wait.progress() != Progress::Ready {
            next(events, drive).await?;
        }
        drive.ready_at = Some(clock::monotonic());
        if drive.wait.document_status().is_some_and(|status| status >= 400) {
            return Err(Stop::Signalled);
        }
        drive.phase = Phase::Render;
        self.render(page, events, drive, request).await
    }

    async fn render(
        &self,
        page: &Page,
        events: &mut Events,
        drive: &mut Drive,
        request: &CaptureRequest,
    ) -> Result<Picture, Stop> {
        let limits = self.policy.limits();
        let area = if request.full_page {
            let content = watched(page.content_size(), events, drive).await?;
            let width = request.viewport.width;
            let height = content.height.max(request.viewport.height);
            let too_many = u64::from(width) * u64::from(height) > limits.max_pixels;
            if too_many || u64::from(height) > limits.max_full_page_height {
                return Err(Stop::Cause(CaptureError::PageTooLarge));
            }
            Some(Viewport { width, height })
        } else {
            None
        };
        let shot = Shot {
            format: request.format,
            area,
        };
        let bytes = watched(page.screenshot(shot), events, drive).await?;
        output::check(
            &bytes,
            request.format,
            area.unwrap_or(request.viewport),
            limits.max_output_bytes,
        )
        .map_err(Stop::Cause)?;
        Ok(Picture {
            bytes: bytes.into(),
            media_type: output::media_type(request.format),
        })
    }
}

/// Waits for a command while the events go on: a page that crashes never answers.
async fn watched<T>(
    command: impl Future<Output = Result<T, DriverError>>,
    events: &mut Events,
    drive: &mut Drive,
) -> Result<T, Stop> {
    tokio::pin!(command);
    loop {
        tokio::select! {
            biased;
            answer = &mut command => return answer.map_err(Stop::Driver),
            stopped = next(events, drive) => stopped?,
        }
    }
}

/// Takes in one event; a crash ends the drive.
async fn next(events: &mut Events, drive: &mut Drive) -> Result<(), Stop> {
    match events.next().await {
        Some(event) => drive.wait.on(&event),
        None => return Err(Stop::Driver(DriverError::Closed)),
    }
    if drive.wait.progress() == Progress::Crashed {
        drive.signals.crashed = true;
        return Err(Stop::Signalled);
    }
    Ok(())
}

/// The answer to a navigation may overtake the events that say where it failed.
async fn late_events(events: &mut Events, wait: &mut Wait) {
    while let Ok(Some(event)) = tokio::time::timeout(LATE_EVENTS, events.next()).await {
        wait.on(&event);
    }
}

/// Names the outcome. A picture stands only if nothing speaks against its page.
fn verdict(
    drive: Drive,
    driven: Result<Picture, Stop>,
    report: &EgressReport,
    asked: &Url,
) -> Result<Picture, CaptureError> {
    let Drive { wait, mut signals, .. } = drive;
    signals.status = wait.document_status();
    signals.document = site(
        wait.document_url()
            .and_then(|url| Url::parse(url).ok())
            .as_ref()
            .unwrap_or(asked),
    );
    signals.refusals = report
        .decisions
        .iter()
        .filter(|decision| !decision.is_allowed())
        .cloned()
        .collect();
    if signals.deadline.is_none() {
        let budget = report.tripped.filter(|refusal| *refusal != DEADLINE);
        signals.spent = signals.spent.or(budget.map(|refusal| refusal.reason()));
    }
    match driven {
        Ok(picture) => judge(&signals).map_or(Ok(picture), Err),
        Err(Stop::Cause(cause)) => Err(cause),
        Err(Stop::Signalled) => Err(judge(&signals).unwrap_or(CaptureError::NavigationFailed)),
        Err(Stop::Driver(error)) => {
            signals.driver = Some(error);
            Err(judge(&signals).unwrap_or(CaptureError::Driver(error)))
        }
    }
}

/// Host and port as the proxy writes them.
fn site(url: &Url) -> Option<(String, u16)> {
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

/// Where the browser is sent: the page itself, or a host that only the proxy knows and serves the HTML under. `None` only for an `id` that is no DNS label.
fn destination(source: &Source, id: &str) -> Option<(Url, Option<Synthetic>)> {
    Some(match source {
        Source::Url(url) => (url.clone(), None),
        Source::Html(html) => {
            let host = format!("{id}.html-content.invalid");
            let synthetic = Synthetic {
                host: host.clone(),
                content_type: "text/html; charset=utf-8",
                body: Bytes::copy_from_slice(html.as_bytes()),
            };
            (Url::parse(&format!("http://{host}/")).ok()?, Some(synthetic))
        }
    })
}

fn no_lease(error: &PoolError) -> CaptureError {
    tracing::warn!(reason = error.reason(), "no browser for a capture");
    match error {
        PoolError::Timeout => CaptureError::Timeout(Phase::Browser),
        PoolError::Browser(DriverError::Closed) | PoolError::Jailer(ClientError::Closed) => CaptureError::BrowserLost,
        PoolError::Browser(error) => CaptureError::Driver(*error),
        PoolError::NoJailer | PoolError::Jailer(_) | PoolError::Descriptors => CaptureError::NoBrowser,
    }
}
