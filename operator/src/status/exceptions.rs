//! What exceptions hold, until when, and that one ends soon.
//!
//! The days left are whole ones: a service with an exception is written once a day for them. The condition flips once,
//! seven days before an end.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use screenshot_api::{ExceptionKind, ExceptionStatus};
use screenshot_policy::host::Host;
use screenshot_policy::policy::EffectivePolicy;

use super::verdict::{Verdict, Weight, verdict};

pub(super) const KIND: &str = "ExceptionsLasting";
/// An end is told so long before it.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

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

    fn words(&self) -> (&'static str, &'static str) {
        match self.kind {
            ExceptionKind::Destination => ("the exception for", "opens nothing"),
            ExceptionKind::Certificate => ("the exception for the certificate of", "lets no other certificate pass"),
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

/// Whether none has ended or ends soon; nothing is said where there are none.
pub(super) fn lasting(policy: &EffectivePolicy, now: Timestamp) -> Option<Verdict> {
    let next = all(policy).min_by_key(|exception| exception.expires)?;
    let (host, ends, (what, done)) = (next.host, next.expires, next.words());
    let verdict = if !next.active(now) {
        let message = format!("{what} {host} ended at {ends} and {done}: take it out, or give it a later end");
        verdict(KIND, false, "ExceptionEnded", message)
    } else if ends.duration_since(now) < SOON {
        verdict(
            KIND,
            false,
            "ExceptionEndsSoon",
            format!("{what} {host} ends at {ends}"),
        )
    } else {
        verdict(KIND, true, "NoneEndsSoon", "no exception ends within seven days")
    };
    Some(verdict.weighing(Weight::Shown))
}
