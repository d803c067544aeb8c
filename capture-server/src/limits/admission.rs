//! Admission: so many captures at once, so many waiting, first come first served, and nobody waits in vain.
//!
//! In: a [`Permit`] and the request's deadline. Out: a [`Slot`], or a refusal with the time after which trying again
//! makes sense, computed from how long captures really take. Must not: know what a capture is. The slot moves into
//! the work and is dropped only after the browser's jail is reaped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::access::{Capture, Permit};
use crate::clock;

/// What a capture is taken to last before one has been measured.
const FIRST_GUESS: Duration = Duration::from_millis(500);
/// Weight of the newest measurement: one in eight.
const SMOOTHING: u64 = 8;

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many as may wait are waiting.
    #[error("the queue is full")]
    QueueFull {
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// The wait would use up the request's time.
    #[error("the wait would be longer than the deadline")]
    WouldMissDeadline {
        /// When the queue is likely to be short enough.
        retry_after: Duration,
    },
    /// The deadline passed while waiting.
    #[error("the deadline passed in the queue")]
    Deadline,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
}

impl Refused {
    /// The bounded word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue_full",
            Self::WouldMissDeadline { .. } => "would_miss_deadline",
            Self::Deadline => "timeout",
            Self::Draining => "draining",
        }
    }
}

/// What would become of a request that came now. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests waiting before this one.
    pub waiting: usize,
    /// Whether a slot is free.
    pub free: bool,
    /// How many may wait.
    pub queue: usize,
    /// Captures at once.
    pub concurrency: usize,
    /// How long a capture lasts.
    pub service: Duration,
}

impl Load {
    /// How long the request would wait for its slot.
    pub fn expected_wait(&self) -> Duration {
        if self.free && self.waiting == 0 {
            return Duration::ZERO;
        }
        let position = u32::try_from(self.waiting.saturating_add(1)).unwrap_or(u32::MAX);
        let lanes = u32::try_from(self.concurrency.max(1)).unwrap_or(u32::MAX);
        self.service.saturating_mul(position) / lanes
    }

    /// Lets the request wait, or tells why not. `left` is its time to the deadline.
    pub fn offer(&self, left: Duration) -> Result<(), Refused> {
        let wait = self.expected_wait();
        let retry_after = wait.max(Duration::from_secs(1));
        if !self.free && self.waiting >= self.queue {
            return Err(Refused::QueueFull { retry_after });
        }
        // The measured time is a mean, so a request is turned away only when even that cannot fit.
        if wait > Duration::ZERO && wait + self.service > left {
            return Err(Refused::WouldMissDeadline { retry_after });
        }
        Ok(())
    }
}

/// The gate.
#[derive(Debug)]
pub struct Admission {
    semaphore: Arc<Semaphore>,
    concurrency: usize,
    queue: usize,
    waiting: AtomicUsize,
    service_us: Arc<AtomicU64>,
    draining: AtomicBool,
}

/// The right to run one capture. Dropping it frees the place and feeds the estimate.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
    since: Instant,
    service_us: Arc<AtomicU64>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let smooth = |old: u64| Some(old - old / SMOOTHING + took / SMOOTHING);
        let _ = self
            .service_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, smooth);
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// `concurrency` captures at once, `queue` waiting; both at least 1.
    pub fn new(concurrency: usize, queue: usize) -> Self {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let first = u64::try_from(FIRST_GUESS.as_micros()).unwrap_or(u64::MAX);
        Self {
            semaphore: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            queue: queue.max(1),
            waiting: AtomicUsize::new(0),
            service_us: Arc::new(AtomicU64::new(first)),
            draining: AtomicBool::new(false),
        }
    }

    /// Waits for a slot, at most until the deadline.
    pub async fn enter(&self, _permit: Permit<Capture>, deadline: Instant) -> Result<Slot, Refused> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refused::Draining);
        }
        let left = deadline.saturating_duration_since(clock::monotonic());
        self.load().offer(left)?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let acquired = tokio::time::timeout_at(deadline, Arc::clone(&self.semaphore).acquire_owned()).await;
        match acquired {
            Ok(Ok(permit)) => {
                let service_us = Arc::clone(&self.service_us);
                Ok(Slot {
                    _permit: permit,
                    since: clock::monotonic(),
                    service_us,
                })
            }
            Ok(Err(_)) => Err(Refused::Draining),
            Err(_) => Err(Refused::Deadline),
        }
    }

    /// Turns new requests away from now on; those in hand go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Free slots.
    pub fn free(&self) -> usize {
        self.semaphore.available_permits()
    }

    /// Requests waiting for a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn load(&self) -> Load {
        Load {
            waiting: self.waiting(),
            free: self.free() > 0,
            queue: self.queue,
            concurrency: self.concurrency,
            service: Duration::from_micros(self.service_us.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::key;
    use screenshot_policy::keyset::{Keyset, VERSION};

    fn permit() -> Permit<Capture> {
        let (token, key) = key(1, None);
        let keyset = Keyset {
            version: VERSION,
            revision: 1,
            keys: vec![key],
        };
        let mut headers = http::HeaderMap::new();
        let value = format!("Bearer {}", token.text());
        headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
        let caller = crate::access::authenticate(&headers, Some(&keyset), clock::wall()).unwrap();
        caller.permit_capture()
    }

    fn soon(ms: u64) -> Instant {
        clock::monotonic() + Duration::from_millis(ms)
    }

    #[test]
    fn the_offer_follows_the_queue_and_the_measured_time() {
        let load = |waiting, free| Load {
            waiting,
            free,
            queue: 4,
            concurrency: 2,
            service: Duration::from_secs(1),
        };
        assert_eq!(load(0, true).offer(Duration::from_millis(1)), Ok(()));
        assert_eq!(load(3, false).offer(Duration::from_secs(10)), Ok(()));
        let full = load(4, false).offer(Duration::from_secs(10));
        assert_eq!(
            full,
            Err(Refused::QueueFull {
                retry_after: Duration::from_millis(2500)
            })
        );
        let late = load(3, false).offer(Duration::from_millis(2900));
        assert_eq!(
            late,
            Err(Refused::WouldMissDeadline {
                retry_after: Duration::from_secs(2)
            })
        );
    }

    #[tokio::test]
    async fn no_more_than_the_concurrency_is_let_in_and_a_dropped_slot_lets_the_next_in() {
        let admission = Admission::new(1, 8);
        let slot = admission.enter(permit(), soon(5000)).await.unwrap();
        assert_eq!(admission.free(), 0);
        let next = admission.enter(permit(), soon(5000));
        tokio::pin!(next);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), &mut next)
                .await
                .is_err()
        );
        assert_eq!(admission.waiting(), 1);
        drop(slot);
        next.await.unwrap();
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_leaves_no_trace() {
        let admission = Admission::new(1, 1);
        let slot = admission.enter(permit(), soon(5000)).await.unwrap();
        {
            let next = admission.enter(permit(), soon(5000));
            assert!(tokio::time::timeout(Duration::from_millis(10), next).await.is_err());
        }
        assert_eq!(admission.waiting(), 0);
        drop(slot);
        assert_eq!(admission.free(), 1);
    }

    #[tokio::test]
    async fn the_deadline_bounds_the_wait() {
        let admission = Admission::new(1, 8);
        let _slot = admission.enter(permit(), soon(5000)).await.unwrap();
        let began = clock::monotonic();
        // 1.1 s is longer than one guessed service and wait, so the request waits and then runs out of time.
        assert_eq!(
            admission.enter(permit(), soon(1100)).await.unwrap_err(),
            Refused::Deadline
        );
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let admission = Arc::new(Admission::new(1, 1));
        let _slot = admission.enter(permit(), soon(5000)).await.unwrap();
        let waiter = Arc::clone(&admission);
        let waiting = tokio::spawn(async move { waiter.enter(permit(), soon(5000)).await });
        while admission.waiting() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(
            admission.enter(permit(), soon(5000)).await.unwrap_err().reason(),
            "queue_full"
        );
        waiting.abort();
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_draining() {
        let admission = Admission::new(1, 1);
        admission.drain();
        assert_eq!(
            admission.enter(permit(), soon(5000)).await.unwrap_err(),
            Refused::Draining
        );
    }
}
