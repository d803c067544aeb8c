//! What the cluster has of its own that is public: what pages must not reach although it looks like the internet.
//!
//! In: what the watches of Nodes, Services, ServiceCIDRs and the API server's endpoints show. Out: one set of ranges
//! for all services, published when every source was read once or is known to be unreadable, and again when it grew a
//! moment ago or shrank a while ago: nodes that come and go must not keep every NetworkPolicy moving.
//! Must not: decide what is public (that is `screenshot-policy`), or read anything by itself (`follow` does).

pub mod follow;
pub mod found;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use screenshot_policy::address::{Nat64Prefix, holds_global};
use screenshot_policy::cidr::Cidr;
use screenshot_policy::cluster::ClusterRanges;
use screenshot_policy::host::HostName;
use screenshot_policy::policy::{Ceiling, EffectivePolicy, EgressRules, PolicyDocument, PolicyError};
use tokio::sync::Notify;

use crate::cache::Key;
use crate::error::Error;

/// A set that only shrank is published after so long: a node that is replaced often comes back with its address.
const SHRINK: Duration = Duration::from_secs(600);
/// For so long after a change a pod may still attest the ranges from before it: the kubelet brings the file within
/// about a minute and a half.
const PICKUP: Duration = Duration::from_secs(300);

/// What an administrator says of the cluster, for all services. It is part of every policy: a change replaces pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The domain of its Services.
    pub domain: HostName,
    /// Prefixes that its network translates to IPv4, at most 4.
    pub nat64_prefixes: Vec<Nat64Prefix>,
    /// Ranges that are closed to pages without an exception, at most 128.
    pub denied: Vec<Cidr>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            domain: HostName::cluster_local(),
            nat64_prefixes: Vec::new(),
            denied: Vec::new(),
        }
    }
}

impl ClusterSettings {
    /// Whether a policy can have them.
    ///
    /// # Errors
    /// The rule that they break, the same for every service.
    pub fn check(&self) -> Result<(), PolicyError> {
        let mut document = PolicyDocument::secure_default("any", "any")?;
        self.fill(&mut document.egress);
        EffectivePolicy::resolve(&Ceiling::compiled(), document).map(drop)
    }

    /// Puts them into the rules of a policy.
    pub fn fill(&self, rules: &mut EgressRules) {
        rules.cluster.domain.clone_from(&self.domain);
        rules.cluster.cidrs.clone_from(&self.denied);
        rules.nat64_prefixes.clone_from(&self.nat64_prefixes);
    }
}

/// The cluster's domain as a pod's `resolv.conf` shows it: its search list has `svc.<domain>`.
pub fn domain_of(resolv_conf: &str) -> Option<HostName> {
    let mut searches = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("search")).then(|| words.collect::<Vec<_>>())
    });
    // The last line counts, as the resolver has it.
    let search = searches.next_back()?;
    search.iter().find_map(|name| name.strip_prefix("svc.")?.parse().ok())
}

/// Where the cluster's addresses are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Addresses of nodes, and the ranges of their pods.
    Nodes,
    /// Addresses of Services and their load balancers.
    Services,
    /// Ranges that Services get their addresses from.
    ServiceCidrs,
    /// Where the API server listens.
    ApiServer,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nodes, Self::Services, Self::ServiceCidrs, Self::ApiServer];

    /// The kind of object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nodes => "Node",
            Self::Services => "Service",
            Self::ServiceCidrs => "ServiceCIDR",
            Self::ApiServer => "EndpointSlice",
        }
    }
}

/// What a pass knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The ranges.
    pub ranges: ClusterRanges,
    /// Digests that pods may still attest beside that of the ranges; `None` stands for no ranges.
    pub recent: Vec<Option<String>>,
    /// Sources that cannot be read. What one showed before it could no longer be read is among the ranges.
    pub unread: Vec<Source>,
}

impl View {
    /// Whether a pod that attests this closes what it should, or had no time to yet.
    pub fn accepts(&self, digest: Option<&String>) -> bool {
        self.ranges.digest().as_ref() == digest || self.recent.iter().any(|recent| recent.as_ref() == digest)
    }
}

#[derive(Debug, Default)]
struct State {
    found: HashMap<Key, Vec<IpNet>>,
    filled: bool,
    failed: Option<&'static str>,
}

impl State {
    fn refused(&self) -> bool {
        self.failed.is_some_and(refusal)
    }

    /// Whether there is nothing to wait for.
    fn settled(&self) -> bool {
        self.filled || self.refused()
    }

    /// Whether it was read and still is: its watch may have lost the right to it since.
    fn is_read(&self) -> bool {
        self.filled && !self.refused()
    }
}

/// Whether trying again is of no use until somebody changes something.
fn refusal(reason: &str) -> bool {
    matches!(reason, "Forbidden" | "NotServed")
}

#[derive(Debug, Default)]
struct Inner {
    begun: bool,
    sources: BTreeMap<Source, State>,
    published: Option<ClusterRanges>,
    unread: Vec<Source>,
    shrinking: Option<Instant>,
    before: Vec<(Instant, Option<String>)>,
}

/// The shared memory of it.
#[derive(Debug, Default)]
pub struct Cluster {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Cluster {
    /// Says which sources there are to wait for; the others cannot be read.
    pub fn begin(&self, sources: &[Source]) {
        self.with(|inner| {
            inner.begun = true;
            inner.sources = sources.iter().map(|source| (*source, State::default())).collect();
        });
        self.changed.notify_one();
    }

    /// A source showed all that it has.
    pub fn only(&self, source: Source, found: HashMap<Key, Vec<IpNet>>) {
        self.update(source, |state| {
            state.found = found
                .into_iter()
                .filter_map(|(key, nets)| Some((key, public(nets)?)))
                .collect();
            (state.filled, state.failed) = (true, None);
        });
    }

    /// A source showed one object.
    pub fn put(&self, source: Source, key: Key, nets: Vec<IpNet>) {
        self.update(source, |state| match public(nets) {
            Some(nets) => {
                state.found.insert(key, nets);
            }
            None => {
                state.found.remove(&key);
            }
        });
    }

    /// A source cannot be read now. What it showed before stays. Returns whether that is news.
    pub fn failed(&self, source: Source, reason: &'static str) -> bool {
        let news = self.with(|inner| {
            let state = inner.sources.entry(source).or_default();
            // That nobody answers says nothing of what was refused before.
            if state.filled && state.refused() && !refusal(reason) {
                return false;
            }
            state.failed.replace(reason) != Some(reason)
        });
        self.changed.notify_one();
        news
    }

    /// A source answers. If it was read before, its watch goes on and its failure is over; else it has yet to show all.
    pub fn heard(&self, source: Source) {
        let news = self.with(|inner| {
            let read = inner.sources.get_mut(&source).filter(|state| state.filled);
            read.is_some_and(|state| state.failed.take().is_some())
        });
        if news {
            self.changed.notify_one();
        }
    }

    /// What is published.
    ///
    /// # Errors
    /// [`Error::Unwatched`] while a source has neither been read nor refused: what is closed would be opened.
    pub fn view(&self, now: Instant) -> Result<View, Error> {
        self.with(|inner| {
            let Some(ranges) = inner.published.clone() else {
                let waiting = inner.sources.iter().find(|(_, state)| !state.settled());
                let (kind, reason) = waiting.map_or((Source::Nodes.name(), "NotSynced"), |(source, state)| {
                    (source.name(), state.failed.unwrap_or("NotSynced"))
                });
                return Err(Error::Unwatched { kind, reason });
            };
            let recent = inner.before.iter().filter(|(at, _)| now.duration_since(*at) < PICKUP);
            Ok(View {
                ranges,
                recent: recent.map(|(_, digest)| digest.clone()).collect(),
                unread: inner.unread.clone(),
            })
        })
    }

    /// Publishes what is due. Returns whether anything changed for services, and when to look again if nothing happens.
    fn publish(&self, now: Instant) -> (bool, Option<Instant>) {
        self.with(|inner| inner.publish(now))
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    fn update(&self, source: Source, change: impl FnOnce(&mut State)) {
        self.with(|inner| change(inner.sources.entry(source).or_default()));
        self.changed.notify_one();
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn publish(&mut self, now: Instant) -> (bool, Option<Instant>) {
        if !self.begun || self.sources.values().any(|state| !state.settled()) {
            return (false, None);
        }
        let read = |source: &Source| self.sources.get(source).is_some_and(State::is_read);
        let unread: Vec<Source> = Source::ALL.into_iter().filter(|source| !read(source)).collect();
        let told = std::mem::replace(&mut self.unread, unread) != self.unread;
        let found = self.sources.values().flat_map(|state| state.found.values().flatten());
        let next = ClusterRanges::closing(found.copied());
        let Some(held) = &self.published else {
            self.published = Some(next);
            return (true, None);
        };
        if *held == next {
            self.shrinking = None;
            return (told, None);
        }
        if held.covers(&next) {
            let due = *self.shrinking.get_or_insert(now) + SHRINK;
            if now < due {
                return (told, Some(due));
            }
        }
        self.shrinking = None;
        self.before.retain(|(at, _)| now.duration_since(*at) < PICKUP);
        self.before.push((now, held.digest()));
        self.published = Some(next);
        (true, Some(now + PICKUP))
    }
}

/// The public ones, if there are any: most clusters have none, and a thousand nodes then cost no memory.
fn public(nets: Vec<IpNet>) -> Option<Vec<IpNet>> {
    let public: Vec<IpNet> = nets.into_iter().filter(|net| holds_global(*net)).collect();
    (!public.is_empty()).then_some(public)
}

#[cfg(test)]
mod tests;
