//! How long to wait after a failure, per service: 1 s, doubling, at most 5 min, forgotten on success.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row per service.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// Counts a failure; returns how long to wait.
    pub fn failed(&self, service: &str) -> Duration {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = map.entry(service.to_owned()).or_insert(0);
        let wait = delay(*count);
        *count = count.saturating_add(1);
        wait
    }

    /// Forgets the failures of a service.
    pub fn succeeded(&self, service: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }
}

fn delay(failures: u32) -> Duration {
    FIRST.saturating_mul(2u32.saturating_pow(failures)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_wait_ever_longer_up_to_five_minutes_and_a_success_forgets_them() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..11).map(|_| backoff.failed("a/b").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.failed("other").as_secs(), 1);
        backoff.succeeded("a/b");
        assert_eq!(backoff.failed("a/b").as_secs(), 1);
    }
}
