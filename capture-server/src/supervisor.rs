//! Keeps a proven jailer at hand: connect, preflight, publish, wait for its end, and again.
//!
//! In: where the jailer's socket is (and, on a laptop, how to start the jailer). Out: the link that captures may use,
//! and readiness. The proof is repeated now and then: a node's setting can change under a running pod. It waits forever with a growing pause and never ends the server: without a jailer the server is
//! unready, with the reason. Must not: publish a link whose preflight has not passed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capture_jail::client::{ClientError, Jailer};
use screenshot_policy::policy::SandboxMode;
use tokio::sync::watch;

use crate::capture::link::Link;
use crate::capture::pool::{Config, Pool};
use crate::child::Child;
use crate::probe::{self, Found};
use crate::state::{Component, Status};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a link in use is proven again.
pub const REPROVE: Duration = Duration::from_secs(600);

/// The pause before the next attempt.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

/// What the supervisor needs to know.
pub struct Supervisor {
    /// The jailer's socket.
    pub socket: PathBuf,
    /// The jailer, where this server has to start it itself.
    pub child: Option<Child>,
    /// What every jail is made with.
    pub config: Config,
    /// Where a jail goes that has passed the proof.
    pub pool: Pool,
    /// How often a link in use is proven again; [`REPROVE`] outside of tests.
    pub reprove: Duration,
    /// What the policy asks of the sandbox.
    pub mode: SandboxMode,
    /// Where findings go.
    pub status: Arc<Status>,
    /// Where a proven link goes.
    pub link: watch::Sender<Option<Arc<Link>>>,
}

impl Supervisor {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect().await {
                Ok(link) => {
                    if self.serve(&link, &mut pause).await {
                        pause = FIRST_PAUSE;
                    }
                }
                Err((reason, message)) => self.status.against(Component::Sandbox, reason, message),
            }
            tokio::time::sleep(pause).await;
            pause = longer(pause);
        }
    }

    async fn connect(&mut self) -> Result<Arc<Link>, (&'static str, &'static str)> {
        if let Some(child) = &mut self.child {
            child
                .ensure_running()
                .map_err(|_| ("JailerNotStarted", "the jailer's program could not be started"))?;
        }
        let socket = self.socket.clone();
        let connected = tokio::task::spawn_blocking(move || Jailer::connect(&socket)).await;
        let jailer = connected
            .unwrap_or(Err(ClientError::Closed))
            .map_err(|error| match error {
                ClientError::Absent => ("JailerAbsent", "waiting for the jailer's socket"),
                other => (other.reason(), "the jailer takes no connection"),
            })?;
        let link = Link::start(jailer, self.status.jailer.clone())
            .map_err(|_| ("JailerProtocol", "the jailer's socket could not be watched"))?;
        Ok(Arc::new(link))
    }

    /// Proves the link, lets captures use it, and waits for its end. Returns whether the link was ever in use.
    async fn serve(&self, link: &Arc<Link>, pause: &mut Duration) -> bool {
        let mut used = false;
        while self.until_proven(link, pause).await {
            used = true;
            *pause = FIRST_PAUSE;
            self.link.send_replace(Some(Arc::clone(link)));
            self.status.cleared(Component::Sandbox);
            self.while_proven(link).await;
            self.link.send_replace(None);
        }
        if used {
            self.lost();
        }
        used
    }

    /// Repeats the proof on the same link until it passes: what was missing (a profile, a node's setting) may come.
    /// `false`: the link has ended.
    async fn until_proven(&self, link: &Arc<Link>, pause: &mut Duration) -> bool {
        loop {
            if link.is_lost() {
                return false;
            }
            if self.prove(link).await {
                return true;
            }
            tokio::select! {
                () = link.gone() => return false,
                () = tokio::time::sleep(*pause) => *pause = longer(*pause),
            }
        }
    }

    /// Waits until the link ends, a repeated proof fails, or a browser that was launched in between is not as the proven one.
    async fn while_proven(&self, link: &Arc<Link>) {
        let mut doubts = self.pool.doubts();
        loop {
            tokio::select! {
                () = link.gone() => return,
                Ok(()) = doubts.changed() => {
                    let facts = doubts.borrow_and_update().clone();
                    if let Some(facts) = facts {
                        self.found(link, probe::judge(&facts, self.mode, None));
                    }
                    return;
                }
                () = tokio::time::sleep(self.reprove) => {}
            }
            if !self.prove(link).await {
                return;
            }
        }
    }

    async fn prove(&self, link: &Arc<Link>) -> bool {
        let (found, cell) = probe::preflight(link, &self.config, self.mode).await;
        let passed = self.found(link, found);
        if let Some(cell) = cell {
            self.pool.adopt(cell);
        }
        passed
    }

    fn found(&self, link: &Link, found: Found) -> bool {
        let passed = found.passed;
        if let Some(version) = found.browser {
            self.status.browser_found(version);
        }
        if !passed && !link.is_lost() {
            let reason = found.sandbox.reason.clone().unwrap_or_default();
            self.status.against(Component::Sandbox, &reason, &found.sandbox.message);
        }
        self.status.sandbox_found(found.sandbox);
        passed
    }

    fn lost(&self) {
        self.status.against(
            Component::Sandbox,
            "JailerClosed",
            "the jailer ended; waiting for the next one",
        );
        let mut facts = self.status.sandbox();
        facts.verified = false;
        facts.reason = Some("JailerClosed".to_owned());
        "the jailer ended; the next one is not proven yet".clone_into(&mut facts.message);
        self.status.sandbox_found(facts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_stays_bounded() {
        let mut pause = FIRST_PAUSE;
        for _ in 0..20 {
            pause = longer(pause);
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }
}
