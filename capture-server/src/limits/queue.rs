//! Who goes next, who waits, who is sent away: the queue's decisions, pure.
//!
//! In: arrivals with their client, lane, places, weight, memory and time left; ends of captures; the machine's size. Out: enter,
//! wait, or a refusal with the time after which trying again makes sense, from how long captures really take. Shares
//! are fair by start-time fair queueing (Goyal, Vin, Cheng 1997): a client with a thousand captures waiting delays
//! another's next one by at most one. Must not: wait, or read a clock.

use std::collections::HashMap;
use std::time::Duration;

use crate::capture::Lane;

/// What a capture is taken to last before one has been measured.
const FIRST_GUESS: Duration = Duration::from_millis(500);
/// Weight of the newest measurement: one in eight.
const SMOOTHING: u32 = 8;
/// Shortest time after which trying again is suggested.
const SOONEST: Duration = Duration::from_secs(1);

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

/// Names a waiting request.
pub type WaiterId = u64;

/// What a request asks of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose it is.
    pub client: String,
    /// Which gate.
    pub lane: Lane,
    /// Places of its lane that it takes: 1 for a window's worth of pixels, more for more. One that takes more than there
    /// are takes all.
    pub places: usize,
    /// Its share of the client's fair share: 1 for a window's worth of pixels.
    pub weight: u32,
    /// Bytes of memory that its browser may come to need.
    pub bytes: u64,
}

/// The machine, as far as the queue is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Captures of a window at once.
    pub fast: usize,
    /// Places for large captures, beside those.
    pub bulk: usize,
    /// Captures of both kinds at once.
    pub total: usize,
    /// Requests that may wait, of all lanes.
    pub queue: usize,
    /// Bytes of memory that are free for browsers; `None`: unlimited.
    pub memory: Option<u64>,
}

/// The answer to an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Go on at once.
    Enter,
    /// Wait under this name.
    Wait(WaiterId),
    /// Wait under this name in the place of another, which is refused: its client has far more waiting.
    Displace(WaiterId, WaiterId, Refused),
}

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    ask: Ask,
    start: u64,
}

#[derive(Debug)]
struct LaneState {
    capacity: usize,
    in_flight: usize,
    /// Places that those in flight take.
    taken: usize,
    service: Duration,
    /// Virtual time: the start tag of whoever went last.
    clock: u64,
    /// Where each client's next request starts, if that is still to come.
    finish: HashMap<String, u64>,
}

impl LaneState {
    fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            in_flight: 0,
            taken: 0,
            service: FIRST_GUESS,
            clock: 0,
            finish: HashMap::new(),
        }
    }

    fn start(&self, client: &str) -> u64 {
        self.finish
            .get(client)
            .map_or(self.clock, |finish| self.clock.max(*finish))
    }

    fn book(&mut self, ask: &Ask, start: u64) {
        self.finish
            .insert(ask.client.clone(), start.saturating_add(u64::from(ask.weight.max(1))));
    }

    /// Whether so many places are free. An empty lane takes anything.
    fn has_room(&self, places: usize) -> bool {
        self.taken == 0 || self.taken.saturating_add(places) <= self.capacity
    }

    fn begin(&mut self, ask: &Ask, start: u64) {
        self.in_flight += 1;
        self.taken = self.taken.saturating_add(ask.places.max(1));
        self.clock = self.clock.max(start);
        let clock = self.clock;
        self.finish.retain(|_, finish| *finish > clock);
    }

    fn after(&self, ahead: usize) -> Duration {
        let rounds = u32::try_from(ahead + 1).unwrap_or(u32::MAX);
        self.service.saturating_mul(rounds) / u32::try_from(self.capacity).unwrap_or(u32::MAX)
    }
}

/// Both lanes and everyone who waits.
#[derive(Debug)]
pub struct Queue {
    size: Size,
    fast: LaneState,
    bulk: LaneState,
    waiting: Vec<Waiter>,
    next: WaiterId,
    /// Promised to captures that began after the free memory was last looked at.
    promised: u64,
}

impl Queue {
    /// Nobody there yet.
    pub fn new(size: Size) -> Self {
        Self {
            size,
            fast: LaneState::new(size.fast),
            bulk: LaneState::new(size.bulk),
            waiting: Vec::new(),
            next: 1,
            promised: 0,
        }
    }

    /// A new finding about the machine: what was promised before is in it.
    pub fn resize(&mut self, size: Size) {
        (self.fast.capacity, self.bulk.capacity) = (size.fast.max(1), size.bulk.max(1));
        self.size = size;
        self.promised = 0;
    }

    /// The machine as last found.
    pub fn size(&self) -> Size {
        self.size
    }

    /// A request arrives with `left` of its time.
    ///
    /// # Errors
    /// If it would wait in vain, or if there is no place to wait.
    pub fn offer(&mut self, ask: Ask, left: Duration) -> Result<Offer, Refused> {
        let start = self.lane(ask.lane).start(&ask.client);
        let in_line = self.waiting.iter().any(|waiter| waiter.ask.lane == ask.lane);
        if !in_line && self.has_room(&ask) {
            self.enter(&ask, start);
            return Ok(Offer::Enter);
        }
        let ahead = self
            .waiting
            .iter()
            .filter(|waiter| waiter.ask.lane == ask.lane && waiter.start <= start);
        let lane = self.lane(ask.lane);
        let (wait, service) = (lane.after(ahead.count()), lane.service);
        // The measured time is a mean, so a request is turned away only when even that cannot fit.
        if wait + service > left {
            let retry_after = (wait + service).saturating_sub(left).max(SOONEST);
            return Err(Refused::WouldMissDeadline { retry_after });
        }
        let displaced = if self.waiting.len() >= self.size.queue.max(1) {
            Some(self.displace(&ask)?)
        } else {
            None
        };
        let id = self.next;
        self.next += 1;
        self.lane_mut(ask.lane).book(&ask, start);
        self.waiting.push(Waiter { id, ask, start });
        Ok(match displaced {
            Some((victim, refused)) => Offer::Displace(id, victim, refused),
            None => Offer::Wait(id),
        })
    }

    /// Makes room in a full queue at the expense of the client with the most waiting.
    fn displace(&mut self, ask: &Ask) -> Result<(WaiterId, Refused), Refused> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for waiter in &self.waiting {
            *counts.entry(&waiter.ask.client).or_default() += 1;
        }
        let own = counts.get(ask.client.as_str()).copied().unwrap_or(0);
        let (greedy, most) = counts
            .iter()
            .max_by_key(|(_, count)| **count)
            .map_or(("", 0), |(client, count)| (*client, *count));
        let refused = Refused::QueueFull {
            retry_after: self.lane(ask.lane).after(self.waiting.len()).max(SOONEST),
        };
        if most <= own + 1 {
            return Err(refused);
        }
        let last = self
            .waiting
            .iter()
            .filter(|waiter| waiter.ask.client == greedy)
            .map(|waiter| waiter.id)
            .max();
        let victim = last.ok_or(refused)?;
        self.cancel(victim);
        Ok((victim, refused))
    }

    /// Whoever may go on now, one at a time; it counts as in flight from here on.
    pub fn pop(&mut self) -> Option<(WaiterId, Ask)> {
        let at = (0..self.waiting.len())
            .filter(|at| self.is_first(*at) && self.has_room(&self.waiting[*at].ask))
            .min_by_key(|at| self.waiting[*at].id)?;
        let Waiter { id, ask, start } = self.waiting.remove(at);
        self.enter_booked(&ask, start);
        Some((id, ask))
    }

    /// Whether nobody of its lane comes before it.
    fn is_first(&self, at: usize) -> bool {
        let this = &self.waiting[at];
        let key = (this.start, this.id);
        self.waiting
            .iter()
            .all(|other| other.ask.lane != this.ask.lane || (other.start, other.id) >= key)
    }

    fn has_room(&self, ask: &Ask) -> bool {
        let lane = self.lane(ask.lane);
        let in_flight = self.fast.in_flight + self.bulk.in_flight;
        // One capture always runs: without it nothing would ever be freed.
        let fits = self
            .size
            .memory
            .is_none_or(|free| self.promised.saturating_add(ask.bytes) <= free);
        lane.has_room(ask.places.max(1)) && in_flight < self.size.total.max(1) && (fits || in_flight == 0)
    }

    fn enter(&mut self, ask: &Ask, start: u64) {
        self.lane_mut(ask.lane).book(ask, start);
        self.enter_booked(ask, start);
    }

    fn enter_booked(&mut self, ask: &Ask, start: u64) {
        self.promised = self.promised.saturating_add(ask.bytes);
        self.lane_mut(ask.lane).begin(ask, start);
    }

    /// A request gives up waiting.
    pub fn cancel(&mut self, id: WaiterId) {
        self.waiting.retain(|waiter| waiter.id != id);
    }

    /// A capture that took `places` has ended after `took`.
    pub fn finished(&mut self, lane: Lane, places: usize, took: Duration) {
        let lane = self.lane_mut(lane);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.taken = lane.taken.saturating_sub(places.max(1));
        lane.service = lane.service.saturating_sub(lane.service / SMOOTHING) + took / SMOOTHING;
    }

    /// The same for one that was given up after so long: it would have taken longer, so that it makes no estimate shorter.
    pub fn given_up(&mut self, lane: Lane, places: usize, after: Duration) {
        let service = self.lane(lane).service;
        self.finished(lane, places, after.max(service));
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Captures in hand, of one lane.
    pub fn in_flight(&self, lane: Lane) -> usize {
        self.lane(lane).in_flight
    }

    fn lane(&self, lane: Lane) -> &LaneState {
        match lane {
            Lane::Fast => &self.fast,
            Lane::Bulk => &self.bulk,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::Fast => &mut self.fast,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

#[cfg(test)]
mod tests;
