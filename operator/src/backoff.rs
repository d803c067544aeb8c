//! How long to wait after a failure, per service: 1 s, doubling, at most 5 min, forgotten on success.
//!
//! Up to a fifth is added at random, so that what failed together is not tried together. Randomness comes in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cache::Key;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row per service.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<Key, u32>>);

impl Backoff {
    /// Counts a failure; returns how long to wait. `chance` is any byte.
    pub fn failed(&self, service: &Key, chance: u8) -> Duration {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = map.entry(service.clone()).or_insert(0);
        let wait = delay(*count);
        *count = count.saturating_add(1);
        wait + wait / 5 * u32::from(chance) / 255
    }

    /// Forgets the failures of a service.
    pub fn succeeded(&self, service: &Key) {
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
        let (service, other) = (Key::new("a", "b"), Key::new("a", "c"));
        let waits: Vec<u64> = (0..11).map(|_| backoff.failed(&service, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.failed(&other, 0).as_secs(), 1);
        backoff.succeeded(&service);
        assert_eq!(backoff.failed(&service, 0).as_secs(), 1);
        assert_eq!(backoff.failed(&other, 255), Duration::from_millis(2400));
    }
}
