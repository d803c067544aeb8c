//! Nonces of the operator that were taken: a message of its that somebody kept proves nothing a second time.
//!
//! In: nonces that came under the operator's code, the hour. Out: whether one is new and of this time. What is remembered
//! is bounded by the operator's own rate and by [`MAX_SKEW`], after which the nonce's own time speaks against it.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use screenshot_policy::attest::{MAX_SKEW, nonce_time};

/// Nonces that were taken, as long as they are of this time.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<Vec<[u8; 32]>>);

impl Nonces {
    /// Takes a nonce that was proven to be the operator's. False if it was taken before, or made longer than [`MAX_SKEW`]
    /// before or after `now`.
    pub fn take(&self, nonce: [u8; 32], now: Timestamp) -> bool {
        let fresh =
            |nonce: &[u8; 32]| nonce_time(nonce).is_some_and(|at| now.duration_since(at).unsigned_abs() <= MAX_SKEW);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(fresh);
        let new = fresh(&nonce) && !taken.contains(&nonce);
        if new {
            taken.push(nonce);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use screenshot_policy::attest::nonce;

    use super::*;

    #[test]
    fn a_nonce_is_taken_once_and_only_at_its_time() {
        let at = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
        let nonces = Nonces::default();
        assert!(nonces.take(nonce(at(0), [1; 24]), at(0)));
        assert!(!nonces.take(nonce(at(0), [1; 24]), at(1)), "taken");
        assert!(nonces.take(nonce(at(0), [2; 24]), at(1)), "another of the same second");
        for (made, accepted) in [(-301, false), (-300, true), (300, true), (301, false)] {
            assert_eq!(nonces.take(nonce(at(made), [3; 24]), at(0)), accepted, "{made}");
        }
        assert!(!nonces.take([0xff; 32], at(0)) && !nonces.take([0x7f; 32], at(0)));
        // Nothing is remembered for longer than it could be played back.
        assert!(nonces.take(nonce(at(700), [1; 24]), at(700)));
        assert_eq!(nonces.0.lock().unwrap().len(), 1);
    }
}
