//! The life of one jail, as the fleet knows it.
//!
//! In: what happens in it. Out: whether it has to end, and why. A capture in it works, then is cleared away, then is gone:
//! it is counted in one place at a time. Must not: know of other jails.

use tokio::time::Instant;

use super::super::super::Lane;
use super::{Client, Rules, Want};

/// Why a jail does not serve any longer. The words are a metric's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retired {
    /// It served its one capture.
    Served,
    /// It served as many captures as one jail may.
    Captures,
    /// It is old.
    Age,
    /// Nobody used it.
    Idle,
    /// It holds more memory than a used jail should.
    Memory,
    /// Its place was needed.
    Evicted,
    /// Something went wrong in it; the bounded word says what.
    Incident(&'static str),
}

impl Retired {
    /// The bounded word.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Captures => "captures",
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Memory => "memory",
            Self::Evicted => "evicted",
            Self::Incident(word) => word,
        }
    }
}

/// A jail holds too much when it holds this many times what it held fresh, and this many bytes more.
const GROWTH: u64 = 2;
const GROWTH_BYTES: u64 = 128 << 20;

/// Whose a jail is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody's.
    Warm,
    /// One client's.
    Bound { client: Client, lane: Lane, alone: bool },
    /// Nobody's any more.
    Draining(Retired),
    /// The same, and being killed: it has its place until it is dead.
    Ending(Retired),
}

/// One jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Whose it is.
    pub state: State,
    /// Whether its browser runs; until then it is a promise.
    pub up: bool,
    /// Captures that are in hand.
    pub working: usize,
    /// Captures that are over, save that their pages are still cleared away.
    pub clearing: usize,
    /// When it was last used.
    pub idle_since: Instant,
    /// Empty pages that are ready in it.
    pub pages: usize,
    captures: u64,
    born: Instant,
    /// Bytes at the first measurement.
    fresh: Option<u64>,
}

impl Member {
    /// A promise of a jail, for nobody.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Warm,
            up: false,
            working: 0,
            clearing: 0,
            idle_since: now,
            pages: 0,
            captures: 0,
            born: now,
            fresh: None,
        }
    }

    /// Captures whose page is in it.
    pub fn in_flight(&self) -> usize {
        self.working + self.clearing
    }

    /// Whether nobody's page is in it.
    pub fn rests(&self) -> bool {
        self.in_flight() == 0
    }

    /// Whether captures of one client share it, in this lane.
    pub fn is_shared(&self, wanted: Lane) -> bool {
        matches!(self.state, State::Bound { lane, alone: false, .. } if lane == wanted)
    }

    /// A capture begins.
    pub fn begin(&mut self, want: &Want, alone: bool, now: Instant) {
        self.state = State::Bound {
            client: Client::clone(&want.client),
            lane: want.lane,
            alone,
        };
        self.working += 1;
        self.captures += 1;
        self.idle_since = now;
    }

    /// It serves nobody from now on; the first reason stands.
    pub fn retire(&mut self, why: Retired) {
        if !self.is_retired() {
            self.state = State::Draining(why);
        }
    }

    /// Whether it serves nobody any more.
    pub fn is_retired(&self) -> bool {
        matches!(self.state, State::Draining(_) | State::Ending(_))
    }

    /// `Some`: it is retired and nobody's page is in it, so that it is to be killed now. It says so once.
    pub fn end(&mut self) -> Option<Retired> {
        match self.state {
            State::Draining(why) if self.rests() => {
                self.state = State::Ending(why);
                Some(why)
            }
            _ => None,
        }
    }

    /// See [`super::Fleet::leaving`].
    pub fn leaving(&mut self, max_captures: u64) -> Option<Retired> {
        match &self.state {
            State::Bound { alone: true, .. } => self.retire(Retired::Served),
            State::Bound { .. } if self.captures >= max_captures => self.retire(Retired::Captures),
            _ => {}
        }
        if self.in_flight() <= 1 && matches!(self.state, State::Draining(_)) {
            (self.working, self.clearing) = (0, 0);
            return self.end();
        }
        self.working = self.working.saturating_sub(1);
        self.clearing += 1;
        None
    }

    /// See [`super::Fleet::release`].
    pub fn release(&mut self, now: Instant) -> Option<Retired> {
        self.clearing = self.clearing.saturating_sub(1);
        self.idle_since = now;
        self.end()
    }

    /// What it holds; while it works that says nothing.
    pub fn measured(&mut self, bytes: u64) {
        if !self.rests() {
            return;
        }
        let fresh = *self.fresh.get_or_insert(bytes);
        if bytes > fresh.saturating_mul(GROWTH).saturating_add(GROWTH_BYTES) {
            self.retire(Retired::Memory);
        }
    }

    /// Whether its time is over.
    pub fn overdue(&self, rules: &Rules, now: Instant) -> Option<Retired> {
        let idle = now.saturating_duration_since(self.idle_since);
        match self.state {
            State::Draining(_) | State::Ending(_) => None,
            _ if now.saturating_duration_since(self.born) >= rules.max_age => Some(Retired::Age),
            State::Bound { .. } if self.rests() && idle >= rules.max_idle => Some(Retired::Idle),
            _ => None,
        }
    }
}
