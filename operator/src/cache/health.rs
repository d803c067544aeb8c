//! Whether the watches work: what readiness, metrics and passes ask.
//!
//! In: what happens on each watch. Out: which are filled, which are stalled and why. A pass is refused while a watch it
//! depends on was never filled: everything would look as if it were missing.
//! The watch's client does not say that it is well again, it only stops failing, and one whose connection is dead does not
//! fail at all; hence the memory of when each was last heard.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use super::listening::{Bounds, Unanswered};
use crate::error::Error;
use crate::plan::Kind;

/// A watch that failed is retried well within this: failures that are further apart are not one trouble.
const APART: Duration = Duration::from_secs(60);

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

#[derive(Clone, Debug)]
struct State {
    filled: bool,
    heard: Instant,
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

type States = BTreeMap<(Watched, Option<String>), State>;

/// State of every watch.
#[derive(Debug, Default)]
pub struct Health {
    states: Mutex<States>,
    bounds: Bounds,
}

impl Health {
    /// Of watches that are followed within other bounds.
    pub fn within(bounds: Bounds) -> Self {
        Self {
            states: Mutex::default(),
            bounds,
        }
    }

    /// How watches are followed.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// A watch is about to begin.
    pub fn begins(&self, watched: Watched, namespace: Option<&str>, now: Instant) {
        let state = State {
            filled: false,
            heard: now,
            failing: None,
        };
        self.with(|map| {
            map.entry((watched, namespace.map(str::to_owned))).or_insert(state);
        });
    }

    /// A watch has shown everything there is.
    pub fn filled(&self, watched: Watched, namespace: Option<&str>) {
        self.set(watched, namespace, |state| state.filled = true);
    }

    /// Something came of a watch, were it only a bookmark.
    pub fn heard(&self, watched: Watched, namespace: Option<&str>, now: Instant) {
        self.set(watched, namespace, |state| state.heard = now);
    }

    /// A watch failed and will be tried again.
    pub fn failed(&self, watched: Watched, namespace: Option<&str>, reason: &'static str, now: Instant) {
        self.set(watched, namespace, |state| {
            let since = state.failing.filter(|f| now.duration_since(f.last) < APART);
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

    /// Watches that never were filled, fail for a while, or say nothing any more.
    pub fn troubles(&self, now: Instant) -> Vec<Trouble> {
        self.with(|map| {
            let bad = map.iter().filter_map(|((watched, namespace), state)| {
                let reason = self.trouble(state, now)?;
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

    fn trouble(&self, state: &State, now: Instant) -> Option<&'static str> {
        let failing = state.failing.filter(|f| state.heard <= f.last);
        match (state.filled, failing) {
            (false, failing) => Some(failing.map_or("NotSynced", |f| f.reason)),
            (true, Some(f)) if now.duration_since(f.first) >= self.bounds.stalled => Some(f.reason),
            (true, _) if now.duration_since(state.heard) >= self.bounds.silence() => Some("Silent"),
            (true, _) => None,
        }
    }

    /// One that has ended is not begun anew by what still comes of it.
    fn set(&self, watched: Watched, namespace: Option<&str>, change: impl FnOnce(&mut State)) {
        self.with(|map| map.get_mut(&(watched, namespace.map(str::to_owned))).map(change));
    }

    fn with<T>(&self, act: impl FnOnce(&mut States) -> T) -> T {
        act(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner))
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
            kube::Error::Service(error) if error.is::<Unanswered>() => "Timeout",
            _ => "ApiUnreachable",
        },
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => "ApiError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: Watched = Watched::Child(Kind::NetworkPolicy);

    fn followed(watched: &[(Watched, Option<&str>)], now: Instant) -> Health {
        let health = Health::default();
        for (watched, namespace) in watched {
            health.begins(*watched, *namespace, now);
        }
        health
    }

    #[test]
    fn no_pass_is_made_before_every_watch_of_its_namespace_was_filled() {
        assert!(Health::default().require("a").is_err(), "nothing is watched at all");
        let now = Instant::now();
        let health = followed(&[(Watched::Services, None), (POLICIES, Some("a"))], now);
        health.filled(Watched::Services, None);
        let error = health.require("a").unwrap_err();
        assert_eq!(error.reason(), "NotSynced");
        assert!(health.require("b").is_ok());
        assert!(!health.answered());
        health.failed(POLICIES, Some("a"), "Forbidden", now);
        assert_eq!(health.require("a").unwrap_err().reason(), "Forbidden");
        assert!(health.answered());
        health.filled(POLICIES, Some("a"));
        assert!(health.require("a").is_ok());
    }

    #[test]
    fn a_watch_that_keeps_failing_is_stalled_and_one_that_is_heard_again_works() {
        let start = Instant::now();
        let health = followed(&[(POLICIES, None)], start);
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
        health.heard(POLICIES, None, after(27));
        assert_eq!(health.troubles(after(28)), []);
        health.failed(POLICIES, None, "Forbidden", after(29));
        assert_eq!(health.troubles(after(30)), stalled, "it begins and fails in turn");
        health.heard(POLICIES, None, after(31));
        health.failed(POLICIES, None, "Forbidden", after(91));
        assert_eq!(health.troubles(after(92)), [], "a new failure is a hiccup again");
        assert!(stalled[0].to_string().contains("NetworkPolicy"));
    }

    #[test]
    fn a_watch_that_says_nothing_not_even_that_it_fails_is_stalled() {
        let start = Instant::now();
        let health = followed(&[(POLICIES, Some("a")), (Watched::Pods, Some("a"))], start);
        health.filled(POLICIES, Some("a"));
        health.filled(Watched::Pods, Some("a"));
        let silence = health.bounds().silence();
        assert!(
            silence > Duration::from_secs(health.bounds().watch_seconds.into()),
            "a watch may be silent for its life"
        );
        health.heard(Watched::Pods, Some("a"), start + silence / 2);
        assert_eq!(
            health.troubles(start + silence.saturating_sub(Duration::from_secs(1))),
            []
        );
        let troubles = health.troubles(start + silence);
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        assert_eq!(
            troubles[0].to_string(),
            "the watch of NetworkPolicy in namespace a does not work: Silent"
        );
        health.heard(POLICIES, Some("a"), start + silence);
        assert_eq!(health.troubles(start + silence), []);
        health.ended(POLICIES);
        health.heard(POLICIES, Some("a"), start + silence);
        assert_eq!(
            health.by_kind(start + silence).len(),
            1,
            "a watch that has ended is begun anew"
        );
    }
}
