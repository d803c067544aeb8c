//! A capture's hold on a jail and on one empty page in it. However the capture ends, the hold ends in one place.
//!
//! In: a claim of the pool and the admission slot. Out: the page, its events, its proxy session. When claim or lease is
//! dropped, a task of its own clears up: it kills the jail or disposes of the page, and only then frees the slot. Must not:
//! outlive its capture in the caller's hands, or give a jail back that saw an incident.

use std::sync::Arc;
use std::time::Duration;

use capture_egress::{Egress, Scope, Session};
use tokio::sync::watch;

use super::cell::{Cell, Door, Tab};
use super::fleet::{MemberId, Retired};
use super::{PoolError, Shared, Started};
use crate::browser::{Events, Page};
use crate::clock;
use crate::limits::admission::Slot;

/// How long a browser may take to dispose of a page; a page that resists longer takes its jail down.
const DISPOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A claim on a jail, counted as in flight. Given back when dropped.
pub(super) struct Claimed {
    shared: Arc<Shared>,
    id: MemberId,
    started: watch::Receiver<Started>,
    /// Taken by the lease that it becomes.
    slot: Option<Arc<Slot>>,
    /// What the jail is to be blamed for if the claim ends here.
    incident: Option<&'static str>,
}

impl Claimed {
    pub(super) fn new(shared: Arc<Shared>, id: MemberId, started: watch::Receiver<Started>, slot: Arc<Slot>) -> Self {
        Self {
            shared,
            id,
            started,
            slot: Some(slot),
            incident: None,
        }
    }

    /// Waits until the jail's browser runs.
    pub(super) async fn started(&mut self) -> Result<Arc<Cell>, Arc<PoolError>> {
        match self.started.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(cell))) => Ok(Arc::clone(cell)),
            Ok(Some(Err(error))) => Err(Arc::clone(error)),
            Ok(None) | Err(_) => Err(Arc::new(PoolError::Timeout)),
        }
    }

    /// Takes a page of the jail, one that waits or a new one.
    pub(super) async fn page(mut self, cell: Arc<Cell>) -> Result<Lease, PoolError> {
        let tab = if let Some(tab) = cell.waiting() {
            self.shared.note_pages(self.id, &cell);
            tab
        } else {
            // Whoever gives up in the middle leaves a browser with half a page.
            self.incident = Some("open");
            let tab = cell.fresh().await?;
            self.incident = None;
            tab
        };
        let Tab { page, events, door } = tab;
        Ok(Lease(Some(Held {
            shared: Arc::clone(&self.shared),
            id: self.id,
            cell,
            page,
            events,
            exit: Exit::Closed(door),
            slot: self.slot.take(),
            incident: None,
        })))
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let (Some(slot), Ok(runtime)) = (self.slot.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (shared, id, incident) = (Arc::clone(&self.shared), self.id, self.incident);
        // At once: whoever asks next must not get a jail that is to be blamed.
        let retired = shared.with(|inner| inner.fleet.leaving(id, incident));
        let mut started = self.started.clone();
        // A start goes on without the capture that it was begun for, and has its place until it is over.
        let over = async move {
            let _ = started.wait_for(Option::is_some).await;
            None
        };
        runtime.spawn(finish(shared, id, retired, Some(slot), over));
    }
}

/// The end of a hold: the jail is killed, or cleared by `clear` and given back. Only then is the slot free.
async fn finish(
    shared: Arc<Shared>,
    id: MemberId,
    mut retired: Option<Retired>,
    slot: Option<Arc<Slot>>,
    clear: impl Future<Output = Option<&'static str>>,
) {
    if retired.is_none() {
        let failed = clear.await;
        retired = shared.with(|inner| inner.fleet.release(id, failed, clock::monotonic()));
    }
    if let Some(why) = retired {
        shared.end(id, why).await;
    }
    drop(slot);
    shared.kick();
}

/// The page's way out: nobody answers there, or the proxy does.
enum Exit {
    Closed(Door),
    Open { session: Session, port: u16 },
    Gone,
}

struct Held {
    shared: Arc<Shared>,
    id: MemberId,
    cell: Arc<Cell>,
    page: Page,
    events: Events,
    exit: Exit,
    slot: Option<Arc<Slot>>,
    incident: Option<&'static str>,
}

/// A page in a jail, for one capture. Dropping it clears everything away.
pub struct Lease(Option<Held>);

/// What a capture works with.
pub struct Parts<'a> {
    /// The page.
    pub page: &'a mut Page,
    /// What happens on it.
    pub events: &'a mut Events,
    /// The jail around it.
    pub cell: &'a Cell,
    /// The proxy that its traffic goes through.
    pub session: &'a Session,
}

impl Lease {
    /// Opens the page's way out under `scope`.
    pub fn connect(&mut self, egress: &Egress, scope: Scope) {
        if let Some(held) = &mut self.0 {
            held.exit = match std::mem::replace(&mut held.exit, Exit::Gone) {
                Exit::Closed(Door { listener, port }) => Exit::Open {
                    session: egress.open(listener, scope),
                    port,
                },
                other => other,
            };
        }
    }

    /// Everything at once, so that several can be waited for together. `None` before [`Lease::connect`].
    pub fn parts(&mut self) -> Option<Parts<'_>> {
        let held = self.0.as_mut()?;
        match &held.exit {
            Exit::Open { session, .. } => Some(Parts {
                page: &mut held.page,
                events: &mut held.events,
                cell: &held.cell,
                session,
            }),
            Exit::Closed(_) | Exit::Gone => None,
        }
    }

    /// Notes that something went wrong: the jail serves nobody after this capture.
    pub fn blame(&mut self, incident: &'static str) {
        if let Some(held) = &mut self.0 {
            held.incident = Some(incident);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(held), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(put_back(held));
        }
    }
}

async fn put_back(held: Held) {
    let Held {
        shared,
        id,
        cell,
        page,
        exit,
        slot,
        incident,
        ..
    } = held;
    let dead = (!cell.is_usable()).then_some("browser_gone");
    let retired = shared.with(|inner| inner.fleet.leaving(id, incident.or(dead)));
    finish(shared, id, retired, slot, clear_away(cell, page, exit)).await;
}

/// Disposes of the page, then of its session: in the other order late traffic of this page would meet the next one's
/// proxy. Returns what went wrong.
async fn clear_away(cell: Arc<Cell>, page: Page, exit: Exit) -> Option<&'static str> {
    match tokio::time::timeout(DISPOSE_TIMEOUT, page.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return Some("dispose"),
    }
    match exit {
        Exit::Closed(door) => cell.give_back(door),
        Exit::Open { session, port } => match session.finish().await {
            (_, Some(listener)) => cell.give_back(Door { listener, port }),
            (_, None) => return Some("listener"),
        },
        Exit::Gone => return Some("listener"),
    }
    None
}

/// The word for the log.
pub(super) fn ended(why: Retired) {
    tracing::debug!(reason = why.reason(), "jail retired");
}
