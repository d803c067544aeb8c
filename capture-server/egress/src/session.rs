//! One capture's use of one listener.
//!
//! In: a listener and a scope. Out: the report and the listener, for the next capture. The listener is the identity:
//! whatever connects to it belongs to this scope. When a session ends, every connection of it has ended, also those
//! that were waiting to be accepted.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::budget::{self, Budget, Spent};
use crate::connection::{self, Context};
use crate::log::Decision;
use crate::refusal::Refusal;
use crate::synthetic::Synthetic;

/// Pause after a failed accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How many waiting connections are shed at the end of a session, and how long it waits for one to show.
const MAX_SHED: usize = 4096;
const SHED_WAIT: Duration = Duration::from_millis(2);

/// What one capture may do.
#[derive(Debug, Clone)]
pub struct Scope {
    /// For the log only.
    pub capture_id: String,
    /// From then on everything is cut and refused.
    pub deadline: Instant,
    /// The bounds.
    pub budget: Budget,
    /// The caller's own HTML, if that is what is captured.
    pub synthetic: Option<Synthetic>,
}

/// What one capture did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressReport {
    /// Every decision in order, at most [`crate::MAX_DECISIONS`].
    pub decisions: Vec<Decision>,
    /// Decisions that are not listed.
    pub omitted: u64,
    /// Connections that the browser made, refused ones included.
    pub requests: u64,
    /// Distinct hosts that passed the policy by name.
    pub hosts: u64,
    /// Bytes exchanged with targets, both directions.
    pub bytes: u64,
    /// The budget that ended it, if one did.
    pub tripped: Option<Refusal>,
}

/// An open session. Dropping it cuts everything and closes the listener.
#[must_use = "dropping a session cuts it"]
pub struct Session {
    context: Arc<Context>,
    listener: Arc<TcpListener>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Session {
    pub(crate) fn start(context: Context, listener: TcpListener, deadline: Instant) -> Self {
        let (context, listener) = (Arc::new(context), Arc::new(listener));
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(
            Arc::clone(&context),
            Arc::clone(&listener),
            deadline,
            stop.clone(),
        ));
        Self {
            context,
            listener,
            stop: stop.drop_guard(),
            task,
        }
    }

    /// Resolves when a budget or the time of the capture is spent; pending until then.
    pub async fn tripped(&self) -> Refusal {
        Refusal::Budget(budget::spent(self.context.meter.watch()).await)
    }

    /// The refusals so far, in order.
    pub fn refusals(&self) -> Vec<Decision> {
        self.context.log.refusals()
    }

    /// The report so far.
    pub fn report(&self) -> EgressReport {
        report(&self.context)
    }

    /// Cuts every connection and gives the listener back; without one (it cannot be told apart from one still in
    /// use) its jail must not be used again.
    pub async fn finish(self) -> (EgressReport, Option<TcpListener>) {
        self.stop.disarm().cancel();
        let ended = self.task.await;
        (
            report(&self.context),
            ended.ok().and_then(|()| Arc::into_inner(self.listener)),
        )
    }
}

fn report(context: &Context) -> EgressReport {
    let (decisions, omitted) = context.log.snapshot();
    let (requests, hosts, bytes) = context.meter.totals();
    let tripped = context.meter.tripped().map(Refusal::Budget);
    EgressReport {
        decisions,
        omitted,
        requests,
        hosts,
        bytes,
        tripped,
    }
}

async fn accept(context: Arc<Context>, listener: Arc<TcpListener>, deadline: Instant, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut late = false;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep_until(deadline), if !late => {
                late = true;
                context.meter.trip(Spent::Deadline);
                connections.abort_all();
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    // Else the second piece of an answer waits for the browser to acknowledge the first.
                    let _ = client.set_nodelay(true);
                    let _ = connections.spawn(connection::serve(Arc::clone(&context), client));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    connections.shutdown().await;
    shed(&listener).await;
}

/// Closes what still waits in the backlog, so that the next session does not answer for it.
async fn shed(listener: &TcpListener) {
    for _ in 0..MAX_SHED {
        if !matches!(timeout(SHED_WAIT, listener.accept()).await, Ok(Ok(_))) {
            return;
        }
    }
}
