//! Messages of a browser that nobody waits for, counted by kind: a newer browser that speaks differently shows here.
//!
//! In: what the client could not place. Out: counters. Must not: keep, log or name anything of a message.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Why a message was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stray {
    /// An event that this browser was not known to send.
    UnknownEvent,
    /// An event that is waited for, but does not have the fields that are needed.
    DriftedEvent,
    /// An event that is longer than the wire takes.
    OversizedEvent,
    /// An answer to a question that was never asked, or a message that is neither answer nor event.
    UnknownAnswer,
    /// An answer that does not have the fields that are needed.
    DriftedAnswer,
}

impl Stray {
    /// The bounded word.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnknownEvent => "unknown_event",
            Self::DriftedEvent => "drifted_event",
            Self::OversizedEvent => "oversized_event",
            Self::UnknownAnswer => "unknown_answer",
            Self::DriftedAnswer => "drifted_answer",
        }
    }
}

/// One counter per kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// See [`Stray::reason`].
    pub reason: &'static str,
}

/// The counters of all browsers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Strays(pub Family<Kind, Counter>);

impl Strays {
    pub(super) fn count(&self, stray: Stray) {
        self.0.get_or_create(&Kind { reason: stray.reason() }).inc();
    }

    #[cfg(test)]
    pub(super) fn seen(&self, stray: Stray) -> u64 {
        self.0.get_or_create(&Kind { reason: stray.reason() }).get()
    }
}
