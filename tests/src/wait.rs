//! Waiting for what comes by itself, with an end.

use std::time::{Duration, Instant};

use crate::Failure;

/// Asks again every 50 ms until the answer is `Some` or the time is over.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let start = Instant::now();
    loop {
        if let Some(value) = ask() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            return Err(format!("{what}: not within {limit:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
