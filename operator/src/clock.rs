//! The hour. Decisions take the time as a parameter; this is the one place that reads it.

use jiff::Timestamp;

/// Wall time.
#[expect(clippy::disallowed_methods, reason = "here the hour is read")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Wall time in whole seconds: the API server keeps no more, and anything finer would never compare equal.
pub fn whole_seconds() -> Timestamp {
    let now = wall();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
