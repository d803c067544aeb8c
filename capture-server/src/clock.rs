//! The two clocks. Decisions take the time as a parameter; this is the one place that reads it.

use jiff::Timestamp;
use tokio::time::Instant;

/// Wall time, for what has a date: keys and exceptions.
#[expect(clippy::disallowed_methods, reason = "here the hour is read")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Monotonic time, for deadlines and durations.
pub fn monotonic() -> Instant {
    Instant::now()
}
