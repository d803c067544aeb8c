//! Which jail serves whom: the life of every jail as pure decisions.
//!
//! Starting → Warm (nobody's) → Bound (one client's) → Draining → Ending → dead and forgotten. In: wishes, ends of captures,
//! measurements, the time. Out: what the thin layer is to do. Two clients never get the same jail, a jail that saw an
//! incident never serves again, and there are never more jails than the rules allow. Must not: do anything, read a
//! clock, or wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capture_jail::protocol::MAX_JAILS;
use screenshot_policy::policy::Isolation;
use tokio::time::Instant;

use super::super::Lane;

mod member;

pub use member::Retired;
use member::{Member, State};

/// Names a jail for the life of its pool.
pub type MemberId = u64;
/// Whose captures they are. Two captures of one client may share a browser.
pub type Client = Arc<str>;

/// What a capture needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Whose it is.
    pub client: Client,
    /// Large work has browsers of its own, so that small work never waits behind it.
    pub lane: Lane,
    /// Whether it must not share its jail even with its own client's captures.
    pub alone: bool,
}

/// Captures of a window in hand for each core. One alone leaves its core idle while it waits: for the network, for a page
/// to open, for the next frame. With two the cores are busy; more only make each other late.
pub const PER_CORE: usize = 2;

/// Jails that a fleet can have: as many as the jailer holds, but for the one in which the sandbox is proven again.
pub const MOST_JAILS: usize = MAX_JAILS - 1;

/// Large captures in hand beside those.
pub fn bulk(cores: usize) -> usize {
    (cores / 2).max(1)
}

/// The bounds of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// See [`Isolation`].
    pub isolation: Isolation,
    /// The machine's cores, as far as captures may use them.
    pub cores: usize,
    /// Jails at one time, of whatever state.
    pub max_jails: usize,
    /// Jails to keep warm.
    pub warm_jails: usize,
    /// Empty pages to keep ready in a bound jail.
    pub warm_pages: usize,
    /// Captures that one jail runs at once, if there is no other way.
    pub per_jail: usize,
    /// Captures after which a jail retires.
    pub max_captures: u64,
    /// Age at which a jail retires.
    pub max_age: Duration,
    /// How long a bound jail may be without work.
    pub max_idle: Duration,
}

impl Rules {
    /// The tested rules for a machine of `cores` cores.
    pub fn new(isolation: Isolation, cores: usize) -> Self {
        let cores = cores.max(1);
        let warm_jails = match isolation {
            Isolation::PerClient => 1,
            Isolation::PerCapture => cores,
        };
        // One per capture that the gate lets in, and the warm ones.
        let max_jails = (PER_CORE * cores + bulk(cores) + warm_jails).min(MOST_JAILS);
        Self {
            isolation,
            cores,
            max_jails,
            warm_jails: warm_jails.min(max_jails),
            warm_pages: 2,
            per_jail: 4,
            max_captures: 200,
            max_age: Duration::from_secs(15 * 60),
            max_idle: Duration::from_secs(60),
        }
    }

    /// Listening sockets that a jail is made with: the browser's own, and one per page that can be open in it.
    pub fn contexts(&self) -> usize {
        1 + self.per_jail + self.warm_pages
    }
}

/// What a claim leads to. The capture counts as in flight from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Use this jail, once its browser runs.
    Use(MemberId),
    /// Launch a jail under this name and use it.
    Launch(MemberId),
    /// End `victim`, which serves nobody now, and launch when it is dead: its place is the new one's.
    Replace {
        /// The jail to end, or whose end is waited for.
        victim: MemberId,
        /// Why it ends.
        why: Retired,
        /// The jail to launch.
        launch: MemberId,
    },
    /// There is no place. The gate in front lets no more in than there are places, so this is a refusal.
    Full,
}

/// What to prepare while a core has nothing else to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refill {
    /// Launch a jail under this name.
    Jail(MemberId),
    /// Open an empty page in this jail.
    Page(MemberId),
}

/// All jails of one jailer connection.
#[derive(Debug)]
pub struct Fleet {
    rules: Rules,
    next: MemberId,
    members: BTreeMap<MemberId, Member>,
}

impl Fleet {
    /// No jails yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            next: 1,
            members: BTreeMap::new(),
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Replaces the rules; jails beyond the new ones end as they come to rest.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Finds a jail for a capture.
    pub fn claim(&mut self, want: &Want, now: Instant) -> Claim {
        if let Some(id) = self.own_idle(want).or_else(|| self.own_or_warm(want)) {
            self.begin(id, want, now);
            return Claim::Use(id);
        }
        if self.members.len() < self.rules.max_jails {
            let id = self.add(now);
            self.begin(id, want, now);
            return Claim::Launch(id);
        }
        if let Some(victim) = self.longest_idle() {
            return self.replace(victim, Retired::Evicted, want, now);
        }
        if let Some(id) = self.own_shared(want, self.rules.per_jail) {
            self.begin(id, want, now);
            return Claim::Use(id);
        }
        match self.ending() {
            Some((victim, why)) => self.replace(victim, why, want, now),
            None => Claim::Full,
        }
    }

    fn replace(&mut self, victim: MemberId, why: Retired, want: &Want, now: Instant) -> Claim {
        self.members.remove(&victim);
        let launch = self.add(now);
        self.begin(launch, want, now);
        Claim::Replace { victim, why, launch }
    }

    /// The client's own jail without work: one with a page ready first, then the one used last, so that others may age. One
    /// that still clears its last page away does not rest: the next capture in another browser goes on beside that, while in
    /// the same one both wait for one another (measured: 5 to 15 % more processor time for a small page).
    fn own_idle(&self, want: &Want) -> Option<MemberId> {
        let idle = self.own(want).filter(|(_, member)| member.rests());
        idle.max_by_key(|(_, member)| (member.pages > 0, member.idle_since))
            .map(|(id, _)| *id)
    }

    /// Beyond a jail per core a client's captures share theirs: more browsers would not make them faster.
    fn own_or_warm(&self, want: &Want) -> Option<MemberId> {
        if self.own(want).count() >= self.rules.cores {
            self.own_shared(want, PER_CORE).or_else(|| self.warm())
        } else {
            self.warm().or_else(|| self.own_shared(want, 1))
        }
    }

    /// The client's own jail with the least work, and less than `most`. Pages that are cleared away are hardly any.
    fn own_shared(&self, want: &Want, most: usize) -> Option<MemberId> {
        let shared = self
            .own(want)
            .filter(|(_, member)| member.working < most && member.in_flight() < self.rules.per_jail);
        shared
            .min_by_key(|(_, member)| (member.working, member.clearing))
            .map(|(id, _)| *id)
    }

    fn own<'a>(&'a self, want: &'a Want) -> impl Iterator<Item = (&'a MemberId, &'a Member)> {
        let shares = self.rules.isolation == Isolation::PerClient && !want.alone;
        self.members.iter().filter(move |(_, member)| {
            shares
                && matches!(&member.state, State::Bound { client, lane, alone: false }
                    if *client == want.client && *lane == want.lane)
        })
    }

    /// A warm jail, one that already runs before one that is still starting.
    fn warm(&self) -> Option<MemberId> {
        let warm = self.members.iter().filter(|(_, member)| member.state == State::Warm);
        warm.max_by_key(|(id, member)| (member.up, std::cmp::Reverse(**id)))
            .map(|(id, _)| *id)
    }

    fn longest_idle(&self) -> Option<MemberId> {
        let idle = self
            .members
            .iter()
            .filter(|(_, member)| member.rests() && matches!(member.state, State::Bound { .. }));
        idle.min_by_key(|(_, member)| member.idle_since).map(|(id, _)| *id)
    }

    /// A jail that is being killed, one that ran before one that never did: that one has to come up first.
    fn ending(&self) -> Option<(MemberId, Retired)> {
        let ending = self.members.iter().filter_map(|(id, member)| match member.state {
            State::Ending(why) => Some((member.up, *id, why)),
            _ => None,
        });
        ending
            .max_by_key(|(up, id, _)| (*up, std::cmp::Reverse(*id)))
            .map(|(_, id, why)| (id, why))
    }

    fn add(&mut self, now: Instant) -> MemberId {
        let id = self.next;
        self.next += 1;
        self.members.insert(id, Member::new(now));
        id
    }

    /// A warm jail that was launched elsewhere. `None`: there is no place for it.
    pub fn adopt(&mut self, pages: usize, now: Instant) -> Option<MemberId> {
        if self.enough_warm() || self.members.len() >= self.rules.max_jails {
            return None;
        }
        let id = self.add(now);
        self.up(id, pages);
        Some(id)
    }

    fn begin(&mut self, id: MemberId, want: &Want, now: Instant) {
        let alone = want.alone || self.rules.isolation == Isolation::PerCapture;
        if let Some(member) = self.members.get_mut(&id) {
            member.begin(want, alone, now);
        }
    }

    /// Its browser runs. `false`: nobody wants it any more, it is to be ended.
    pub fn up(&mut self, id: MemberId, pages: usize) -> bool {
        match self.members.get_mut(&id) {
            Some(member) => {
                (member.up, member.pages) = (true, pages);
                !member.is_retired()
            }
            None => false,
        }
    }

    /// How many empty pages a jail has ready.
    pub fn pages(&mut self, id: MemberId, pages: usize) {
        if let Some(member) = self.members.get_mut(&id) {
            member.pages = pages;
        }
    }

    /// It did not start, or is dead: forgotten.
    pub fn gone(&mut self, id: MemberId) {
        self.members.remove(&id);
    }

    /// Something went wrong in it: it serves nobody from now on. `Some`: nothing is in flight in it, it is to be killed now.
    pub fn incident(&mut self, id: MemberId, word: &'static str) -> Option<Retired> {
        self.retire(id, Retired::Incident(word));
        self.members.get_mut(&id)?.end()
    }

    fn retire(&mut self, id: MemberId, why: Retired) {
        if let Some(member) = self.members.get_mut(&id) {
            member.retire(why);
        }
    }

    /// A capture in this jail is about to end. `Some`: it was the last one here, so the jail is killed as it is, page and
    /// all; `None`: its page has to be cleared away, and then [`Fleet::release`] called.
    pub fn leaving(&mut self, id: MemberId, incident: Option<&'static str>) -> Option<Retired> {
        if let Some(word) = incident {
            self.retire(id, Retired::Incident(word));
        }
        self.members.get_mut(&id)?.leaving(self.rules.max_captures)
    }

    /// A capture's page has been cleared away. `Some`: the jail is now to be killed.
    pub fn release(&mut self, id: MemberId, incident: Option<&'static str>, now: Instant) -> Option<Retired> {
        if let Some(word) = incident {
            self.retire(id, Retired::Incident(word));
        }
        self.members.get_mut(&id)?.release(now)
    }

    /// Takes in what a resting jail holds.
    pub fn measured(&mut self, id: MemberId, bytes: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.measured(bytes);
        }
    }

    /// Jails that rest and whose memory is worth a look.
    pub fn resting(&self) -> Vec<MemberId> {
        let resting = self.members.iter().filter(|(_, member)| member.up && member.rests());
        resting.map(|(id, _)| *id).collect()
    }

    /// Retires what is too old, idle or too much; returns what is to be killed now. Those with work end with their work.
    pub fn sweep(&mut self, now: Instant) -> Vec<(MemberId, Retired)> {
        let mut ended = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(why) = member.overdue(&self.rules, now) {
                member.retire(why);
            }
            ended.extend(member.end().map(|why| (*id, why)));
        }
        ended
    }

    /// The one thing worth preparing now. A page in a jail that works comes before a jail for nobody, and one page is
    /// opened ahead for as long as another capture would be let in, which would have to wait for it; all else has time
    /// until a core is idle.
    pub fn refill(&mut self, now: Instant) -> Option<Refill> {
        if self.members.values().any(|member| !member.up) {
            return None;
        }
        let idle = self.in_flight() < self.rules.cores;
        let shared = self.members.iter().filter(|(_, member)| member.is_shared(Lane::Fast));
        let page = shared.min_by_key(|(_, member)| member.pages);
        if let Some((id, member)) = page {
            let pages = if idle { self.rules.warm_pages } else { 1 };
            if member.pages < pages && self.small() < PER_CORE * self.rules.cores {
                return Some(Refill::Page(*id));
            }
        }
        let wanted = idle && !self.enough_warm() && self.members.len() < self.rules.max_jails;
        wanted.then(|| Refill::Jail(self.add(now)))
    }

    /// Captures of a window in hand.
    fn small(&self) -> usize {
        let bulk = |member: &Member| matches!(member.state, State::Bound { lane: Lane::Bulk, .. });
        let small = self.members.values().filter(|member| !bulk(member));
        small.map(Member::in_flight).sum()
    }

    fn enough_warm(&self) -> bool {
        let warm = self.members.values().filter(|member| member.state == State::Warm);
        warm.count() >= self.rules.warm_jails
    }

    /// Captures in hand.
    pub fn in_flight(&self) -> usize {
        self.members.values().map(Member::in_flight).sum()
    }

    /// Jails by state: warm, bound, draining.
    pub fn census(&self) -> [usize; 3] {
        let mut census = [0; 3];
        for member in self.members.values() {
            let at = match member.state {
                State::Warm => 0,
                State::Bound { .. } => 1,
                State::Draining(_) | State::Ending(_) => 2,
            };
            census[at] += 1;
        }
        census
    }
}

#[cfg(test)]
mod tests;
