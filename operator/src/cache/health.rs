//! Whether the watches work: what readiness, metrics and passes ask.
//!
//! In: what happens on each watch. Out: which are filled, which are stalled and why. A pass is refused while a watch it
//! depends on was never filled: everything would look as if it were missing.
//! The watch's client does not say that it is well again, it only stops failing; hence the memory of the last failure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use crate::error::Error;
use crate::plan::Kind;

/// A watch that failed is retried within half of this; without another failure by then it works.
const RECOVERED: Duration = Duration::from_secs(60);
/// A watch that fails for so long is stalled.
const STALLED: Duration = Duration::from_secs(20);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// The resource.
    Services,
    /// Children of one kind.
    Child(Kind),
    /// Capture pods.
    Pods,
}

impl Watched {
    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "ScreenshotService",
            Self::Child(kind) => kind.name(),
            Self::Pods => "Pod",
        }
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    filled: bool,
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    first: Instant,
    last: Instant,
    reason: &'static str,
}

/// One watch that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which.
    pub watched: Watched,
    /// In which namespace, if not in all.
    pub namespace: Option<String>,
    /// One word out of a bounded set.
    pub reason: &'static str,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the watch of {} ", self.watched.name())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "in namespace {namespace} ")?;
        }
        write!(f, "does not work: {}", self.reason)
    }
}

/// State of every watch.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<(Watched, Option<String>), State>>);

impl Health {
    /// A watch is about to begin.
    pub fn begins(&self, watched: Watched, namespace: Option<&str>) {
        self.with(|map| {
            map.entry((watched, namespace.map(str::to_owned))).or_default();
        });
    }

    /// A watch has shown everything there is.
    pub fn filled(&self, watched: Watched, namespace: Option<&str>) {
        self.set(watched, namespace, |state| {
            *state = State {
                filled: true,
                failing: None,
            }
        });
    }

    /// A watch showed something.
    pub fn works(&self, watched: Watched, namespace: Option<&str>) {
        self.set(watched, namespace, |state| state.failing = None);
    }

    /// A watch failed and will be tried again.
    pub fn failed(&self, watched: Watched, namespace: Option<&str>, reason: &'static str, now: Instant) {
        self.set(watched, namespace, |state| {
            let since = state.failing.filter(|f| now.duration_since(f.last) < RECOVERED);
            state.failing = Some(Failing {
                first: since.map_or(now, |f| f.first),
                last: now,
                reason,
            });
        });
    }

    /// A watch ended because its kind is served no longer.
    pub fn ended(&self, watched: Watched) {
        self.with(|map| map.retain(|(of, _), _| *of != watched));
    }

    /// Watches that never were filled, or fail for a while.
    pub fn troubles(&self, now: Instant) -> Vec<Trouble> {
        self.with(|map| {
            let bad = map.iter().filter_map(|((watched, namespace), state)| {
                let reason = trouble(state, now)?;
                Some(Trouble {
                    watched: *watched,
                    namespace: namespace.clone(),
                    reason,
                })
            });
            bad.collect()
        })
    }

    /// For each kind that is watched, whether all of its watches work.
    pub fn by_kind(&self, now: Instant) -> BTreeMap<&'static str, bool> {
        let troubles = self.troubles(now);
        self.with(|map| {
            let kinds = map.keys().map(|(watched, _)| *watched);
            kinds
                .map(|watched| (watched.name(), troubles.iter().all(|t| t.watched != watched)))
                .collect()
        })
    }

    /// Whether a pass in this namespace can trust the cache.
    ///
    /// # Errors
    /// [`Error::Unwatched`] names the first watch that was never filled.
    pub fn require(&self, namespace: &str) -> Result<(), Error> {
        self.with(|map| {
            if map.is_empty() {
                return Err(Error::Unwatched {
                    kind: Watched::Services.name(),
                    reason: "NotSynced",
                });
            }
            let concerns = |of: &Option<String>| of.as_deref().is_none_or(|of| of == namespace);
            let empty = map.iter().find(|((_, of), state)| concerns(of) && !state.filled);
            match empty {
                None => Ok(()),
                Some(((watched, _), state)) => Err(Error::Unwatched {
                    kind: watched.name(),
                    reason: state.failing.map_or("NotSynced", |f| f.reason),
                }),
            }
        })
    }

    /// Whether every watch was filled, or told why not.
    pub fn answered(&self) -> bool {
        self.with(|map| !map.is_empty() && map.values().all(|state| state.filled || state.failing.is_some()))
    }

    fn set(&self, watched: Watched, namespace: Option<&str>, change: impl FnOnce(&mut State)) {
        self.with(|map| change(map.entry((watched, namespace.map(str::to_owned))).or_default()));
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<(Watched, Option<String>), State>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn trouble(state: &State, now: Instant) -> Option<&'static str> {
    let failing = state.failing.filter(|f| now.duration_since(f.last) < RECOVERED);
    match (state.filled, failing) {
        (false, failing) => Some(failing.map_or("NotSynced", |f| f.reason)),
        (true, Some(f)) if now.duration_since(f.first) >= STALLED => Some(f.reason),
        (true, _) => None,
    }
}

/// One word for why a watch failed.
pub fn reason(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) if status.code == 403 => "Forbidden",
            kube::Error::Api(status) if status.code == 404 => "NotServed",
            kube::Error::Api(status) if status.code == 401 => "Unauthorized",
            kube::Error::Api(_) => "ApiError",
            _ => "ApiUnreachable",
        },
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => "ApiError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: Watched = Watched::Child(Kind::NetworkPolicy);

    #[test]
    fn no_pass_is_made_before_every_watch_of_its_namespace_was_filled() {
        let health = Health::default();
        assert!(health.require("a").is_err(), "nothing is watched at all");
        health.filled(Watched::Services, None);
        health.begins(POLICIES, Some("a"));
        let error = health.require("a").unwrap_err();
        assert_eq!(error.reason(), "NotSynced");
        assert!(health.require("b").is_ok());
        assert!(!health.answered());
        health.failed(POLICIES, Some("a"), "Forbidden", Instant::now());
        assert_eq!(health.require("a").unwrap_err().reason(), "Forbidden");
        assert!(health.answered());
        health.filled(POLICIES, Some("a"));
        assert!(health.require("a").is_ok());
    }

    #[test]
    fn a_watch_that_keeps_failing_is_stalled_and_one_that_stopped_failing_works() {
        let health = Health::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        health.filled(POLICIES, None);
        health.failed(POLICIES, None, "Forbidden", after(0));
        assert_eq!(health.troubles(after(1)), [], "a hiccup is not a stall");
        health.failed(POLICIES, None, "Forbidden", after(25));
        let stalled = vec![Trouble {
            watched: POLICIES,
            namespace: None,
            reason: "Forbidden",
        }];
        assert_eq!(health.troubles(after(26)), stalled);
        assert_eq!(health.troubles(after(90)), [], "no failure for more than a minute");
        health.failed(POLICIES, None, "Forbidden", after(91));
        assert_eq!(health.troubles(after(92)), [], "a new failure is a hiccup again");
        assert!(stalled[0].to_string().contains("NetworkPolicy"));
    }
}
