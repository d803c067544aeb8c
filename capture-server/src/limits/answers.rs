//! Answers in memory: how many bytes may be made and not yet read by their callers.
//!
//! In: whose answer it is and how long. Out: its [`Room`], which goes with the bytes until the last of them is written
//! or dropped, or none in time. No client has more than half of all, so that one that does not read what it asked for
//! leaves room for the others. Must not: know HTTP, copy an answer, or take it away from who reads it slowly (the
//! listener does, by its own bounds).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Bytes of all answers together, where none of them may be so long that more is needed: a quarter of what the server's
/// container has by default.
const LEAST: u64 = 128 << 20;
/// Bytes are counted in units of so many.
const UNIT: usize = 1024;

/// Room for one answer. Dropping it leaves it to the next.
#[derive(Debug)]
pub struct Room {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Room {
    /// The same bytes, which have this room for as long as anybody has any of them: a connection that writes them, too.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

struct Held {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What all answers that are not read yet may take.
#[derive(Debug)]
pub struct Answers {
    all: Arc<Semaphore>,
    /// Units of one client.
    most: u32,
    /// What is left to each client that has an answer, or had one of late.
    clients: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Answers {
    /// For answers of at most so many bytes.
    pub fn new(longest: u64) -> Self {
        Self::of(LEAST.max(longest.saturating_mul(2)))
    }

    /// So many bytes, half of them for one client.
    pub(crate) fn of(bytes: u64) -> Self {
        let most = u32::try_from(bytes / 2 / UNIT as u64).unwrap_or(u32::MAX / 2).max(1);
        Self {
            all: units(most * 2),
            most,
            clients: Mutex::default(),
        }
    }

    /// Room for an answer of so many bytes, if it is there now.
    pub fn at_once(&self, client: &str, bytes: usize) -> Option<Room> {
        let (own, size) = (self.own(client), self.size(bytes));
        Some(Room {
            _own: own.try_acquire_many_owned(size).ok()?,
            _all: Arc::clone(&self.all).try_acquire_many_owned(size).ok()?,
        })
    }

    /// The same, waiting for others to be read, at most until then.
    pub async fn in_time(&self, client: &str, bytes: usize, until: Instant) -> Option<Room> {
        let (own, size) = (self.own(client), self.size(bytes));
        let room = async {
            // In this order: who waits for its own answers to be read takes nothing from the others.
            Some(Room {
                _own: own.acquire_many_owned(size).await.ok()?,
                _all: Arc::clone(&self.all).acquire_many_owned(size).await.ok()?,
            })
        };
        timeout_at(until, room).await.ok().flatten()
    }

    /// In units. One that is longer than a client may have takes all of that.
    fn size(&self, bytes: usize) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        units.clamp(1, self.most)
    }

    fn own(&self, client: &str) -> Arc<Semaphore> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has an answer, or waits with one, has a reference.
        clients.retain(|_, own| Arc::strong_count(own) > 1);
        let own = clients.entry(client.to_owned());
        Arc::clone(own.or_insert_with(|| units(self.most)))
    }
}

fn units(free: u32) -> Arc<Semaphore> {
    let free = usize::try_from(free).unwrap_or(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(free))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use screenshot_policy::policy::CaptureLimits;

    use super::*;
    use crate::clock;

    const MIB: usize = 1 << 20;

    /// Half of it is one client's: 50 MiB.
    fn answers() -> Answers {
        Answers::of(100 << 20)
    }

    #[test]
    fn a_client_has_at_most_half_and_the_others_have_the_rest() {
        let answers = answers();
        let own: Vec<Room> = (0..5).map(|_| answers.at_once("a", 10 * MIB).unwrap()).collect();
        assert!(answers.at_once("a", 1).is_none());
        let other = answers.at_once("b", 50 * MIB).unwrap();
        assert!(answers.at_once("c", 1).is_none());
        drop(other);
        assert!(answers.at_once("c", 50 * MIB).is_some());
        drop(own);
        assert!(answers.at_once("a", 50 * MIB).is_some());
    }

    #[test]
    fn an_answer_has_its_room_until_the_last_of_its_bytes_is_gone() {
        let answers = answers();
        let room = answers.at_once("a", 50 * MIB).unwrap();
        let bytes = room.hold(Bytes::from_static(b"picture"));
        assert_eq!(bytes, "picture");
        let last = bytes.slice(6..);
        drop(bytes);
        assert!(answers.at_once("a", 1).is_none());
        drop(last);
        assert!(answers.at_once("a", 50 * MIB).is_some());
    }

    #[tokio::test]
    async fn an_answer_waits_until_its_deadline_and_in_the_way_of_nobody_else() {
        let answers = answers();
        let first = answers.at_once("a", 50 * MIB).unwrap();
        let (moment, soon) = (Duration::from_millis(20), Duration::from_secs(5));
        let until = clock::monotonic() + moment;
        assert!(answers.in_time("a", 1, until).await.is_none());
        let waits = answers.in_time("a", 50 * MIB, clock::monotonic() + soon);
        tokio::pin!(waits);
        assert!(tokio::time::timeout(moment, &mut waits).await.is_err());
        assert!(answers.at_once("b", 50 * MIB).is_some());
        drop(first);
        assert!(waits.await.is_some());
    }

    #[test]
    fn two_clients_have_room_for_the_longest_answer_that_a_policy_allows_in_half_of_the_containers_memory() {
        for limits in [CaptureLimits::DEFAULT, CaptureLimits::CEILING] {
            let longest = limits.max_output_bytes.get();
            let answers = Answers::new(longest);
            assert!(answers.all.available_permits() * UNIT <= 256 * MIB);
            let longest = usize::try_from(longest).unwrap();
            let both = ["a", "b"].map(|client| answers.at_once(client, longest));
            assert!(both.iter().all(Option::is_some), "{longest}");
        }
        assert_eq!(Answers::new(1).all.available_permits() * UNIT, 128 * MIB);
    }

    #[test]
    fn a_client_without_answers_is_forgotten() {
        let answers = answers();
        let room = answers.at_once("a", 1);
        for client in ["b", "c"] {
            assert!(answers.at_once(client, 1).is_some());
        }
        let known = || answers.clients.lock().unwrap().len();
        assert_eq!(known(), 2);
        drop(room);
        assert!(answers.at_once("d", 1).is_some());
        assert_eq!(known(), 1);
    }
}
