//! The hour. Decisions take the time as a parameter; this is the one place that reads it.

use jiff::Timestamp;

/// Wall time.
#[expect(clippy::disallowed_methods, reason = "here the hour is read")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Wall time in whole seconds.
pub fn whole_seconds() -> Timestamp {
    whole(wall())
}

/// A time without what is finer than a second: the API server keeps no more, and would never give back what was sent.
pub fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
