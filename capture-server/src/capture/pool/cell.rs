//! One jail with its browser: the doors to the network, and the empty pages that wait behind them.
//!
//! In: a connection to the jailer. Out: [`Tab`]s, each an empty page in a fresh context whose only way out is one
//! listening socket. A door goes back to its cell only after its page is disposed of and its proxy session has ended.
//! Must not: decide who gets it (`fleet` does) or live on after it was killed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capture_jail::client::Spawned;
use capture_jail::protocol::{Exit, JailId};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::super::link::Link;
use super::{Config, PoolError};
use crate::browser::{Area, Browser, Density, Events, ImageFormat, Page, Shot, Viewport, Window};

/// How long a fresh browser may take until its first page is open.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a jail may take to be seen ended once its pipe is closed, and how often that is asked.
const END_TIMEOUT: Duration = Duration::from_millis(500);
const END_CHECK: Duration = Duration::from_millis(20);
/// How long a running browser may take to open an empty page.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// The window that an empty page waits with; a capture that wants it saves a round trip.
pub const WAITING: Window = Window {
    viewport: Viewport {
        width: 1280,
        height: 720,
    },
    density: Density::ONE,
};
/// One pixel is enough to bring up what only a first frame does.
const GLANCE: Shot = Shot {
    format: ImageFormat::Png,
    area: Some(Area {
        x: 0,
        y: 0,
        size: Viewport { width: 1, height: 1 },
    }),
};

/// A running jail at the jailer. Killed when dropped, if not before.
pub struct Jail {
    link: Arc<Link>,
    id: JailId,
    /// Set once it is killed: how it ended, if the jailer could tell.
    exit: OnceCell<Option<Exit>>,
}

impl Jail {
    /// Its name at the jailer.
    pub fn id(&self) -> JailId {
        self.id
    }

    /// The connection that it lives on.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Kills it with everything in it; returns once it is reaped, whoever else kills it. A lost jailer has killed its jails.
    pub async fn kill(&self) -> Option<Exit> {
        let killed = async || match self.link.kill(self.id).await {
            Ok(exit) => Some(exit),
            Err(error) => {
                tracing::debug!(reason = error.reason(), "jail not killed");
                None
            }
        };
        *self.exit.get_or_init(killed).await
    }

    /// Kills it after a start that failed. If it had ended by itself, or had no room for its threads, that is why.
    async fn post_mortem(&self, error: PoolError) -> PoolError {
        if matches!(error, PoolError::Browser(_)) {
            // A process closes its pipe a moment before it is seen to have ended.
            let ended = async {
                while matches!(self.link.stats(self.id).await, Ok(stats) if stats.exit.is_none()) {
                    tokio::time::sleep(END_CHECK).await;
                }
            };
            let _ = timeout(END_TIMEOUT, ended).await;
        }
        let exit = self.kill().await;
        exit.and_then(|exit| exit.failed_start())
            .map_or(error, PoolError::Ended)
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        if self.exit.initialized() {
            return;
        }
        let (link, id) = (Arc::clone(&self.link), self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(link.kill(id).await) });
        }
    }
}

/// A way out of a jail: whatever connects to it is the page that it was opened for.
pub struct Door {
    /// Where the page's traffic arrives.
    pub listener: TcpListener,
    /// Its port on the jail's own loopback.
    pub port: u16,
}

/// An empty page in a context of its own, and its way out.
pub struct Tab {
    /// The page.
    pub page: Page,
    /// What happens on it.
    pub events: Events,
    /// Its way out.
    pub door: Door,
}

#[derive(Default)]
struct Stock {
    doors: Vec<Door>,
    tabs: Vec<Tab>,
}

/// A jail, its browser, and what waits in it. The jail goes last.
pub struct Cell {
    stock: Mutex<Stock>,
    /// The browser.
    pub browser: Browser,
    /// The jail around it.
    pub jail: Jail,
}

impl Cell {
    /// Builds a jail on `link`, opens an empty page in it and takes a throw-away picture of it.
    pub async fn launch(link: &Arc<Link>, config: &Config) -> Result<Self, PoolError> {
        let Spawned {
            id,
            cdp_read,
            cdp_write,
            listeners,
            ..
        } = link.spawn(config.spec()).await?;
        let jail = Jail {
            link: Arc::clone(link),
            id,
            exit: OnceCell::new(),
        };
        let browser = Browser::attach(cdp_read, cdp_write, config.max_frame, config.strays.clone())
            .map_err(|_| PoolError::Descriptors)?;
        // The first listener is the browser's own proxy: closing it refuses whatever is not a page's.
        let doors = listeners.into_iter().skip(1).map(|(listener, port)| {
            let listener = std::net::TcpListener::from(listener);
            listener.set_nonblocking(true).map_err(|_| PoolError::Descriptors)?;
            let listener = TcpListener::from_std(listener).map_err(|_| PoolError::Descriptors)?;
            Ok(Door { listener, port })
        });
        let doors = doors.collect::<Result<Vec<_>, PoolError>>()?;
        let cell = Self {
            stock: Mutex::new(Stock {
                doors,
                tabs: Vec::new(),
            }),
            browser,
            jail,
        };
        match timeout(LAUNCH_TIMEOUT, cell.first())
            .await
            .unwrap_or(Err(PoolError::Timeout))
        {
            Ok(tab) => {
                cell.stock().tabs.push(tab);
                Ok(cell)
            }
            Err(error) => Err(cell.jail.post_mortem(error).await),
        }
    }

    /// What comes up late or ill with a first frame belongs to the browser (its GPU process), not to the page: one
    /// throw-away picture is enough for all. Of each page it would cost a twentieth of a small capture, and gain nothing that
    /// can be measured.
    async fn first(&self) -> Result<Tab, PoolError> {
        let tab = self.open().await?;
        tab.page.screenshot(GLANCE).await?;
        Ok(tab)
    }

    /// Opens an empty page.
    async fn open(&self) -> Result<Tab, PoolError> {
        let door = self.stock().doors.pop().ok_or(PoolError::Descriptors)?;
        let (page, events) = self.browser.open(door.port, WAITING).await?;
        Ok(Tab { page, events, door })
    }

    /// A new page, for want of one that waits.
    pub async fn fresh(&self) -> Result<Tab, PoolError> {
        timeout(OPEN_TIMEOUT, self.open())
            .await
            .unwrap_or(Err(PoolError::Timeout))
    }

    /// Opens one more empty page to wait here; returns how many wait now.
    pub async fn prepare(&self) -> Result<usize, PoolError> {
        let tab = self.fresh().await?;
        let mut stock = self.stock();
        stock.tabs.push(tab);
        Ok(stock.tabs.len())
    }

    /// A page that waits here.
    pub fn waiting(&self) -> Option<Tab> {
        self.stock().tabs.pop()
    }

    /// How many pages wait here.
    pub fn pages(&self) -> usize {
        self.stock().tabs.len()
    }

    /// Takes a door back whose page and session have ended.
    pub fn give_back(&self, door: Door) {
        self.stock().doors.push(door);
    }

    /// Whether anything can still come of it.
    pub fn is_usable(&self) -> bool {
        self.browser.is_alive() && !self.jail.link.is_lost()
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
