//! The jails with their browsers: one spare kept warm, each used for one capture and then killed.
//!
//! In: the link that the supervisor holds. Out: a [`Lease`]: a jail with an empty page open and the listening socket
//! of its proxy. Every lease ends in the reaper, however the capture ends: it kills the jail, waits until it is
//! reaped, and only then frees the admission slot. Must not: share a jail between two captures.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capture_jail::client::{ClientError, Spawned};
use capture_jail::protocol::{JailId, SpawnSpec};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use super::link::Link;
use crate::browser::{Browser, DriverError, Events, Page};
use crate::limits::admission::Slot;

/// How long a fresh browser may take until its empty page is open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the spare is looked after besides the moments when one is taken.
const SPARE_CHECK: Duration = Duration::from_secs(1);

/// Why there is no jail.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No jailer is connected, or its preflight has not passed.
    #[error("no jailer")]
    NoJailer,
    /// The jailer did not build it.
    #[error("jailer: {0}")]
    Jailer(#[from] ClientError),
    /// Its browser did not come up.
    #[error("browser: {0}")]
    Browser(#[from] DriverError),
    /// The descriptors that came with it are not what they should be.
    #[error("descriptors")]
    Descriptors,
    /// It took too long.
    #[error("timeout")]
    Timeout,
}

impl PoolError {
    /// The bounded word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoJailer => "no_jailer",
            Self::Jailer(error) => error.reason(),
            Self::Browser(error) => error.reason(),
            Self::Descriptors => "descriptors",
            Self::Timeout => "browser_timeout",
        }
    }
}

/// A running jail. Dropping it hands it to the reaper.
pub struct Jail {
    link: Arc<Link>,
    id: JailId,
    slot: Option<Slot>,
}

impl Jail {
    /// Its name at the jailer.
    pub fn id(&self) -> JailId {
        self.id
    }

    /// The connection that it lives on.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        let (link, id, slot) = (Arc::clone(&self.link), self.id, self.slot.take());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A lost jailer has killed its jails: nothing is left to wait for.
                if let Err(error) = link.kill(id).await {
                    tracing::debug!(reason = error.reason(), "jail not killed");
                }
                drop(slot);
            });
        }
    }
}

/// A jail with its browser, an empty page and the proxy's listener. The jail goes last.
pub struct Lease {
    /// The page.
    pub page: Page,
    /// What happens on it.
    pub events: Events,
    /// Where the page's traffic arrives.
    pub listener: Option<TcpListener>,
    /// The browser.
    pub browser: Browser,
    /// The jail around it.
    pub jail: Jail,
}

impl Lease {
    /// Builds a jail on `link` and opens an empty page in it. `max_frame` bounds a browser's message, in bytes.
    pub async fn launch(link: &Arc<Link>, spec: SpawnSpec, max_frame: usize) -> Result<Self, PoolError> {
        let Spawned {
            id,
            cdp_read,
            cdp_write,
            listeners,
            ..
        } = link.spawn(spec).await?;
        let jail = Jail {
            link: Arc::clone(link),
            id,
            slot: None,
        };
        let browser = Browser::attach(cdp_read, cdp_write, max_frame).map_err(|_| PoolError::Descriptors)?;
        // The first listener is the browser's own proxy: closing it refuses whatever is not a page's. The second is
        // the page's.
        let (listener, port) = listeners.into_iter().nth(1).ok_or(PoolError::Descriptors)?;
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(true).map_err(|_| PoolError::Descriptors)?;
        let listener = TcpListener::from_std(listener).map_err(|_| PoolError::Descriptors)?;
        let opened = tokio::time::timeout(OPEN_TIMEOUT, browser.open(port)).await;
        let (page, events) = opened.map_err(|_| PoolError::Timeout)??;
        Ok(Self {
            page,
            events,
            listener: Some(listener),
            browser,
            jail,
        })
    }

    /// Ties an admission slot to the jail: it is freed when the jail is reaped.
    pub fn hold(&mut self, slot: Slot) {
        self.jail.slot = Some(slot);
    }

    fn usable(&self) -> bool {
        self.browser.is_alive() && !self.jail.link.is_lost()
    }
}

/// The pool.
pub struct Pool {
    link: watch::Receiver<Option<Arc<Link>>>,
    spec: SpawnSpec,
    max_frame: usize,
    spare: Mutex<Option<Lease>>,
    taken: Notify,
}

impl Pool {
    /// A pool on whatever link the supervisor has proven.
    pub fn new(link: watch::Receiver<Option<Arc<Link>>>, spec: SpawnSpec, max_frame: usize) -> Self {
        Self {
            link,
            spec,
            max_frame,
            spare: Mutex::new(None),
            taken: Notify::new(),
        }
    }

    /// The spare, or else a new jail. The caller bounds the wait.
    pub async fn lease(&self) -> Result<Lease, PoolError> {
        let link = self.link.borrow().clone().ok_or(PoolError::NoJailer)?;
        let spare = self.take_spare().filter(Lease::usable);
        self.taken.notify_one();
        match spare {
            Some(lease) => Ok(lease),
            None => self.launch(link).await,
        }
    }

    /// Keeps one spare. Runs until it is dropped.
    pub async fn keep_spare(&self) {
        let mut linked = self.link.clone();
        loop {
            tokio::select! {
                () = self.taken.notified() => {}
                Ok(()) = linked.changed() => {}
                () = tokio::time::sleep(SPARE_CHECK) => {}
            }
            let link = self.link.borrow().clone();
            let kept = self.take_spare().filter(|lease| link.is_some() && lease.usable());
            let spare = match (kept, link) {
                (Some(lease), _) => Some(lease),
                (None, Some(link)) => match self.launch(link).await {
                    Ok(lease) => Some(lease),
                    Err(error) => {
                        tracing::warn!(reason = error.reason(), "no spare browser");
                        None
                    }
                },
                (None, None) => None,
            };
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = spare;
        }
    }

    /// Launches in a task of its own: a caller that gives up in the middle must not leave a jail that nobody kills.
    async fn launch(&self, link: Arc<Link>) -> Result<Lease, PoolError> {
        let (spec, max_frame) = (self.spec.clone(), self.max_frame);
        let launched = tokio::spawn(async move { Lease::launch(&link, spec, max_frame).await });
        launched.await.unwrap_or(Err(PoolError::Timeout))
    }

    fn take_spare(&self) -> Option<Lease> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
