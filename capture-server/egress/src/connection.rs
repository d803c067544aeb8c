//! One connection of the browser, from its first byte to its end.
//!
//! In: a stream and the session's context. Out: an entry in the decision log. The steps stand in `run` in their
//! only order: count, read the head, decide, dial, serve. A refusal is answered without a body.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::Timings;
use crate::budget::{Meter, Metered, Spent};
use crate::decide::{Decider, Way};
use crate::dial::{self, Dial};
use crate::forward;
use crate::head::{self, Head, HeadError, MAX_HEAD, Request};
use crate::log::{Entry, Log, Route, Site};
use crate::refusal::Refusal;
use crate::synthetic::Synthetic;
use crate::tls::{self, Terminator};
use crate::tunnel::Tunnel;
use crate::upstream::{self, Access, Stream};
use crate::wire::{self, HeadEnd, ReadError};

/// How long and how much of what a refused browser still sends is read away, lest a reset overtake the answer.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 1024 * 1024;

/// What every connection of a session shares.
pub(crate) struct Context {
    pub(crate) decider: Arc<Decider>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) access: watch::Receiver<Arc<Access>>,
    pub(crate) tls: Option<Arc<Terminator>>,
    pub(crate) timings: Timings,
    pub(crate) synthetic: Option<Synthetic>,
    pub(crate) meter: Meter,
    pub(crate) log: Log,
}

/// A connection that ends by a refusal, and whether the browser can still be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    refusal: Refusal,
    answerable: bool,
}

impl Cut {
    pub(crate) fn answerable(refusal: impl Into<Refusal>) -> Self {
        Self {
            refusal: refusal.into(),
            answerable: true,
        }
    }

    pub(crate) fn silent(refusal: impl Into<Refusal>) -> Self {
        Self {
            refusal: refusal.into(),
            answerable: false,
        }
    }

    pub(crate) fn silenced(self) -> Self {
        Self {
            answerable: false,
            ..self
        }
    }
}

/// What is known about a connection so far.
#[derive(Debug, Default)]
struct Known {
    site: Option<Site>,
    route: Route,
}

/// Serves one connection.
pub(crate) async fn serve(context: Arc<Context>, mut client: TcpStream) {
    let mut known = Known::default();
    let counted = context.meter.request().and_then(|()| context.meter.socket());
    let _slot = match counted {
        Ok(slot) => slot,
        Err(spent) => {
            if spent == Spent::Sockets {
                known.site = asked(&mut client).await;
            }
            let refusal = Refusal::Budget(spent);
            context.log.refused(known.site.as_ref(), known.route, refusal);
            let _ = timeout(LINGER, client.write_all(refusal.answer().as_bytes())).await;
            return;
        }
    };
    let cut = match run(&context, &mut client, &mut known).await {
        Ok(()) => context.meter.tripped().map(Cut::silent),
        Err(cut) => Some(cut),
    };
    if let Some(Cut { refusal, answerable }) = cut {
        context.log.refused(known.site.as_ref(), known.route, refusal);
        if answerable {
            answer(&mut client, refusal).await;
        }
    }
}

/// Where a connection wants to go that is refused whatever it says. One socket too many ends nothing but itself, so whoever
/// judges the capture has to know whose it was; what it takes is bounded by the budget of requests and a moment each.
async fn asked(client: &mut TcpStream) -> Option<Site> {
    let head = read_head(client, &mut Vec::new(), LINGER).await.ok()??;
    Some(head.site().clone())
}

async fn run(context: &Context, client: &mut TcpStream, known: &mut Known) -> Result<(), Cut> {
    let mut rest = Vec::new();
    let Some(head) = read_head(client, &mut rest, context.timings.header).await? else {
        return Ok(());
    };
    let site = known.site.insert(head.site().clone());
    if let Head::Plain(request) = &head {
        single(request, &rest).map_err(Cut::answerable)?;
        if let Some(answer) = context
            .synthetic
            .as_ref()
            .and_then(|synthetic| synthetic.answer(request))
        {
            context.log.allowed(site, Route::default());
            let _ = timeout(context.timings.idle, send_all(client, &answer)).await;
            return Ok(());
        }
    }
    let way = context
        .decider
        .decide(site, &context.meter)
        .await
        .map_err(Cut::answerable)?;
    let upstream = open(context, way, &mut known.route).await.map_err(Cut::answerable)?;
    let route = known.route;
    let moved = Moved {
        log: &context.log,
        entry: Mutex::default(),
        bytes: AtomicU64::new(0),
    };
    let mut upstream = Metered::new(upstream, &context.meter, &moved.bytes);
    let admitted = || {
        let entry = context.log.allowed(site, route);
        *moved.entry.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
    };
    match &head {
        Head::Connect(_) => {
            let keys = context.decider.keys(&site.host);
            let named = keys.map(|keys| tls::named(context.tls.as_deref(), &site.host, keys));
            let tunnel = Tunnel {
                site,
                opening: rest,
                named,
                timings: &context.timings,
            };
            tunnel.serve(client, &mut upstream, admitted).await
        }
        Head::Plain(request) => {
            admitted();
            forward::exchange(client, &mut upstream, request, &rest, &context.timings).await
        }
    }
}

/// A connection along the way that was decided.
async fn open(context: &Context, way: Way, route: &mut Route) -> Result<Stream, Refusal> {
    let each = context.timings.connect;
    match way {
        Way::Direct(pinned) => {
            let (stream, to) = dial::first(&*context.dial, &pinned, each).await?;
            route.address = Some(to.address().ip());
            Ok(Either::Left(stream))
        }
        Way::Upstream(upstream, targets) => {
            route.via_upstream = true;
            let at = context.decider.upstream(&upstream).await?;
            let access = Arc::clone(&context.access.borrow());
            let opened = upstream::first(&*context.dial, &upstream, &at, &targets, &access, each).await;
            let (stream, address) = opened?;
            route.address = address;
            Ok(stream)
        }
    }
}

/// Writes what a connection has moved into its entry, however the connection ends.
struct Moved<'c> {
    log: &'c Log,
    entry: Mutex<Option<Entry>>,
    bytes: AtomicU64,
}

impl Drop for Moved<'_> {
    fn drop(&mut self) {
        let entry = self.entry.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = *entry {
            self.log.moved(entry, self.bytes.load(Ordering::Relaxed));
        }
    }
}

/// One connection carries one request, and nothing follows its body.
fn single(request: &Request, rest: &[u8]) -> Result<(), HeadError> {
    let most = if request.upgrade { 0 } else { request.length };
    if u64::try_from(rest.len()).unwrap_or(u64::MAX) > most {
        Err(HeadError::Pipelined)
    } else {
        Ok(())
    }
}

/// The head, leaving in `rest` what came with it; `None` if the browser closed without a word (a preconnect).
async fn read_head(client: &mut TcpStream, rest: &mut Vec<u8>, wait: Duration) -> Result<Option<Head>, Cut> {
    let mut end = HeadEnd::default();
    let parse = |bytes: &[u8]| if end.found(bytes) { head::parse(bytes) } else { Ok(None) };
    let read = timeout(wait, wire::read_until(client, rest, MAX_HEAD, parse)).await;
    let error = match read {
        Ok(Ok((head, used))) => {
            rest.drain(..used);
            return Ok(Some(head));
        }
        // A browser may open a connection ahead of need; only a head that was begun is cut short or late.
        Ok(Err(ReadError::Closed)) | Err(_) if rest.is_empty() => return Ok(None),
        Ok(Err(ReadError::Closed)) => HeadError::Malformed,
        Ok(Err(ReadError::TooLarge)) => HeadError::TooLarge,
        Ok(Err(ReadError::Parse(error))) => error,
        Err(_) => HeadError::Slow,
    };
    Err(Cut::answerable(error))
}

async fn send_all(client: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    client.write_all(bytes).await?;
    client.shutdown().await
}

async fn answer(client: &mut TcpStream, refusal: Refusal) {
    let told = async {
        send_all(client, refusal.answer().as_bytes()).await?;
        tokio::io::copy(&mut client.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The browser may be gone already; the log has it all the same.
    let _ = timeout(LINGER, told).await;
}
