//! What one capture may use of the network, and what it has used.
//!
//! In: the budget of a capture and each use of it. Out: go on, or which budget is spent. Counters saturate.
//! A spent budget is final for the session, save the sockets, which count what is open at one time.
//! It must not decide about destinations.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::{cmp, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The bounds of one capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Connections that the browser may open to the proxy in all. One connection carries one plain request,
    /// one WebSocket or one TLS tunnel.
    pub requests: u64,
    /// Distinct hosts that may be looked up or dialled.
    pub hosts: u64,
    /// Connections open at the same time; more than these are refused, which spends nothing.
    pub sockets: u64,
    /// Bytes that may cross the outer side of the proxy, both directions added.
    pub wire_bytes: u64,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// [`Budget::requests`].
    #[error("too many requests")]
    Requests,
    /// [`Budget::hosts`].
    #[error("too many hosts")]
    Hosts,
    /// [`Budget::sockets`].
    #[error("too many sockets")]
    Sockets,
    /// [`Budget::wire_bytes`].
    #[error("too many bytes")]
    WireBytes,
    /// The time of the capture is over.
    #[error("deadline passed")]
    Deadline,
}

impl Spent {
    /// The bounded word.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Requests => "budget_requests",
            Self::Hosts => "budget_hosts",
            Self::Sockets => "budget_sockets",
            Self::WireBytes => "budget_wire_bytes",
            Self::Deadline => "budget_deadline",
        }
    }
}

/// The counters of one session.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    requests: AtomicU64,
    bytes: AtomicU64,
    hosts: Mutex<HashSet<String>>,
    sockets: Arc<Semaphore>,
    tripped: watch::Sender<Option<Spent>>,
}

impl Meter {
    pub(crate) fn new(budget: Budget) -> Self {
        let sockets = usize::try_from(budget.sockets).unwrap_or(usize::MAX);
        Self {
            budget,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            hosts: Mutex::default(),
            sockets: Arc::new(Semaphore::new(cmp::min(sockets, Semaphore::MAX_PERMITS))),
            tripped: watch::Sender::new(None),
        }
    }

    /// One connection of the browser.
    pub(crate) fn request(&self) -> Result<(), Spent> {
        self.live()?;
        self.within(add(&self.requests, 1), self.budget.requests, Spent::Requests)
    }

    /// A place among the open connections, given back on drop.
    pub(crate) fn socket(&self) -> Result<OwnedSemaphorePermit, Spent> {
        Arc::clone(&self.sockets)
            .try_acquire_owned()
            .map_err(|_| Spent::Sockets)
    }

    /// A host that is about to be looked up or dialled; a known one costs nothing.
    pub(crate) fn host(&self, host: &str) -> Result<(), Spent> {
        self.live()?;
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.contains(host) {
            return Ok(());
        }
        if len(&hosts) >= self.budget.hosts {
            return Err(self.trip(Spent::Hosts));
        }
        hosts.insert(host.to_owned());
        Ok(())
    }

    /// Bytes that crossed the outer side.
    pub(crate) fn wire(&self, bytes: usize) -> Result<(), Spent> {
        self.live()?;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.within(add(&self.bytes, bytes), self.budget.wire_bytes, Spent::WireBytes)
    }

    /// Ends the session's use of the network; the first cause stays.
    pub(crate) fn trip(&self, spent: Spent) -> Spent {
        let mut cause = spent;
        self.tripped.send_if_modified(|slot| {
            cause = *slot.get_or_insert(spent);
            cause == spent
        });
        cause
    }

    pub(crate) fn tripped(&self) -> Option<Spent> {
        *self.tripped.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Spent>> {
        self.tripped.subscribe()
    }

    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let hosts = len(&self.hosts.lock().unwrap_or_else(PoisonError::into_inner));
        (
            self.requests.load(Ordering::Relaxed),
            hosts,
            self.bytes.load(Ordering::Relaxed),
        )
    }

    fn live(&self) -> Result<(), Spent> {
        self.tripped().map_or(Ok(()), Err)
    }

    fn within(&self, used: u64, bound: u64, which: Spent) -> Result<(), Spent> {
        if used > bound { Err(self.trip(which)) } else { Ok(()) }
    }
}

/// Resolves when a budget of the session is spent; never if the session ends before.
pub(crate) async fn spent(mut watch: watch::Receiver<Option<Spent>>) -> Spent {
    let cause = watch.wait_for(Option::is_some).await.ok().and_then(|cause| *cause);
    match cause {
        Some(spent) => spent,
        None => std::future::pending().await,
    }
}

fn len(hosts: &HashSet<String>) -> u64 {
    u64::try_from(hosts.len()).unwrap_or(u64::MAX)
}

/// Adds without wrapping and returns the new value.
fn add(counter: &AtomicU64, more: u64) -> u64 {
    let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        Some(now.saturating_add(more))
    });
    before.unwrap_or_else(|now| now).saturating_add(more)
}

/// A stream to the outside whose every byte is counted: what is read or written without being paid for fails.
#[derive(Debug)]
pub(crate) struct Metered<'m, S> {
    inner: S,
    meter: &'m Meter,
    moved: &'m AtomicU64,
}

impl<'m, S> Metered<'m, S> {
    /// `moved` counts this stream's bytes alone.
    pub(crate) fn new(inner: S, meter: &'m Meter, moved: &'m AtomicU64) -> Self {
        Self { inner, meter, moved }
    }

    fn pay(&self, bytes: usize) -> Result<(), Spent> {
        add(self.moved, u64::try_from(bytes).unwrap_or(u64::MAX));
        self.meter.wire(bytes)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read
            && let Err(spent) = self.pay(buf.filled().len().saturating_sub(before))
        {
            buf.set_filled(before);
            return Poll::Ready(Err(io::Error::other(spent)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written
            && let Err(spent) = self.pay(bytes)
        {
            return Poll::Ready(Err(io::Error::other(spent)));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(requests: u64, hosts: u64, sockets: u64, wire_bytes: u64) -> Meter {
        Meter::new(Budget {
            requests,
            hosts,
            sockets,
            wire_bytes,
        })
    }

    #[test]
    fn the_request_after_the_last_trips_and_everything_after_it_is_refused() {
        let meter = meter(2, 9, 9, 9);
        assert_eq!((meter.request(), meter.request()), (Ok(()), Ok(())));
        assert_eq!(meter.tripped(), None);
        assert_eq!(meter.request(), Err(Spent::Requests));
        assert_eq!(meter.host("a.com"), Err(Spent::Requests));
        assert_eq!(meter.wire(0), Err(Spent::Requests));
        assert_eq!(meter.tripped(), Some(Spent::Requests));
    }

    #[test]
    fn a_host_is_counted_once() {
        let meter = meter(9, 1, 9, 9);
        assert_eq!((meter.host("a.com"), meter.host("a.com")), (Ok(()), Ok(())));
        assert_eq!(meter.host("b.com"), Err(Spent::Hosts));
        assert_eq!(meter.totals().1, 1);
    }

    #[test]
    fn open_sockets_are_bounded_and_come_back_without_tripping() {
        let meter = meter(9, 9, 1, 9);
        let held = meter.socket().unwrap();
        assert_eq!(meter.socket().err(), Some(Spent::Sockets));
        drop(held);
        assert!(meter.socket().is_ok());
        assert_eq!(meter.tripped(), None);
    }

    #[test]
    fn bytes_are_allowed_up_to_the_bound_and_counters_saturate() {
        let meter = meter(9, 9, 9, 10);
        assert_eq!(meter.wire(10), Ok(()));
        assert_eq!(meter.wire(1), Err(Spent::WireBytes));
        let counter = AtomicU64::new(u64::MAX - 1);
        assert_eq!(add(&counter, 5), u64::MAX);
        assert_eq!(counter.load(Ordering::Relaxed), u64::MAX);
    }

    #[test]
    fn the_first_cause_stays() {
        let meter = meter(1, 1, 1, 1);
        assert_eq!(meter.trip(Spent::Deadline), Spent::Deadline);
        assert_eq!(meter.trip(Spent::WireBytes), Spent::Deadline);
        assert_eq!(meter.tripped(), Some(Spent::Deadline));
    }
}
