//! What is told of each request: one audit line, and the metrics, from the same outcome.
//!
//! In: how a request went. Out: a JSON line under the target `audit`, counters and histograms. Labels come from
//! bounded sets only. Must not: hold a URL, a host that a page named, a header or a body; a request that its caller
//! gave up is recorded as `abandoned` when its record is dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use uuid::Uuid;

use crate::capture::Ledger;
use crate::capture::engine::Finished;
use crate::capture::pool::Counters;
use crate::clock;

/// A new request id. Sortable by time; also a DNS label, so that it can name the synthetic host of its capture.
pub fn request_id() -> String {
    Uuid::now_v7().simple().to_string()
}

/// One counter per outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `ok` or a bounded reason.
    pub reason: &'static str,
}

/// Every metric of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    seconds: Histogram,
    in_flight: Gauge,
    /// Captures waiting for a slot.
    pub waiting: Gauge,
    /// 1 while ready.
    pub ready: Gauge,
    /// 1 while a newer keyset file is refused.
    pub keyset_stale: Gauge,
    /// Revision of the keyset in force.
    pub keyset_revision: Gauge,
    /// 1 while the last preflight found every process confined.
    pub sandbox_verified: Gauge,
    /// When the browser was built, in seconds since 1970; 0 while that is not known.
    pub browser_built: Gauge,
    /// 1 while the canary was last found out of reach, 0 while it was reached, -1 while that is not known.
    pub egress_enforced: Gauge,
    canary: Family<Outcome, Counter>,
    /// Captures that hold a place, from their start until everything of theirs is cleared away.
    pub slots: Gauge,
    browsers: Family<State, Gauge>,
    browser_counters: Counters,
}

/// One gauge per state of a jail.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct State {
    /// `warm`, `bound` or `draining`.
    pub state: &'static str,
}

impl Metrics {
    /// For the pool of browsers, which is made later.
    pub fn browser_counters(&self) -> Counters {
        self.browser_counters.clone()
    }

    /// Counts an attempt to reach the canary.
    pub fn canary_tried(&self, reason: &'static str) {
        self.canary.get_or_create(&Outcome { reason }).inc();
    }

    /// Takes in how many jails are warm, bound and draining.
    pub fn browsers_found(&self, census: [usize; 3]) {
        for (state, count) in ["warm", "bound", "draining"].into_iter().zip(census) {
            let gauge = self.browsers.get_or_create(&State { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("screenshot_server");
        let buckets = [0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 40.0, 120.0];
        let metrics = Self {
            requests: Family::default(),
            seconds: Histogram::new(buckets),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            ready: Gauge::default(),
            keyset_stale: Gauge::default(),
            keyset_revision: Gauge::default(),
            sandbox_verified: Gauge::default(),
            browser_built: Gauge::default(),
            egress_enforced: Gauge::default(),
            canary: Family::default(),
            slots: Gauge::default(),
            browsers: Family::default(),
            browser_counters: Counters::default(),
            registry: Registry::default(),
        };
        registry.register("captures", "Capture requests by outcome", metrics.requests.clone());
        registry.register(
            "capture_seconds",
            "Time from arrival to answer",
            metrics.seconds.clone(),
        );
        registry.register(
            "captures_in_flight",
            "Capture requests in hand",
            metrics.in_flight.clone(),
        );
        registry.register(
            "captures_waiting",
            "Capture requests waiting for a slot",
            metrics.waiting.clone(),
        );
        registry.register("ready", "Whether the server takes captures", metrics.ready.clone());
        registry.register(
            "keyset_stale",
            "Whether a newer keyset was refused",
            metrics.keyset_stale.clone(),
        );
        registry.register(
            "keyset_revision",
            "Revision of the keyset in force",
            metrics.keyset_revision.clone(),
        );
        registry.register(
            "sandbox_verified",
            "Whether the sandbox was proven",
            metrics.sandbox_verified.clone(),
        );
        registry.register(
            "browser_build_timestamp_seconds",
            "When the browser was built, since 1970; 0 is unknown",
            metrics.browser_built.clone(),
        );
        registry.register(
            "egress_enforced",
            "Whether the cluster kept this pod from the operator's canary; -1 is unknown",
            metrics.egress_enforced.clone(),
        );
        registry.register(
            "canary_tries",
            "Attempts to reach the operator's canary, by outcome",
            metrics.canary.clone(),
        );
        registry.register("slots_in_use", "Captures that hold a place", metrics.slots.clone());
        registry.register("browsers", "Browsers by state", metrics.browsers.clone());
        let Counters {
            decisions,
            retired,
            launched,
            strays,
        } = metrics.browser_counters.clone();
        registry.register(
            "egress_decisions",
            "Connections that pages asked for, by outcome",
            decisions,
        );
        registry.register("browsers_retired", "Browsers that ended, by reason", retired);
        registry.register("browsers_launched", "Browsers that were launched", launched);
        registry.register(
            "browser_messages_not_understood",
            "Messages of browsers that are not known or have changed, by kind",
            strays.0,
        );
        Self { registry, ..metrics }
    }
}

/// The answer to a scrape.
pub fn exposition(metrics: &Metrics) -> Response {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _: Result<(), fmt::Error> = encode(&mut text, &metrics.registry);
    let mut response = Response::new(Body::from(text));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The record of one capture request; written when it is dropped.
#[derive(Debug)]
pub struct Record {
    metrics: Arc<Metrics>,
    id: String,
    began: Instant,
    client: String,
    key_id: String,
    reason: &'static str,
    status: u16,
    bytes: usize,
    requests: u64,
    refused: usize,
    wire_bytes: u64,
    ledger: Option<Ledger>,
}

impl Record {
    /// Opens the record of a request that has just arrived.
    pub fn open(metrics: &Arc<Metrics>, id: String) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics: Arc::clone(metrics),
            id,
            began: clock::monotonic(),
            client: String::new(),
            key_id: String::new(),
            reason: "abandoned",
            status: 0,
            bytes: 0,
            requests: 0,
            refused: 0,
            wire_bytes: 0,
            ledger: None,
        }
    }

    /// Where the time went, if it came to a capture.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Notes who called.
    pub fn called_by(&mut self, client: &str, key_id: &str) {
        client.clone_into(&mut self.client);
        key_id.clone_into(&mut self.key_id);
    }

    /// Notes what the capture did.
    pub fn finished(&mut self, finished: &Finished) {
        self.ledger = Some(finished.ledger.clone());
        if let Ok(picture) = &finished.result {
            self.bytes = picture.bytes.len();
        }
        let Some(report) = &finished.egress else { return };
        (self.requests, self.wire_bytes) = (report.requests, report.bytes);
        self.refused = report
            .decisions
            .iter()
            .filter(|decision| !decision.is_allowed())
            .count();
    }

    /// Notes success.
    pub fn succeeded(&mut self) {
        (self.reason, self.status) = ("ok", 200);
    }

    /// Notes failure.
    pub fn failed(&mut self, reason: &'static str, status: u16) {
        (self.reason, self.status) = (reason, status);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.metrics.in_flight.dec();
        self.metrics
            .requests
            .get_or_create(&Outcome { reason: self.reason })
            .inc();
        self.metrics.seconds.observe(took.as_secs_f64());
        tracing::info!(
            target: "audit",
            request_id = self.id,
            client = self.client,
            key_id = self.key_id,
            outcome = self.reason,
            status = self.status,
            duration_ms = millis(took),
            output_bytes = self.bytes,
            egress_requests = self.requests,
            egress_refused = self.refused,
            egress_bytes = self.wire_bytes,
            "capture"
        );
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_request_that_is_given_up_is_counted_as_abandoned() {
        let metrics = Arc::new(Metrics::default());
        drop(Record::open(&metrics, request_id()));
        assert_eq!(
            metrics.requests.get_or_create(&Outcome { reason: "abandoned" }).get(),
            1
        );
        assert_eq!(metrics.in_flight.get(), 0);
        let mut record = Record::open(&metrics, request_id());
        record.succeeded();
        drop(record);
        assert_eq!(metrics.requests.get_or_create(&Outcome { reason: "ok" }).get(), 1);
    }

    #[test]
    fn every_metric_is_on_the_page_with_what_to_do() {
        let page = include_str!("../../../docs/troubles.md");
        let (_, chapter) = page.split_once("## Metrics of the capture pods\n").unwrap();
        let rows = chapter.lines().take_while(|line| !line.starts_with("## "));
        let rows = rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let code = include_str!("observe.rs").split("#[cfg(test)]").next().unwrap();
        let registered = code
            .split("registry.register(")
            .skip(1)
            .map(|rest| rest.split('"').nth(1).unwrap());
        assert_eq!(registered.collect::<BTreeSet<_>>(), rows.collect());
    }

    #[test]
    fn a_request_id_is_a_dns_label() {
        let id = request_id();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }
}
