//! Leader election on a Lease: one process makes passes, the others watch and wait.
//!
//! In: a client, a Lease's name, who we are. Out: when we lead, and when we no longer may.
//! Every write carries the resourceVersion that was read: of two candidates one is refused. A leader that cannot renew
//! in time is told so while its Lease still has a third of its life left: it must end before another one begins.
//! An election never guarantees that there is one leader only; what two must not do twice has its own preconditions.

pub mod decide;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout_at};

use crate::apply::call;
use crate::clock;
use crate::error::Error;
use crate::names::MANAGER;
use decide::{Decision, Record, decide};

/// The times of an election, client-go's by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// For how long a renewal is good.
    pub lease: Duration,
    /// A leader that has not renewed for so long gives up.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// One candidate.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    times: Times,
    /// The Lease as last seen, and since when by our own clock.
    seen: Option<(Lease, Instant)>,
}

impl Elector {
    /// A candidate. `me` must be unique: the pod's name.
    pub fn new(client: Client, namespace: &str, name: impl Into<String>, me: impl Into<String>, times: Times) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            me: me.into(),
            times,
            seen: None,
        }
    }

    /// Returns when we lead.
    pub async fn campaign(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => {
                    tracing::info!(lease = self.name, me = self.me, "leading");
                    return;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.name, reason = error.reason(), "the Lease was not had"),
            }
            sleep(self.times.retry).await;
        }
    }

    /// Renews for as long as that works; returns when we may lead no longer.
    pub async fn keep(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.times.retry).await;
            let deadline = renewed + self.times.renew_deadline;
            let began = Instant::now();
            match timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, "somebody else leads");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.name, reason = error.reason(), "the Lease was not renewed");
                }
                Err(_) => {}
            }
            if Instant::now() >= deadline.min(renewed + self.times.renew_deadline) {
                tracing::error!(lease = self.name, "the Lease could not be renewed in time");
                return;
            }
        }
    }

    /// Gives the Lease back, so that another one need not wait for its end. Only after all work has ended.
    ///
    /// # Errors
    /// What the API server reports; the Lease then runs out by itself.
    pub async fn release(&mut self) -> Result<(), Error> {
        match self.give_back().await {
            // A renewal was under way when the work ended, and nobody waited for its answer.
            Err(Error::Conflict { .. }) => {
                self.look().await?;
                self.give_back().await
            }
            other => other,
        }
    }

    async fn give_back(&mut self) -> Result<(), Error> {
        let Some((mut lease, _)) = self.seen.take() else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.me) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(clock::wall()));
        call("update", "Lease", self.api.replace(&self.name, &params(), &lease)).await?;
        Ok(())
    }

    /// One try to have or renew the Lease; whether we hold it now.
    async fn attempt(&mut self) -> Result<bool, Error> {
        // A leader writes at once what it wrote last: most renewals need no read.
        if let Some((lease, _)) = &self.seen
            && record(lease).holder.as_deref() == Some(&self.me)
        {
            match self.write(Decision::Renew).await {
                Err(Error::Conflict { .. }) => {}
                other => return other,
            }
        }
        self.look().await?;
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let lease = self.seen.as_ref().map(|(lease, _)| record(lease));
        match decide(&self.me, lease.as_ref(), unchanged) {
            Decision::Wait => Ok(false),
            decision => match self.write(decision).await {
                Err(Error::Conflict { .. }) => Ok(false),
                other => other,
            },
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let found = call("get", "Lease", self.api.get_opt(&self.name)).await?;
        self.seen = found.map(|lease| {
            let same = self.seen.as_ref().filter(|(old, _)| record(old) == record(&lease));
            let since = same.map_or_else(Instant::now, |(_, since)| *since);
            (lease, since)
        });
        Ok(())
    }

    async fn write(&mut self, decision: Decision) -> Result<bool, Error> {
        let now = MicroTime(clock::wall());
        let mut lease = self.seen.as_ref().map(|(lease, _)| lease.clone()).unwrap_or_default();
        let old = lease.spec.take().unwrap_or_default();
        let mine = decision == Decision::Renew;
        let transitions = old.lease_transitions.unwrap_or(0);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.times.lease.as_secs().max(1)).ok(),
            acquire_time: old.acquire_time.filter(|_| mine).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(match decision {
                Decision::Take => transitions.saturating_add(1),
                _ => transitions,
            }),
            ..old
        });
        let written = if decision == Decision::Create {
            lease.metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            call("create", "Lease", self.api.create(&params(), &lease)).await?
        } else {
            call("update", "Lease", self.api.replace(&self.name, &params(), &lease)).await?
        };
        self.seen = Some((written, Instant::now()));
        Ok(true)
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity,
        renewed: spec.renew_time.map(|time| time.0.to_string()),
        duration: Duration::from_secs(
            spec.lease_duration_seconds
                .and_then(|s| u64::try_from(s).ok())
                .unwrap_or(1),
        ),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}
