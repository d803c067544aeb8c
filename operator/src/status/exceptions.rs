//! What exceptions hold, until when, and that one ends soon.
//!
//! Dates, never days left: those would be written anew every day. The one flip is seven days before an end.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use screenshot_api::ExceptionStatus;
use screenshot_policy::policy::EffectivePolicy;

use super::verdict::{Verdict, Weight, verdict};

pub(super) const KIND: &str = "ExceptionsLasting";
/// An end is told so long before it.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The exceptions that hold, the first to end first.
pub(super) fn holding(policy: &EffectivePolicy, now: Timestamp) -> Vec<ExceptionStatus> {
    let held = policy.exceptions().iter().filter(|exception| exception.active(now));
    let mut held: Vec<ExceptionStatus> = held
        .map(|exception| ExceptionStatus {
            host: exception.host.to_string(),
            expires: Time(exception.expires),
        })
        .collect();
    held.sort_by(|a, b| (a.expires.0, &a.host).cmp(&(b.expires.0, &b.host)));
    held
}

/// Whether none has ended or ends soon; nothing is said where there are none.
pub(super) fn lasting(policy: &EffectivePolicy, now: Timestamp) -> Option<Verdict> {
    let next = policy.exceptions().iter().min_by_key(|exception| exception.expires)?;
    let (host, ends) = (&next.host, next.expires);
    let verdict = if !next.active(now) {
        let message =
            format!("the exception for {host} ended at {ends} and opens nothing: take it out, or give it a later end");
        verdict(KIND, false, "ExceptionEnded", message)
    } else if ends.duration_since(now) < SOON {
        verdict(
            KIND,
            false,
            "ExceptionEndsSoon",
            format!("the exception for {host} ends at {ends}"),
        )
    } else {
        verdict(KIND, true, "NoneEndsSoon", "no exception ends within seven days")
    };
    Some(verdict.weighing(Weight::Shown))
}
