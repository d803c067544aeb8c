//! How long to wait after a failure. Per service: 1 s, doubling, at most 5 min, forgotten on success. Per watch: 0.8 s,
//! doubling, at most 10 s.
//!
//! Some is added at random, so that what failed together is not tried together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::runtime::utils::{Backoff as Waits, ResetTimerBackoff};

use crate::cache::Key;
use crate::context::random;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Between two tries of a watch that fails, at first and at most; up to as much again is added at random. An API server
/// that was away is followed again within twice the latter. kube's own pauses go up to a minute.
const WATCH: [Duration; 2] = [Duration::from_millis(800), Duration::from_secs(10)];
/// A watch that worked for so long begins anew with the shortest pause.
const WATCH_FORGETS: Duration = Duration::from_secs(120);

/// Pauses between tries of one watch.
pub fn watch() -> impl Waits {
    ResetTimerBackoff::new(Pauses::default(), WATCH_FORGETS)
}

#[derive(Debug)]
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(WATCH[0])
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = pause.saturating_mul(2).min(WATCH[1]);
        let chance = random::<1>().map_or(0, |[byte]| u32::from(byte));
        Some(pause + pause * chance / 255)
    }
}

impl Waits for Pauses {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

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
    fn a_watch_is_tried_again_within_twenty_seconds_however_long_it_failed() {
        let mut pauses = Pauses::default();
        let first: Vec<Duration> = pauses.by_ref().take(20).collect();
        for (pause, least) in first.iter().zip([800, 1600, 3200, 6400, 10_000, 10_000]) {
            assert!((least..=2 * least).contains(&pause.as_millis()), "{first:?}");
        }
        assert!(first.iter().all(|pause| *pause <= 2 * WATCH[1]), "{first:?}");
        pauses.reset();
        assert!(pauses.next().unwrap() <= 2 * WATCH[0]);
    }

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
