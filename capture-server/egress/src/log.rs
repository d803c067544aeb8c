//! The decision log of one session.
//!
//! In: each decision. Out: the list for the report, and one log line each: of a refusal at once, of what was let through
//! when it has ended, with its bytes. Bounded, lines and list: what does not fit is counted. It must not hold text that
//! was not parsed into a host first.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::refusal::Refusal;

/// How many refusals one session keeps. What is let through is bounded by its budget of requests, and always kept: a page
/// that is refused often enough would hide where its other connections went.
pub const MAX_DECISIONS: usize = 4096;

/// How many refusals it writes to the log; a page that is refused all day must not be the log.
const MAX_LINES: usize = 256;

/// The outcome of a destination that was let through.
pub const ALLOWED: &str = "allowed";

/// What was decided about one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The host in canonical form; `-` if none could be parsed.
    pub host: String,
    /// The port; 0 if none could be parsed.
    pub port: u16,
    /// The address that was dialled or that the upstream was asked for, if it came to that.
    pub address: Option<IpAddr>,
    /// Whether the upstream proxy was asked.
    pub via_upstream: bool,
    /// [`ALLOWED`] or the refusal's reason.
    pub outcome: &'static str,
    /// The refusal, if it was one.
    pub refusal: Option<Refusal>,
    /// Bytes exchanged with the target, both directions.
    pub bytes: u64,
}

impl Decision {
    /// Host and port as a decision about them has them.
    pub fn place(host: &str, port: u16) -> (String, u16) {
        match host.parse() {
            Ok(host) => Site { host, port }.place(),
            Err(_) => nowhere(),
        }
    }

    /// Whether the destination was let through.
    pub fn is_allowed(&self) -> bool {
        self.refusal.is_none()
    }

    fn tell(&self, capture: &str) {
        let Self {
            host,
            port,
            address,
            via_upstream,
            outcome,
            refusal: _,
            bytes,
        } = self;
        let (address, via) = (address.map(tracing::field::display), via_upstream.then_some("upstream"));
        tracing::info!(target: "egress.decision", %capture, host, port, address, via, outcome, bytes);
    }
}

/// The destination that a decision is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) host: screenshot_policy::host::Host,
    pub(crate) port: u16,
}

impl Site {
    fn place(&self) -> (String, u16) {
        (self.host.to_string(), self.port)
    }
}

/// What could not be parsed is written so.
fn nowhere() -> (String, u16) {
    ("-".to_owned(), 0)
}

/// Where a connection went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Route {
    pub(crate) address: Option<IpAddr>,
    pub(crate) via_upstream: bool,
}

/// A place in the log, if there was room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry(Option<usize>);

/// Hears the outcome of every decision as it is made.
#[derive(Clone)]
pub(crate) struct Heard(pub(crate) Arc<dyn Fn(&'static str) + Send + Sync>);

impl Default for Heard {
    fn default() -> Self {
        Self(Arc::new(|_| {}))
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heard")
    }
}

#[derive(Debug)]
pub(crate) struct Log {
    capture: String,
    heard: Heard,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    decisions: Vec<Decision>,
    /// Refusals, those that are not kept included.
    refused: usize,
}

impl Log {
    pub(crate) fn new(capture: String, heard: Heard) -> Self {
        Self {
            capture,
            heard,
            kept: Mutex::default(),
        }
    }

    /// Something was let through; what is exchanged is added to the entry by [`Log::moved`].
    pub(crate) fn allowed(&self, site: &Site, route: Route) -> Entry {
        self.add(Some(site), route, None)
    }

    /// A connection that was let through has ended.
    pub(crate) fn moved(&self, entry: Entry, bytes: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = entry.0 else { return };
        if let Some(decision) = kept.decisions.get_mut(at) {
            decision.bytes = bytes;
            decision.tell(&self.capture);
        }
    }

    pub(crate) fn refused(&self, site: Option<&Site>, route: Route, refusal: Refusal) {
        self.add(site, route, Some(refusal));
    }

    fn add(&self, site: Option<&Site>, route: Route, refusal: Option<Refusal>) -> Entry {
        let (host, port) = site.map_or_else(nowhere, Site::place);
        let outcome = refusal.as_ref().map_or(ALLOWED, Refusal::reason);
        let Route { address, via_upstream } = route;
        let decision = Decision {
            host,
            port,
            address,
            via_upstream,
            outcome,
            refusal,
            bytes: 0,
        };
        (self.heard.0)(outcome);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !decision.is_allowed() {
            kept.refused += 1;
            if kept.refused > MAX_DECISIONS {
                return Entry(None);
            }
            if kept.refused <= MAX_LINES {
                decision.tell(&self.capture);
            }
        }
        kept.decisions.push(decision);
        Entry(Some(kept.decisions.len() - 1))
    }

    /// The decisions so far, in order, and how many more there were than are kept.
    pub(crate) fn snapshot(&self) -> (Vec<Decision>, u64) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let omitted = kept.refused.saturating_sub(MAX_DECISIONS);
        (kept.decisions.clone(), u64::try_from(omitted).unwrap_or(u64::MAX))
    }

    /// Says how much was not written, once all is over.
    fn conclude(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let omitted = kept.refused.saturating_sub(MAX_LINES);
        if omitted > 0 {
            tracing::info!(target: "egress.decision", capture = %self.capture, omitted);
        }
    }

    pub(crate) fn refusals(&self) -> Vec<Decision> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.decisions
            .iter()
            .filter(|decision| !decision.is_allowed())
            .cloned()
            .collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.conclude();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Spent;

    #[test]
    fn the_log_is_bounded_and_counts_what_it_leaves_out() {
        let log = Log::new("c".into(), Heard::default());
        for _ in 0..MAX_DECISIONS + 3 {
            log.refused(None, Route::default(), Refusal::Budget(Spent::Requests));
        }
        let (decisions, omitted) = log.snapshot();
        assert_eq!((decisions.len(), omitted), (MAX_DECISIONS, 3));
        // What is let through after that is kept.
        let site = Site {
            host: "a.com".parse().unwrap(),
            port: 80,
        };
        let entry = log.allowed(&site, Route::default());
        log.moved(entry, 7);
        assert_eq!(log.snapshot().0.last().map(|last| last.bytes), Some(7));
    }

    #[test]
    fn every_spelling_of_a_host_is_found_under_one() {
        let log = Log::new("c".into(), Heard::default());
        let site = |host: &str| Site {
            host: host.parse().unwrap(),
            port: 80,
        };
        for (spelled, written) in [
            ("[::ffff:7f00:1]", "[::ffff:127.0.0.1]"),
            ("localhost.", "localhost"),
            ("WWW.a.com", "www.a.com"),
        ] {
            log.refused(Some(&site(written)), Route::default(), Refusal::Budget(Spent::Sockets));
            let kept = log.refusals().pop().unwrap();
            assert_eq!(Decision::place(spelled, 80), (kept.host, kept.port), "{spelled}");
        }
        log.refused(None, Route::default(), Refusal::Budget(Spent::Sockets));
        let kept = log.refusals().pop().unwrap();
        assert_eq!(Decision::place("a!b.com", 80), (kept.host, kept.port));
    }

    #[test]
    fn refusals_leave_out_what_was_allowed() {
        let log = Log::new("c".into(), Heard::default());
        let site = Site {
            host: "a.com".parse().unwrap(),
            port: 80,
        };
        log.allowed(&site, Route::default());
        log.refused(Some(&site), Route::default(), Refusal::Budget(Spent::Sockets));
        let refusals = log.refusals();
        assert_eq!(refusals.len(), 1);
        assert_eq!(
            (refusals[0].host.as_str(), refusals[0].port, refusals[0].outcome),
            ("a.com", 80, "budget_sockets")
        );
    }
}
