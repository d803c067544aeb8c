//! What the server knows of itself: readiness with its reasons, sandbox facts, the browser's version.
//!
//! In: findings of the supervisor, the loaders and the shutdown. Out: one consistent answer for `/health/ready`,
//! attestation and metrics. Ready means that no component has a reason against it; every component but the canary's starts
//! with one, so that what has not been proven yet counts as missing; the canary needs an operator, without which captures
//! go on, and not every policy has an upstream. Must not: find anything out by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use screenshot_policy::attest::{NotReady, SandboxFacts};
use tokio::time::Instant;

/// How long a jailer may say nothing. It is asked every second while captures go through it, and after each pause of the
/// supervisor (5 s) else; a jail may take it 10 s to build.
const PATIENCE: Duration = Duration::from_secs(20);

/// What readiness consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The policy file.
    Policy,
    /// The keyset file.
    Keyset,
    /// Jailer, jail and browser, proven by the preflight.
    Sandbox,
    /// The cluster's half of the egress control, as far as the canary shows it.
    Egress,
    /// What the policy's upstream proxy is asked with.
    Upstream,
    /// The shutdown.
    Shutdown,
}

#[derive(Debug, Default)]
struct Known {
    against: BTreeMap<Component, NotReady>,
    sandbox: SandboxFacts,
    browser: Option<String>,
}

/// When the jailer last answered, whatever it said. Shared.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    /// It answered.
    pub fn answered(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether it has answered of late.
    pub fn is_recent(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.duration_since(last) <= PATIENCE)
    }
}

/// Shared; cheap to ask.
#[derive(Debug)]
pub struct Status {
    /// The jailer's answers.
    pub jailer: Heard,
    known: Mutex<Known>,
}

impl Default for Status {
    fn default() -> Self {
        let status = Self {
            jailer: Heard::default(),
            known: Mutex::default(),
        };
        status.against(
            Component::Policy,
            "policy_not_loaded",
            "the policy has not been loaded yet",
        );
        status.against(
            Component::Keyset,
            "keyset_not_loaded",
            "the keyset has not been loaded yet",
        );
        status.against(
            Component::Sandbox,
            "preflight_pending",
            "the preflight of the sandbox has not run yet",
        );
        status
    }
}

impl Status {
    /// Sets the reason why a component is not ready.
    pub fn against(&self, component: Component, reason: &str, message: &str) {
        let reason = NotReady {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let old = self.known().against.insert(component, reason.clone());
        if old.as_ref() != Some(&reason) {
            tracing::warn!(component = ?component, reason = reason.reason, message, "not ready");
        }
    }

    /// Clears it.
    pub fn cleared(&self, component: Component) {
        let (removed, ready) = {
            let mut known = self.known();
            (known.against.remove(&component).is_some(), known.against.is_empty())
        };
        if removed {
            tracing::info!(component = ?component, ready, "component ready");
        }
    }

    /// Records what the preflight found.
    pub fn sandbox_found(&self, facts: SandboxFacts) {
        self.known().sandbox = facts;
    }

    /// Records the browser's version.
    pub fn browser_found(&self, version: String) {
        self.known().browser = Some(version);
    }

    /// The reasons against readiness; empty means ready.
    pub fn not_ready(&self) -> Vec<NotReady> {
        self.known().against.values().cloned().collect()
    }

    /// Whether captures are taken.
    pub fn is_ready(&self) -> bool {
        self.known().against.is_empty()
    }

    /// What the last preflight found.
    pub fn sandbox(&self) -> SandboxFacts {
        self.known().sandbox.clone()
    }

    /// The browser's version, once one has run.
    pub fn browser(&self) -> Option<String> {
        self.known().browser.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jailer_is_heard_of_for_as_long_as_its_last_answer_is_recent() {
        let (heard, start) = (Heard::default(), Instant::now());
        assert!(!heard.is_recent(start), "it has never answered");
        heard.answered(start);
        assert!(heard.is_recent(start + PATIENCE));
        assert!(!heard.is_recent(start + PATIENCE + Duration::from_millis(1)));
        heard.answered(start + 2 * PATIENCE);
        assert!(heard.is_recent(start + 3 * PATIENCE));
    }

    #[test]
    fn nothing_is_ready_before_everything_is_proven() {
        let status = Status::default();
        assert_eq!(status.not_ready().len(), 3);
        status.cleared(Component::Policy);
        status.cleared(Component::Keyset);
        assert!(!status.is_ready());
        status.cleared(Component::Sandbox);
        assert!(status.is_ready());
        status.against(Component::Shutdown, "draining", "the server is shutting down");
        assert_eq!(status.not_ready()[0].reason, "draining");
    }
}
