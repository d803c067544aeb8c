//! The phases of a capture, and what each has spent of the one deadline.
//!
//! In: the moments at which a capture enters a phase. Out: the phase it stands in (part of every timeout's answer), the
//! time each took (`Server-Timing`), and a span for each in the trace. Must not: read a clock or hold a limit; there is
//! one deadline, and it is absolute.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{Span, debug_span};

/// The target of the trace's spans; switched on with `RUST_LOG=info,trace=debug`.
pub const TRACE: &str = "trace";

/// Where a capture stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting for a slot; or, with the answer made, for room beside answers that are not read yet.
    Queue,
    /// Waiting for a browser and an empty page in it.
    Open,
    /// Asking for the document.
    Navigate,
    /// Loading the page.
    Load,
    /// Bringing the loaded page into the state to be shown.
    Settle,
    /// Making the picture.
    Shot,
    /// Encoding it anew, outside of the browser.
    Encode,
}

/// Every phase, in order.
pub const PHASES: [Phase; 7] = [
    Phase::Queue,
    Phase::Open,
    Phase::Navigate,
    Phase::Load,
    Phase::Settle,
    Phase::Shot,
    Phase::Encode,
];

impl Phase {
    /// The public word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Open => "open",
            Self::Navigate => "navigate",
            Self::Load => "load",
            Self::Settle => "settle",
            Self::Shot => "shot",
            Self::Encode => "encode",
        }
    }

    /// Its span, below the current one. A span's name is fixed where it is made, hence a place for each.
    fn span(self) -> Span {
        match self {
            Self::Queue => debug_span!(target: TRACE, "queue"),
            Self::Open => debug_span!(target: TRACE, "open"),
            Self::Navigate => debug_span!(target: TRACE, "navigate"),
            Self::Load => debug_span!(target: TRACE, "load"),
            Self::Settle => debug_span!(target: TRACE, "settle"),
            Self::Shot => debug_span!(target: TRACE, "shot"),
            Self::Encode => debug_span!(target: TRACE, "encode"),
        }
    }
}

/// The time that each phase took so far.
#[derive(Debug, Clone)]
pub struct Ledger {
    phase: Phase,
    since: Instant,
    spent: [Duration; PHASES.len()],
    /// Lives as long as the phase does.
    span: Span,
}

impl Ledger {
    /// A capture that arrived at `now` and waits for its slot.
    pub fn open(now: Instant) -> Self {
        Self {
            phase: Phase::Queue,
            since: now,
            spent: [Duration::ZERO; PHASES.len()],
            span: Phase::Queue.span(),
        }
    }

    /// The phase that the capture is in.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Goes on to another phase; whoever stands in it already goes on standing in it.
    pub fn enter(&mut self, phase: Phase, now: Instant) {
        if self.phase == phase {
            return;
        }
        self.close(now);
        self.phase = phase;
        self.span = phase.span();
    }

    /// Books what has passed until `now`, and ends the phase's span.
    pub fn close(&mut self, now: Instant) {
        self.span = Span::none();
        self.spent[self.phase as usize] += now.saturating_duration_since(self.since);
        self.since = now;
    }

    /// Each phase's share, in order.
    pub fn spent(&self) -> impl Iterator<Item = (Phase, Duration)> + '_ {
        PHASES.iter().map(|phase| (*phase, self.spent[*phase as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_booked_to_exactly_one_phase() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ledger = Ledger::open(start);
        ledger.enter(Phase::Open, at(5));
        ledger.enter(Phase::Shot, at(7));
        ledger.enter(Phase::Open, at(8));
        ledger.close(at(18));
        let spent: Vec<_> = ledger
            .spent()
            .map(|(phase, time)| (phase.as_str(), time.as_millis()))
            .collect();
        let expected = [
            ("queue", 5),
            ("open", 12),
            ("navigate", 0),
            ("load", 0),
            ("settle", 0),
            ("shot", 1),
            ("encode", 0),
        ];
        assert_eq!(spent, expected);
        assert_eq!(ledger.phase(), Phase::Open);
    }

    #[test]
    fn the_phases_stand_in_their_order() {
        for (at, phase) in PHASES.iter().enumerate() {
            assert_eq!(*phase as usize, at);
        }
    }
}
