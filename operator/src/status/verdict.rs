//! One condition before it is merged with the previous ones, and texts that are fit to be shown.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::clock;

/// Longest text from elsewhere within a message, in characters.
const MAX_QUOTE: usize = 300;

/// What a condition that is not true means for the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It is shown and no more.
    Shown,
    /// The service is not as wanted; it may become so by itself.
    Blocks,
    /// The service is not as wanted until a person changes something.
    Person,
}

/// One condition.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub kind: &'static str,
    pub status: bool,
    /// Whether nobody knows; then `status` is false.
    pub unknown: bool,
    pub reason: &'static str,
    pub message: String,
    pub weight: Weight,
}

/// A condition that blocks while it is not true.
pub(super) fn verdict(kind: &'static str, status: bool, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict {
        kind,
        status,
        unknown: false,
        reason,
        message: message.into(),
        weight: Weight::Blocks,
    }
}

/// A condition of which it is not known whether it holds. It is shown and no more.
pub(super) fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict {
        unknown: true,
        ..verdict(kind, false, reason, message).weighing(Weight::Shown)
    }
}

impl Verdict {
    pub(super) fn weighing(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }
}

/// The conditions; `lastTransitionTime` moves only when a status flips.
pub(super) fn merge(previous: &[Condition], verdicts: Vec<Verdict>, generation: i64, now: Timestamp) -> Vec<Condition> {
    let conditions = verdicts.into_iter().map(|verdict| {
        let status = match (verdict.unknown, verdict.status) {
            (true, _) => "Unknown",
            (_, true) => "True",
            (_, false) => "False",
        };
        let since = previous
            .iter()
            .find(|old| old.type_ == verdict.kind && old.status == status);
        Condition {
            type_: verdict.kind.to_owned(),
            status: status.to_owned(),
            observed_generation: Some(generation),
            last_transition_time: since.map_or_else(|| Time(clock::whole(now)), |old| old.last_transition_time.clone()),
            reason: verdict.reason.to_owned(),
            message: verdict.message,
        }
    });
    conditions.collect()
}

/// What a pod says is shown only as a short plain word.
pub(super) fn word(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c))
        .take(64)
        .collect()
}

/// What the cluster's own parts say is shown as a sentence of bounded length, on one line.
pub(super) fn quote(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    words.join(" ").chars().take(MAX_QUOTE).collect()
}
