//! What the operator counts, in OpenMetrics text.
//!
//! Labels come from bounded sets only: no names of objects, no texts of errors.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: a pass that writes nothing takes less than the first, one that hangs is ended after the last.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    verb: &'static str,
    kind: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

/// A condition and its status, for counting services.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub struct Held {
    /// Type of the condition.
    pub condition: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// What is true at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// Whether this process makes passes.
    pub leading: bool,
    /// Services that wait for a pass.
    pub queue: usize,
    /// For each kind whether its watches work.
    pub watches: BTreeMap<&'static str, bool>,
    /// Whether the canary answers through this pod's own address.
    pub canary: bool,
    /// Services by condition; empty in a standby, so that nothing is counted twice.
    pub services: BTreeMap<Held, i64>,
}

/// All of it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Family<Outcome, Counter>,
    duration: Histogram,
    writes: Family<Write, Counter>,
    calls: Family<Call, Counter>,
    steps: Family<Step, Counter>,
    drift: Family<OfKind, Counter>,
    leader: Gauge,
    queue: Gauge,
    watches: Family<OfKind, Gauge>,
    services: Family<Held, Gauge>,
    canary: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("screenshot_operator"),
            passes: Family::default(),
            duration: Histogram::new(BUCKETS),
            writes: Family::default(),
            calls: Family::default(),
            steps: Family::default(),
            drift: Family::default(),
            leader: Gauge::default(),
            queue: Gauge::default(),
            watches: Family::default(),
            services: Family::default(),
            canary: Gauge::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let to = &mut self.registry;
        to.register(
            "reconciles",
            "Passes over a ScreenshotService by outcome",
            self.passes.clone(),
        );
        let duration = self.duration.clone();
        to.register_with_unit("reconcile_duration", "How long a pass took", Unit::Seconds, duration);
        to.register(
            "writes",
            "Writes to the API server by kind and verb",
            self.writes.clone(),
        );
        to.register(
            "api_calls",
            "Calls to the API server by verb, kind and answer",
            self.calls.clone(),
        );
        to.register(
            "rotation_steps",
            "Steps of token rotations that were carried out",
            self.steps.clone(),
        );
        to.register(
            "drift",
            "Edited children that were put back, by kind",
            self.drift.clone(),
        );
        to.register(
            "leader",
            "1 in the process that makes passes, 0 in a standby",
            self.leader.clone(),
        );
        to.register("queue_depth", "Services that wait for a pass", self.queue.clone());
        to.register(
            "canary_answers",
            "1 while the canary answers through this pod's own address",
            self.canary.clone(),
        );
        to.register("watch_up", "1 while all watches of the kind work", self.watches.clone());
        to.register(
            "services",
            "Services by condition, as the leader sees them",
            self.services.clone(),
        );
        self
    }

    /// Counts a pass; `outcome` is `ok`, `invalid` or the reason of an error.
    pub fn pass(&self, outcome: &'static str) {
        self.passes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Notes how long a pass took.
    pub fn took(&self, time: Duration) {
        self.duration.observe(time.as_secs_f64());
    }

    /// Counts a write to the API server.
    pub fn write(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }

    /// Counts a call to the API server.
    pub fn api_call(&self, verb: &'static str, kind: &'static str, code: &'static str) {
        self.calls.get_or_create(&Call { verb, kind, code }).inc();
    }

    /// Counts a step of a rotation.
    pub fn step(&self, step: &'static str) {
        self.steps.get_or_create(&Step { step }).inc();
    }

    /// Counts an edited child that was put back.
    pub fn drift(&self, kind: &'static str) {
        self.drift.get_or_create(&OfKind { kind }).inc();
    }

    /// Writes so far of one kind and verb.
    pub fn writes_of(&self, kind: &'static str, verb: &'static str) -> u64 {
        self.writes.get_or_create(&Write { kind, verb }).get()
    }

    /// The text that is scraped.
    pub fn text(&self, present: &Present) -> String {
        self.leader.set(i64::from(present.leading));
        self.queue.set(i64::try_from(present.queue).unwrap_or(i64::MAX));
        self.canary.set(i64::from(present.canary));
        self.watches.clear();
        for (kind, up) in &present.watches {
            self.watches.get_or_create(&OfKind { kind }).set(i64::from(*up));
        }
        self.services.clear();
        for (held, number) in &present.services {
            self.services.get_or_create(held).set(*number);
        }
        self.counters()
    }

    /// The text without what is only true at the moment of a scrape.
    pub fn counters(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_counts_and_the_present_and_forgets_what_is_no_longer_so() {
        let metrics = Metrics::default();
        metrics.pass("ok");
        metrics.pass("Conflict");
        metrics.api_call("watch", "Pod", "2xx");
        metrics.api_call("get", "Secret", "4xx");
        metrics.took(Duration::from_millis(3));
        let held = Held {
            condition: "Ready".into(),
            status: "True".into(),
        };
        let present = Present {
            leading: true,
            queue: 3,
            canary: true,
            watches: [("Pod", true), ("Secret", false)].into(),
            services: [(held, 5)].into(),
        };
        let text = metrics.text(&present);
        for line in [
            "screenshot_operator_reconciles_total{outcome=\"ok\"} 1",
            "screenshot_operator_api_calls_total{verb=\"watch\",kind=\"Pod\",code=\"2xx\"} 1",
            "screenshot_operator_leader 1",
            "screenshot_operator_queue_depth 3",
            "screenshot_operator_canary_answers 1",
            "screenshot_operator_watch_up{kind=\"Secret\"} 0",
            "screenshot_operator_services{condition=\"Ready\",status=\"True\"} 5",
            "screenshot_operator_reconcile_duration_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let text = metrics.text(&Present::default());
        assert!(text.contains("screenshot_operator_leader 0"));
        assert!(!text.contains("screenshot_operator_services{"), "{text}");
    }
}
