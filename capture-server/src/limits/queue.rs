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

impl Ask {
    /// What is booked for it.
    fn share(&self) -> u64 {
        u64::from(self.weight.max(1))
    }
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
            .insert(ask.client.clone(), start.saturating_add(ask.share()));
    }

    /// Gives back what was booked for one that was never served.
    fn refund(&mut self, ask: &Ask) {
        if let Some(finish) = self.finish.get_mut(&ask.client) {
            *finish = finish.saturating_sub(ask.share()).max(self.clock);
        }
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
    /// Bytes of memory that captures in hand may come to hold, together.
    promised: u64,
    /// Bytes that would be free for browsers if no capture were in hand; `None`: unlimited.
    spare: Option<u64>,
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
            spare: size.memory,
        }
    }

    /// A new finding about the machine. Captures in hand hold something between nothing and all that they were promised,
    /// so what would be free without them lies between what is free and that much more. Within that the last finding
    /// stays: a promise counts for as long as its capture is in hand, once, whether it is held already or still to come.
    pub fn resize(&mut self, size: Size) {
        (self.fast.capacity, self.bulk.capacity) = (size.fast.max(1), size.bulk.max(1));
        self.size = size;
        self.spare = match (size.memory, self.spare) {
            (Some(free), Some(spare)) => Some(spare.clamp(free, free.saturating_add(self.promised))),
            (free, _) => free,
        };
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
            .spare
            .is_none_or(|spare| self.promised.saturating_add(ask.bytes) <= spare);
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

    /// A request gives up waiting. Nothing is booked for it any more, and its client's later ones move up.
    pub fn cancel(&mut self, id: WaiterId) {
        let Some(at) = self.waiting.iter().position(|waiter| waiter.id == id) else {
            return;
        };
        let Waiter { ask, .. } = self.waiting.remove(at);
        let lane = self.lane_mut(ask.lane);
        lane.refund(&ask);
        let clock = lane.clock;
        let later = self
            .waiting
            .iter_mut()
            .filter(|waiter| waiter.id > id && waiter.ask.lane == ask.lane && waiter.ask.client == ask.client);
        for waiter in later {
            waiter.start = waiter.start.saturating_sub(ask.share()).max(clock);
        }
    }

    /// A capture has ended after `took`, and nothing of it is left.
    pub fn finished(&mut self, ask: &Ask, took: Duration) {
        self.promised = self.promised.saturating_sub(ask.bytes);
        let lane = self.lane_mut(ask.lane);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.taken = lane.taken.saturating_sub(ask.places.max(1));
        lane.service = lane.service.saturating_sub(lane.service / SMOOTHING) + took / SMOOTHING;
    }

    /// The same for one that was given up after so long: it would have taken longer, so that it makes no estimate shorter.
    pub fn given_up(&mut self, ask: &Ask, after: Duration) {
        let service = self.lane(ask.lane).service;
        self.finished(ask, after.max(service));
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
