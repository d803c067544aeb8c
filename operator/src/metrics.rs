//! Counters of the operator, in OpenMetrics text.
//!
//! Labels come from bounded sets only: no names of objects, no texts of errors.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

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
struct Step {
    step: &'static str,
}

/// The operator's counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Family<Outcome, Counter>,
    writes: Family<Write, Counter>,
    steps: Family<Step, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("screenshot_operator");
        let (passes, writes, steps) = (Family::default(), Family::default(), Family::default());
        registry.register(
            "reconciles",
            "Passes over a ScreenshotService by outcome",
            passes.clone(),
        );
        registry.register("writes", "Writes to the API server by kind and verb", writes.clone());
        registry.register(
            "rotation_steps",
            "Steps of token rotations that were carried out",
            steps.clone(),
        );
        Self {
            registry,
            passes,
            writes,
            steps,
        }
    }
}

impl Metrics {
    /// Counts a pass; `outcome` is `ok`, `invalid` or the reason of an error.
    pub fn pass(&self, outcome: &'static str) {
        self.passes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a write to the API server.
    pub fn write(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }

    /// Counts a step of a rotation.
    pub fn step(&self, step: &'static str) {
        self.steps.get_or_create(&Step { step }).inc();
    }

    /// Writes so far, all kinds and verbs.
    pub fn writes_of(&self, kind: &'static str, verb: &'static str) -> u64 {
        self.writes.get_or_create(&Write { kind, verb }).get()
    }

    /// The text that is scraped.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
