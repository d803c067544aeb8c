//! Which services are due for a pass.
//!
//! In: services that something happened to. Out: each of them once, a moment later, so that a burst of changes makes one
//! pass; and not sooner than [`SPACING`] after its last, so that a steady stream of changes makes a steady trickle of
//! passes. The moment does not move when more happens: a stream of changes cannot postpone a pass for ever.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::Key;

/// Gathers the changes that belong together.
const GATHER: Duration = Duration::from_millis(50);
/// Between two passes of one service.
const SPACING: Duration = Duration::from_millis(500);
/// Above so many, the memory of last passes is tidied.
const TIDY: usize = 1024;

#[derive(Debug, Default)]
struct State {
    due: HashMap<Key, Instant>,
    order: BTreeSet<(Instant, Key)>,
    last: HashMap<Key, Instant>,
    /// Pushed, and no pass has begun since.
    waiting: HashSet<Key>,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    /// Something happened to a service.
    pub fn push(&self, service: Key) {
        let now = Instant::now();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.due.contains_key(&service) {
                return;
            }
            let spaced = state.last.get(&service).map(|last| *last + SPACING);
            let at = spaced.map_or(now + GATHER, |spaced| spaced.max(now + GATHER));
            state.order.insert((at, service.clone()));
            state.waiting.insert(service.clone());
            state.due.insert(service, at);
        }
        self.changed.notify_one();
    }

    /// A pass over the service begins.
    pub fn begun(&self, service: &Key) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.remove(service);
    }

    /// The service is gone: there will be no pass over it.
    pub fn withdraw(&self, service: &Key) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.remove(service);
        if let Some(at) = state.due.remove(service) {
            state.order.remove(&(at, service.clone()));
        }
    }

    /// How many wait for a pass.
    pub fn depth(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.len()
    }

    /// The next one, when it is due. For one consumer.
    pub async fn next(&self) -> Key {
        loop {
            let changed = self.changed.notified();
            match self.take(Instant::now()) {
                Ok(service) => return service,
                Err(Some(at)) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = changed => {}
                },
                Err(None) => changed.await,
            }
        }
    }

    /// One that is due, or when the first will be.
    fn take(&self, now: Instant) -> Result<Key, Option<Instant>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.order.first() {
            Some((at, _)) if *at <= now => {}
            first => return Err(first.map(|(at, _)| *at)),
        }
        let Some((_, service)) = state.order.pop_first() else {
            return Err(None);
        };
        state.due.remove(&service);
        if state.last.len() > TIDY && state.last.len() > 2 * state.due.len() {
            state.last.retain(|_, last| now.duration_since(*last) < SPACING);
        }
        state.last.insert(service.clone(), now);
        Ok(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_changes_is_one_pass_and_a_steady_stream_is_two_a_second() {
        let queue = Queue::default();
        let service = Key::new("a", "b");
        let start = Instant::now();
        let mut passes = Vec::new();
        while start.elapsed() < Duration::from_secs(5) {
            queue.push(service.clone());
            if tokio::time::timeout(Duration::from_millis(10), queue.next())
                .await
                .is_ok()
            {
                passes.push(start.elapsed());
            }
        }
        assert_eq!(passes.len(), 10, "{passes:?}");
        assert!(passes[0] < Duration::from_millis(100), "{passes:?}");
        assert!(passes.windows(2).all(|w| w[1] >= w[0] + SPACING), "{passes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn services_do_not_wait_for_each_other() {
        let queue = Queue::default();
        for n in 0..3 {
            queue.push(Key::new("a", n.to_string()));
            queue.push(Key::new("a", n.to_string()));
        }
        assert_eq!(queue.depth(), 3);
        let start = Instant::now();
        let mut names = Vec::new();
        for _ in 0..3 {
            let service = queue.next().await;
            queue.begun(&service);
            names.push(service.name);
        }
        names.sort();
        assert_eq!(names, ["0", "1", "2"]);
        assert!(start.elapsed() < Duration::from_millis(100));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_gone_waits_no_longer_whether_it_was_taken_already_or_not() {
        let queue = Queue::default();
        let (taken, due, other) = (Key::new("a", "taken"), Key::new("a", "due"), Key::new("a", "other"));
        queue.push(taken.clone());
        assert_eq!(queue.next().await, taken);
        queue.push(due.clone());
        queue.push(other.clone());
        assert_eq!(queue.depth(), 3);
        queue.withdraw(&taken);
        queue.withdraw(&due);
        assert_eq!(queue.depth(), 1);
        assert_eq!(queue.next().await, other);
        let more = tokio::time::timeout(2 * SPACING, queue.next()).await;
        assert!(more.is_err(), "{more:?}");
        // One of that name may come again.
        queue.push(due.clone());
        assert_eq!(queue.next().await, due);
    }
}
