//! Keeps a proven jailer at hand: connect, preflight, publish, wait for its end, and again.
//!
//! In: where the jailer's socket is (and, on a laptop, how to start the jailer). Out: the link that captures may use,
//! and readiness. It waits forever with a growing pause and never ends the server: without a jailer the server is
//! unready, with the reason. Must not: publish a link whose preflight has not passed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capture_jail::client::{ClientError, Jailer};
use capture_jail::protocol::SpawnSpec;
use screenshot_policy::policy::SandboxMode;
use tokio::sync::watch;

use crate::capture::link::Link;
use crate::child::Child;
use crate::probe;
use crate::state::{Component, Status};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    /// What a jail is asked to be.
    pub spec: SpawnSpec,
    /// Longest message of a browser in bytes.
    pub max_frame: usize,
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
        let link = Link::start(jailer).map_err(|_| ("JailerProtocol", "the jailer's socket could not be watched"))?;
        Ok(Arc::new(link))
    }

    /// Proves the link, lets captures use it, and waits for its end. A failed preflight is repeated on the same
    /// link: what was missing (a profile, a node's setting) may come. Returns whether the link was ever in use.
    async fn serve(&self, link: &Arc<Link>, pause: &mut Duration) -> bool {
        loop {
            let found = probe::preflight(link, self.spec.clone(), self.max_frame, self.mode).await;
            let passed = found.passed;
            if let Some(version) = found.browser {
                self.status.browser_found(version);
            }
            if !passed {
                let reason = found.sandbox.reason.clone().unwrap_or_default();
                self.status.against(Component::Sandbox, &reason, &found.sandbox.message);
            }
            self.status.sandbox_found(found.sandbox);
            if passed {
                break;
            }
            tokio::select! {
                () = link.gone() => return false,
                () = tokio::time::sleep(*pause) => *pause = longer(*pause),
            }
        }
        self.link.send_replace(Some(Arc::clone(link)));
        self.status.cleared(Component::Sandbox);
        link.gone().await;
        self.link.send_replace(None);
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
        true
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
