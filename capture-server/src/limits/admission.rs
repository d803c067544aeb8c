//! Admission: the gate in front of the browsers, for those who wait asleep.
//!
//! In: a [`Permit`], what the request asks of the machine, and its deadline. Out: a [`Slot`], or a refusal. `queue`
//! decides; this module lets sleep and wakes. Must not: know what a capture is. The slot moves into the work and is
//! dropped only after the page, or its whole jail, has been cleared away.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

pub use super::queue::Refused;
use super::queue::{Ask, Offer, Queue, Size, WaiterId};
use crate::access::{Capture, Permit};
use crate::capture::Lane;
use crate::clock;

type Answer = Result<Slot, Refused>;

struct State {
    queue: Queue,
    sleepers: HashMap<WaiterId, oneshot::Sender<Answer>>,
    /// When each slot was given.
    given: BTreeMap<u64, Instant>,
    next: u64,
    draining: bool,
}

struct Gate(Mutex<State>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes whoever may go on. A slot whose taker has gone comes back by being dropped.
    fn wake(self: &Arc<Self>) {
        while let Some((sleeper, ask)) = self.with(State::pop) {
            let slot = Slot::new(self, ask);
            if let Some(sleeper) = sleeper {
                let _ = sleeper.send(Ok(slot));
            }
        }
    }
}

impl State {
    fn give(&mut self, now: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.given.insert(id, now);
        id
    }

    fn pop(&mut self) -> Option<(Option<oneshot::Sender<Answer>>, Ask)> {
        let (id, ask) = self.queue.pop()?;
        Some((self.sleepers.remove(&id), ask))
    }
}

/// The gate. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    gate: Arc<Gate>,
}

/// The right to run one capture. Dropping it frees the place and feeds the estimate, as one that was given up unless it
/// [came to its end](Slot::completed). Only [`Admission::enter`] makes one.
///
/// ```compile_fail,E0451
/// use capture_server::limits::admission::Slot;
/// let _: fn(Slot) -> Slot = |slot| Slot { ..slot };
/// ```
/// Handing one on is fine (this is what shows that the one above fails for the right reason):
/// ```
/// use capture_server::limits::admission::Slot;
/// let _: fn(Slot) -> Slot = |slot| slot;
/// ```
#[derive(Debug)]
pub struct Slot {
    gate: Arc<Gate>,
    /// What it was given for.
    ask: Ask,
    id: u64,
    since: Instant,
    /// How long the capture took, if it came to an end of its own.
    took: OnceLock<Duration>,
}

impl Slot {
    fn new(gate: &Arc<Gate>, ask: Ask) -> Self {
        let since = clock::monotonic();
        let id = gate.with(|state| state.give(since));
        Self {
            gate: Arc::clone(gate),
            ask,
            id,
            since,
            took: OnceLock::new(),
        }
    }

    /// Notes that the capture came to an end of its own, be it a picture or not: it took until now.
    pub fn completed(&self) {
        let _ = self.took.set(self.held());
    }

    fn held(&self) -> Duration {
        clock::monotonic().saturating_duration_since(self.since)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.with(|state| {
            state.given.remove(&self.id);
            if let Some(took) = self.took.get() {
                state.queue.finished(&self.ask, *took);
            } else {
                state.queue.given_up(&self.ask, self.held());
            }
        });
        self.gate.wake();
    }
}

/// Takes its waiter out of the queue, however the waiting ends. One that gives up may have stood before others that fit.
struct Sleeping<'a> {
    gate: &'a Arc<Gate>,
    id: WaiterId,
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        let gave_up = self.gate.with(|state| {
            state.queue.cancel(self.id);
            state.sleepers.remove(&self.id).is_some()
        });
        if gave_up {
            self.gate.wake();
        }
    }
}

enum Entered {
    Slot,
    Asleep(WaiterId, oneshot::Receiver<Answer>),
}

impl Admission {
    /// A gate for a machine of this size; it may be measured again later.
    pub fn new(size: Size) -> Self {
        let state = State {
            queue: Queue::new(size),
            sleepers: HashMap::new(),
            given: BTreeMap::new(),
            next: 1,
            draining: false,
        };
        Self {
            gate: Arc::new(Gate(Mutex::new(state))),
        }
    }

    /// A new finding about the machine.
    pub fn resize(&self, change: impl FnOnce(Size) -> Size) {
        self.gate.with(|state| {
            let size = change(state.queue.size());
            state.queue.resize(size);
        });
        self.gate.wake();
    }

    /// Waits for a slot, at most until the deadline.
    pub async fn enter(&self, _permit: Permit<Capture>, ask: Ask, deadline: Instant) -> Answer {
        let left = deadline.saturating_duration_since(clock::monotonic());
        match self.gate.with(|state| state.arrive(ask.clone(), left))? {
            Entered::Slot => Ok(Slot::new(&self.gate, ask)),
            Entered::Asleep(id, answer) => {
                let _sleeping = Sleeping { gate: &self.gate, id };
                match timeout_at(deadline, answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) => Err(Refused::Draining),
                    Err(_) => Err(Refused::Deadline),
                }
            }
        }
    }

    /// Turns new requests away from now on; those in hand and in the queue go on.
    pub fn drain(&self) {
        self.gate.with(|state| state.draining = true);
    }

    /// Requests waiting for a slot.
    pub fn waiting(&self) -> usize {
        self.gate.with(|state| state.queue.waiting())
    }

    /// How long the oldest capture has been in hand; zero if there is none.
    pub fn oldest(&self) -> Duration {
        let first = self
            .gate
            .with(|state| state.given.first_key_value().map(|(_, since)| *since));
        first.map_or(Duration::ZERO, |since| {
            clock::monotonic().saturating_duration_since(since)
        })
    }

    /// As if a capture had been let in then, and never ended.
    #[cfg(test)]
    pub(crate) fn stuck(&self, since: Instant) {
        self.gate.with(|state| state.give(since));
    }

    /// Captures in hand.
    pub fn in_flight(&self) -> usize {
        self.gate
            .with(|state| state.queue.in_flight(Lane::Fast) + state.queue.in_flight(Lane::Bulk))
    }
}

impl State {
    fn arrive(&mut self, ask: Ask, left: Duration) -> Result<Entered, Refused> {
        if self.draining {
            return Err(Refused::Draining);
        }
        let (id, displaced) = match self.queue.offer(ask, left)? {
            Offer::Enter => return Ok(Entered::Slot),
            Offer::Wait(id) => (id, None),
            Offer::Displace(id, victim, refused) => (id, Some((victim, refused))),
        };
        if let Some((victim, refused)) = displaced
            && let Some(sleeper) = self.sleepers.remove(&victim)
        {
            let _ = sleeper.send(Err(refused));
        }
        let (sleeper, answer) = oneshot::channel();
        self.sleepers.insert(id, sleeper);
        Ok(Entered::Asleep(id, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::caller;
    use screenshot_policy::keyset::Scope;

    fn permit() -> Permit<Capture> {
        caller().permit_capture(Scope::CaptureUrl).unwrap()
    }

    fn gate(fast: usize, queue: usize) -> Admission {
        Admission::new(Size {
            fast,
            bulk: 1,
            total: fast + 1,
            queue,
            memory: None,
        })
    }

    async fn enter(admission: &Admission, client: &str, ms: u64) -> Answer {
        let ask = Ask {
            client: client.into(),
            lane: Lane::Fast,
            places: 1,
            weight: 1,
            bytes: 0,
        };
        let deadline = clock::monotonic() + Duration::from_millis(ms);
        admission.enter(permit(), ask, deadline).await
    }

    #[tokio::test]
    async fn no_more_than_the_concurrency_is_let_in_and_a_dropped_slot_lets_the_next_in() {
        let admission = gate(1, 8);
        let slot = enter(&admission, "a", 5000).await.unwrap();
        let next = enter(&admission, "a", 5000);
        tokio::pin!(next);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), &mut next)
                .await
                .is_err()
        );
        assert_eq!((admission.waiting(), admission.in_flight()), (1, 1));
        drop(slot);
        let slot = next.await.unwrap();
        assert_eq!((admission.waiting(), admission.in_flight()), (0, 1));
        assert!(admission.oldest() > Duration::ZERO);
        drop(slot);
        assert_eq!((admission.in_flight(), admission.oldest()), (0, Duration::ZERO));
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_leaves_no_trace() {
        let admission = gate(1, 1);
        let slot = enter(&admission, "a", 5000).await.unwrap();
        {
            let next = enter(&admission, "a", 5000);
            assert!(tokio::time::timeout(Duration::from_millis(10), next).await.is_err());
        }
        assert_eq!(admission.waiting(), 0);
        drop(slot);
        assert_eq!(admission.in_flight(), 0);
        assert!(enter(&admission, "a", 5000).await.is_ok());
    }

    #[tokio::test]
    async fn a_slot_that_was_granted_to_somebody_who_left_is_not_lost() {
        let admission = gate(1, 8);
        let slot = enter(&admission, "a", 5000).await.unwrap();
        let mut next = Box::pin(enter(&admission, "a", 5000));
        assert!(
            tokio::time::timeout(Duration::from_millis(10), &mut next)
                .await
                .is_err()
        );
        // Granted, but not looked at any more.
        drop(slot);
        drop(next);
        assert_eq!(admission.in_flight(), 0);
    }

    #[tokio::test]
    async fn captures_that_are_given_up_do_not_make_the_wait_look_shorter() {
        // One that would have to wait for half a second, and take as long.
        let waits = async |admission: &Admission| {
            let _slot = enter(admission, "a", 5000).await.unwrap();
            enter(admission, "a", 900).await.unwrap_err()
        };
        let admission = gate(1, 8);
        for _ in 0..50 {
            drop(enter(&admission, "a", 5000).await.unwrap());
        }
        assert_eq!(waits(&admission).await.reason(), "would_miss_deadline");
        for _ in 0..50 {
            enter(&admission, "a", 5000).await.unwrap().completed();
        }
        assert_eq!(waits(&admission).await, Refused::Deadline);
    }

    #[tokio::test]
    async fn what_a_slot_is_held_for_after_its_capture_does_not_make_the_wait_look_longer() {
        let admission = gate(1, 8);
        for _ in 0..50 {
            let slot = enter(&admission, "a", 5000).await.unwrap();
            slot.completed();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let _slot = enter(&admission, "a", 5000).await.unwrap();
        // It would have to wait for as long as a capture takes, and take as long.
        assert_eq!(enter(&admission, "a", 60).await.unwrap_err(), Refused::Deadline);
    }

    #[tokio::test]
    async fn who_gives_up_lets_a_smaller_one_behind_go_on_at_once() {
        let admission = gate(2, 8);
        let _slot = enter(&admission, "a", 5000).await.unwrap();
        let large = Ask {
            client: "b".into(),
            lane: Lane::Fast,
            places: 2,
            weight: 1,
            bytes: 0,
        };
        let large = admission.enter(permit(), large, clock::monotonic() + Duration::from_secs(5));
        let (moment, long) = (Duration::from_millis(100), Duration::from_secs(2));
        let (gone, small) = tokio::join!(
            tokio::time::timeout(moment, large),
            tokio::time::timeout(long, enter(&admission, "c", 5000))
        );
        assert!(gone.is_err() && small.is_ok_and(|small| small.is_ok()));
    }

    #[tokio::test]
    async fn the_deadline_bounds_the_wait() {
        let admission = gate(1, 8);
        let _slot = enter(&admission, "a", 5000).await.unwrap();
        let began = clock::monotonic();
        // 1.1 s is longer than one guessed service and wait, so the request waits and then runs out of time.
        assert_eq!(enter(&admission, "a", 1100).await.unwrap_err(), Refused::Deadline);
        assert!(began.elapsed() < Duration::from_secs(3));
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn whoever_is_displaced_is_told_so_at_once() {
        let admission = gate(1, 2);
        let _slot = enter(&admission, "a", 5000).await.unwrap();
        let greedy: Vec<_> = (0..2)
            .map(|_| {
                let admission = admission.clone();
                tokio::spawn(async move { enter(&admission, "a", 5000).await.map(drop) })
            })
            .collect();
        while admission.waiting() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let modest = admission.clone();
        let modest = tokio::spawn(async move { enter(&modest, "b", 5000).await.map(drop) });
        let mut greedy = greedy.into_iter();
        let (_, last) = (greedy.next(), greedy.next().unwrap());
        assert_eq!(last.await.unwrap().unwrap_err().reason(), "queue_full");
        assert_eq!(admission.waiting(), 2);
        modest.abort();
    }

    #[tokio::test]
    async fn a_machine_found_larger_lets_waiters_in() {
        let admission = gate(1, 8);
        let _slot = enter(&admission, "a", 5000).await.unwrap();
        let more = admission.clone();
        let waiter = tokio::spawn(async move { enter(&more, "a", 5000).await });
        while admission.waiting() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        admission.resize(|size| Size {
            fast: 2,
            total: 3,
            ..size
        });
        assert!(waiter.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_draining() {
        let admission = gate(1, 1);
        admission.drain();
        assert_eq!(enter(&admission, "a", 5000).await.unwrap_err(), Refused::Draining);
    }
}
