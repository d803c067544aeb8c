//! The walk of one capture: lease, open the proxy, drive the page, judge.
//!
//! In: a [`Job`]: a parsed request, a [`Slot`], an absolute deadline. Out: [`Finished`]: the picture or the one cause,
//! what the page asked of the network, and where the time went. Every await races the deadline. Must not: retry or
//! decide about addresses. Dropping the future drops the lease, or the claim on a jail that still starts, which clears up
//! and only then frees the slot: a caller that hangs up costs what was begun for it, and that in its own place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capture_egress::{Budget, Decision, Egress, EgressReport, Refusal, Scope, Spent, Synthetic};
use capture_jail::client::ClientError;
use screenshot_policy::policy::EffectivePolicy;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::drive::{Drive, Stop, drive};
use super::link::Link;
use super::pool::fleet::Want;
use super::pool::{Parts, Pool, PoolError};
use super::request::{CaptureRequest, Source};
use super::verdict::{Signals, judge};
use super::wait::Wait;
use super::{CaptureError, Ledger, Phase};
use crate::browser::DriverError;
use crate::clock;
use crate::limits::admission::Slot;

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

/// One capture to be made.
pub struct Job<'a> {
    /// Whose it is; different clients never share a browser.
    pub client: &'a str,
    /// What is asked.
    pub request: CaptureRequest,
    /// The right to run.
    pub slot: Arc<Slot>,
    /// When everything has to be over.
    pub deadline: Instant,
    /// Names the capture in logs and in the synthetic host; must be a DNS label.
    pub id: &'a str,
    /// Where the time went before.
    pub ledger: Ledger,
}

/// How a capture ended.
#[derive(Debug)]
pub struct Finished {
    /// The picture or the cause.
    pub result: Result<Picture, CaptureError>,
    /// What the page asked of the network, if it came to that.
    pub egress: Option<EgressReport>,
    /// Where the time went.
    pub ledger: Ledger,
}

impl Finished {
    fn early(cause: CaptureError, mut ledger: Ledger) -> Self {
        ledger.close(clock::monotonic());
        Self {
            result: Err(cause),
            egress: None,
            ledger,
        }
    }
}

/// The engine.
pub struct Engine {
    pool: Pool,
    egress: Egress,
    policy: Arc<EffectivePolicy>,
}

impl Engine {
    /// An engine over a pool, a proxy and the policy that both follow.
    pub fn new(pool: Pool, egress: Egress, policy: Arc<EffectivePolicy>) -> Self {
        Self { pool, egress, policy }
    }

    /// Takes one picture.
    pub async fn capture(&self, job: Job<'_>) -> Finished {
        let Job {
            client,
            request,
            slot,
            deadline,
            id,
            mut ledger,
        } = job;
        ledger.enter(Phase::Open, clock::monotonic());
        let want = Want {
            client: client.into(),
            lane: request.lane(),
            alone: request.is_personal(),
        };
        let mut lease = match timeout_at(deadline, self.pool.lease(&want, &slot)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => return Finished::early(no_lease(&error), ledger),
            Err(_) => return Finished::early(CaptureError::Timeout(Phase::Open), ledger),
        };
        let Some((url, synthetic)) = destination(&request.source, id) else {
            return Finished::early(CaptureError::NavigationFailed, ledger);
        };
        lease.connect(&self.egress, self.scope(id, deadline, synthetic));
        let Some(mut parts) = lease.parts() else {
            return Finished::early(CaptureError::NoBrowser, ledger);
        };
        ledger.enter(Phase::Navigate, clock::monotonic());
        let mut state = Drive {
            wait: Wait::new(parts.page.frame()),
            signals: Signals::default(),
            ledger,
            unpackable: self.policy.limits().max_decoded_bytes.get(),
            askable: self.policy.limits().max_requests.get(),
            place: slot,
        };
        let driven = self.race(&mut parts, &mut state, &request, &url, deadline).await;
        state.ledger.close(clock::monotonic());
        let (ledger, report) = (state.ledger.clone(), parts.session.report());
        let result = verdict(state, driven, &report, &url);
        if let Some(incident) = result.as_ref().err().and_then(CaptureError::incident) {
            lease.blame(incident);
        }
        Finished {
            result,
            egress: Some(report),
            ledger,
        }
    }

    fn scope(&self, id: &str, deadline: Instant, synthetic: Option<Synthetic>) -> Scope {
        let limits = self.policy.limits();
        let budget = Budget {
            requests: limits.max_requests.get(),
            hosts: limits.max_hosts.get(),
            sockets: limits.max_sockets.get(),
            wire_bytes: limits.max_wire_bytes.get(),
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
        parts: &mut Parts<'_>,
        state: &mut Drive,
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
        let Parts {
            page,
            events,
            cell,
            session,
        } = parts;
        let link = cell.jail.link();
        let end = tokio::select! {
            biased;
            driven = drive((page, events), state, request, url, self.policy.limits()) => End::Driven(driven),
            refusal = session.tripped() => End::Tripped(refusal),
            () = cell.browser.gone() => End::BrowserGone,
            () = link.gone() => End::JailerGone,
            () = tokio::time::sleep_until(deadline) => End::Late,
        };
        // A death is told by the page's event or by the end of the browser's pipe, whichever comes first.
        match end {
            End::BrowserGone | End::Driven(Err(Stop::Driver(DriverError::Closed))) => {
                died(&mut state.signals, link).await;
            }
            End::Driven(_) if state.signals.crashed => died(&mut state.signals, link).await,
            End::Driven(driven) => return driven,
            End::Tripped(DEADLINE) | End::Late => state.signals.deadline = Some(state.ledger.phase()),
            End::Tripped(budget) => state.signals.spent = Some(budget.reason()),
            End::JailerGone => state.signals.lost = true,
        }
        Err(Stop::Signalled)
    }
}

/// Whose death it was: with the jailer every browser dies, and that is ours; what dies alone died of its page.
async fn died(signals: &mut Signals, link: &Link) {
    let jailer_too = tokio::time::timeout(JAILER_ECHO, link.gone()).await.is_ok();
    (signals.lost, signals.crashed) = (jailer_too, !jailer_too);
}

/// Names the outcome. A picture stands only if nothing speaks against its page.
fn verdict(
    state: Drive,
    driven: Result<Picture, Stop>,
    report: &EgressReport,
    asked: &Url,
) -> Result<Picture, CaptureError> {
    let Drive { wait, mut signals, .. } = state;
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
    Some(Decision::place(url.host_str()?, url.port_or_known_default()?))
}

/// Where the browser is sent: the page itself, or a host that only the proxy knows and serves the HTML under. `None`
/// only for an `id` that is no DNS label.
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
        PoolError::Timeout => CaptureError::Timeout(Phase::Open),
        PoolError::Browser(DriverError::Closed) | PoolError::Jailer(ClientError::Closed) | PoolError::Ended(_) => {
            CaptureError::BrowserLost
        }
        PoolError::Browser(error) => CaptureError::Driver(*error),
        PoolError::NoJailer
        | PoolError::Full
        | PoolError::Jailer(_)
        | PoolError::Descriptors
        | PoolError::Unproven(_) => CaptureError::NoBrowser,
    }
}
