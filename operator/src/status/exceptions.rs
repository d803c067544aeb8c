//! What exceptions hold, until when, and that one ends soon.
//!
//! The days left are whole ones: a service with an exception is written once a day for them. The condition flips once,
//! seven days before an end.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use screenshot_api::{ExceptionKind, ExceptionStatus};
use screenshot_policy::host::Host;
use screenshot_policy::policy::EffectivePolicy;

use super::verdict::{Verdict, Weight, verdict};

pub(super) const KIND: &str = "ExceptionsLasting";
/// An end is told so long before it.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);
/// So many exceptions are named in one message.
const NAMED: usize = 3;

/// One exception of either kind.
struct Exception<'p> {
    kind: ExceptionKind,
    host: &'p Host,
    expires: Timestamp,
}

impl Exception<'_> {
    fn active(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// When it last changed: when it ended, or when its end became near. `None` while that is far.
    fn changed(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.active(now) {
            return Some(self.expires);
        }
        let near = self.expires.checked_sub(SOON).unwrap_or(Timestamp::MIN);
        (near <= now).then_some(near)
    }

    fn sentence(&self, now: Timestamp) -> String {
        let (what, done) = match self.kind {
            ExceptionKind::Destination => ("the exception for", "opens nothing"),
            ExceptionKind::Certificate => ("the exception for the certificate of", "lets no other certificate pass"),
        };
        let (host, ends) = (self.host, self.expires);
        if self.active(now) {
            format!("{what} {host} ends at {ends}")
        } else {
            format!("{what} {host} ended at {ends} and {done}: take it out, or give it a later end")
        }
    }
}

fn all(policy: &EffectivePolicy) -> impl Iterator<Item = Exception<'_>> {
    let destinations = policy.exceptions().iter().map(|exception| Exception {
        kind: ExceptionKind::Destination,
        host: &exception.host,
        expires: exception.expires,
    });
    let certificates = policy.tls_hosts().iter().filter_map(|named| {
        Some(Exception {
            kind: ExceptionKind::Certificate,
            host: &named.host,
            expires: named.exception_end()?,
        })
    });
    destinations.chain(certificates)
}

/// The exceptions that hold, the first to end first.
pub(super) fn holding(policy: &EffectivePolicy, now: Timestamp) -> Vec<ExceptionStatus> {
    let held = all(policy).filter(|exception| exception.active(now));
    let mut held: Vec<ExceptionStatus> = held
        .map(|exception| ExceptionStatus {
            host: exception.host.to_string(),
            kind: exception.kind,
            expires: Time(exception.expires),
            days_left: days(exception.expires.duration_since(now)),
        })
        .collect();
    held.sort_by(|a, b| (a.expires.0, &a.host, a.kind).cmp(&(b.expires.0, &b.host, b.kind)));
    held
}

/// Whole days, at most what the schema holds: ten thousand years.
fn days(left: SignedDuration) -> i64 {
    (left.as_hours() / 24).clamp(0, 3_650_000)
}

/// Whether none has ended or ends soon; nothing is said where there are none. The latest change gives the reason and
/// comes first, then what still holds: one that ended long ago must not silence the warning about another.
pub(super) fn lasting(policy: &EffectivePolicy, now: Timestamp) -> Option<Verdict> {
    all(policy).next()?;
    let changed = all(policy).filter_map(|exception| Some((exception.changed(now)?, exception)));
    let mut changed: Vec<(Timestamp, Exception<'_>)> = changed.collect();
    changed.sort_by_key(|(at, exception)| (Reverse(*at), exception.active(now)));
    if let Some((_, others)) = changed.split_first_mut() {
        others.sort_by_key(|(_, exception)| !exception.active(now));
    }
    let verdict = match changed.first() {
        None => verdict(KIND, true, "NoneEndsSoon", "no exception ends within seven days"),
        Some((_, latest)) if latest.active(now) => verdict(KIND, false, "ExceptionEndsSoon", list(&changed, now)),
        Some(_) => verdict(KIND, false, "ExceptionEnded", list(&changed, now)),
    };
    Some(verdict.weighing(Weight::Shown))
}

fn list(changed: &[(Timestamp, Exception<'_>)], now: Timestamp) -> String {
    let named = changed.iter().take(NAMED);
    let mut sentences: Vec<String> = named.map(|(_, exception)| exception.sentence(now)).collect();
    let others = changed.len().saturating_sub(NAMED);
    if others > 0 {
        sentences.push(format!("and {others} more"));
    }
    sentences.join("; ")
}
