//! One listener: how many connections, how long a head may take to arrive, how slowly an answer may be read.
//!
//! In: a bound listener and a router. Out: served connections until `stop`, then those in hand to their end. A peer that
//! sends or reads slowly loses its connection, not the server. Must not: look into a request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;

/// After a failed accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at one time; more wait in the kernel's backlog.
    pub connections: usize,
    /// From the first byte awaited to the end of a head; also how long a connection may be idle.
    pub head: Duration,
    /// How long is waited for a peer that takes nothing of its answer.
    pub stall: Duration,
    /// Bytes a second; one that takes less for long is waited for no longer.
    pub pace: u64,
}

impl Bounds {
    /// For the outside.
    pub const API: Self = Self {
        connections: 1024,
        head: Duration::from_secs(10),
        stall: Duration::from_secs(30),
        // A sixth of a slow mobile link, over which several answers may come at once.
        pace: 8 << 10,
    };
    /// For the operator, the kubelet and the scraper.
    pub const INTERNAL: Self = Self {
        connections: 64,
        ..Self::API
    };
}

/// Serves until `stop`; returns when the last connection has ended.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, router, stop, bounds).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(kind = ?error.kind(), "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // An answer goes out in few writes; waiting to fill packets would only delay it.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken, bounds: Bounds) {
    let stream = TokioIo::new(Unstalled::new(stream, bounds));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(served);
    // A peer that breaks HTTP, stalls or hangs up ends its own connection; that is no event of ours.
    tokio::select! {
        _ = served.as_mut() => {}
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// How long a peer is still waited for. Waiting uses it up, and each byte that is taken buys some of it back: a peer
/// with the pace has as much at the end as it had at first, and one that trickles has less with all that it takes.
struct Patience {
    left: Duration,
    bounds: Bounds,
}

impl Patience {
    fn new(bounds: Bounds) -> Self {
        Self {
            left: bounds.stall,
            bounds,
        }
    }

    /// The peer took so many bytes after it was waited for so long.
    fn taken(&mut self, bytes: usize, waited: Duration) {
        let micros = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let bought = Duration::from_micros(micros / self.bounds.pace.max(1));
        let left = self.left.saturating_sub(waited).saturating_add(bought);
        self.left = left.min(self.bounds.stall);
    }
}

/// A stream whose writes fail when there is no more patience with the peer.
struct Unstalled {
    stream: TcpStream,
    patience: Patience,
    /// Since when a write waits, and the end of the patience.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Unstalled {
    fn new(stream: TcpStream, bounds: Bounds) -> Self {
        Self {
            stream,
            patience: Patience::new(bounds),
            waiting: None,
        }
    }

    /// Passes progress on and bounds the lack of it.
    fn bound(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write {
            let since = self.waiting.take().map(|(since, _)| since);
            let waited = since.map_or(Duration::ZERO, |since| {
                clock::monotonic().saturating_duration_since(since)
            });
            self.patience.taken(*written.as_ref().unwrap_or(&0), waited);
            return Poll::Ready(written);
        }
        let left = self.patience.left;
        let (_, end) = self
            .waiting
            .get_or_insert_with(|| (clock::monotonic(), Box::pin(sleep(left))));
        ready!(end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Unstalled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unstalled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bound(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bound(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a server and its callers on loopback")]
mod tests {
    use super::*;
    use crate::capture::{CaptureError, Phase};
    use crate::http::problem::Failure;
    use crate::limits::answers::Answers;
    use axum::body::Body;
    use axum::extract::Path;
    use axum::response::Response;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Bytes of a large answer: far more than the kernel takes off the server's hands.
    const LARGE: usize = 32 << 20;
    const SHORT: Bounds = Bounds {
        connections: 2,
        head: Duration::from_millis(200),
        stall: Duration::from_millis(200),
        pace: 1,
    };

    /// Holds whoever asks for `/slow`.
    struct Gate {
        /// One for each that was held.
        held: Semaphore,
        /// One for each that may go on.
        open: Semaphore,
    }

    impl Gate {
        async fn pass(&self) -> &'static str {
            self.held.add_permits(1);
            self.open.acquire().await.unwrap().forget();
            "done"
        }

        /// Waits until it holds so many, within five seconds.
        async fn holds(&self, many: u32) {
            let held = tokio::time::timeout(Duration::from_secs(5), self.held.acquire_many(many)).await;
            held.expect("not asked").unwrap().forget();
        }
    }

    async fn start() -> (
        std::net::SocketAddr,
        CancellationToken,
        tokio::task::JoinHandle<()>,
        Arc<Gate>,
    ) {
        let gate = Arc::new(Gate {
            held: Semaphore::new(0),
            open: Semaphore::new(0),
        });
        let slow = Arc::clone(&gate);
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route(
                "/slow",
                get(move || {
                    let gate = Arc::clone(&slow);
                    async move { gate.pass().await }
                }),
            )
            .merge(large());
        let stop = CancellationToken::new();
        let (address, served) = start_with(router, stop.clone(), SHORT).await;
        (address, stop, served, gate)
    }

    fn large() -> Router {
        Router::new().route("/large", get(async || vec![0_u8; LARGE]))
    }

    async fn start_with(
        router: Router,
        stop: CancellationToken,
        bounds: Bounds,
    ) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(serve(listener, router, stop, bounds)))
    }

    async fn ask(address: std::net::SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Everything until the server ends the connection, within five seconds.
    async fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut all = Vec::new();
        let read = stream.read_to_end(&mut all);
        let _ = tokio::time::timeout(Duration::from_secs(5), read)
            .await
            .expect("not ended");
        all
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_loses_its_connection() {
        let (address, _stop, ..) = start().await;
        for sent in ["", "GET / HTTP/1.1\r\nx: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            assert!(
                !String::from_utf8_lossy(&rest(stream).await).contains("hello"),
                "{sent}"
            );
        }
    }

    #[tokio::test]
    async fn no_more_connections_than_allowed_and_the_next_is_served_when_one_ends() {
        let (address, _stop, _, gate) = start().await;
        let (one, two) = (ask(address, "/slow").await, ask(address, "/slow").await);
        gate.holds(2).await;
        let mut third = ask(address, "/").await;
        let mut byte = [0; 1];
        let early = tokio::time::timeout(Duration::from_millis(100), third.read(&mut byte)).await;
        assert!(early.is_err(), "served beside two others");
        gate.open.add_permits(1);
        assert!(rest(third).await.ends_with(b"hello"));
        drop((one, two));
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_of_its_answer_loses_its_connection() {
        let (address, _stop, ..) = start().await;
        let stalled = ask(address, "/large").await;
        sleep(Duration::from_millis(800)).await;
        assert!(rest(stalled).await.len() < LARGE);
    }

    /// Whether a peer that takes so many bytes every so often gets the longest answer that there can be.
    fn is_waited_for(bytes: usize, every: Duration) -> bool {
        let mut patience = Patience::new(Bounds::API);
        let mut answer: usize = 128 << 20;
        while answer > 0 && patience.left > every {
            patience.taken(bytes, every);
            answer = answer.saturating_sub(bytes);
        }
        answer == 0
    }

    #[test]
    fn a_slow_peer_is_waited_for_and_one_that_trickles_is_not() {
        let (moment, long) = (Duration::from_millis(100), Duration::from_secs(28));
        // A mobile link of 50 kB a second, evenly or in the gulps of a full send buffer; six answers over it at once.
        for (bytes, every) in [(5_000, moment), (1_400_000, long), (833, moment)] {
            assert!(is_waited_for(bytes, every), "{bytes} in {every:?}");
        }
        for (bytes, every) in [(0, moment), (1_448, long), (64 << 10, long), (500, moment)] {
            assert!(!is_waited_for(bytes, every), "{bytes} in {every:?}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_takes_a_little_of_its_answer_now_and_then_loses_its_connection() {
        let bounds = Bounds {
            stall: Duration::from_secs(1),
            pace: 64 << 20,
            ..SHORT
        };
        let (address, _served) = start_with(large(), CancellationToken::new(), bounds).await;
        let mut trickling = ask(address, "/large").await;
        let (mut little, mut taken) = (vec![0_u8; 256 << 10], 0);
        // In six seconds it would have all of it, and it never takes nothing for one.
        while let Ok(bytes @ 1..) = trickling.read(&mut little).await {
            taken += bytes;
            sleep(Duration::from_millis(50)).await;
        }
        assert!(taken < LARGE, "{taken}");
    }

    /// Waits until it holds, for five seconds at most.
    async fn until(holds: impl Fn() -> bool) {
        let polled = async {
            while !holds() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let held = tokio::time::timeout(Duration::from_secs(5), polled).await;
        held.expect("not in time");
    }

    #[tokio::test]
    async fn what_is_not_read_takes_its_clients_room_until_it_is_read_or_its_connection_ends() {
        let answers = Arc::new(Answers::of(4 * LARGE as u64));
        let shared = Arc::clone(&answers);
        let picture = move |Path(client): Path<String>| {
            let answers = Arc::clone(&shared);
            async move {
                let soon = clock::monotonic() + Duration::from_millis(300);
                answers.in_time(&client, LARGE, soon).await.map_or_else(
                    || Failure::from(CaptureError::Timeout(Phase::Queue)).response("id"),
                    |room| Response::new(Body::from(room.hold(vec![0_u8; LARGE].into()))),
                )
            }
        };
        let router = Router::new().route("/{client}", get(picture));
        let (address, _served) = start_with(router, CancellationToken::new(), Bounds::API).await;
        let (first, second) = (ask(address, "/a").await, ask(address, "/a").await);
        until(|| answers.at_once("a", 1).is_none()).await;
        let refused = rest(ask(address, "/a").await).await;
        let refused = String::from_utf8_lossy(&refused);
        assert!(refused.starts_with("HTTP/1.1 504 "), "{refused}");
        assert!(refused.contains("problems/timeout\""), "{refused}");
        // Another client reads what it asks for.
        assert!(rest(ask(address, "/b").await).await.len() > LARGE);
        assert!(rest(first).await.len() > LARGE);
        assert!(rest(ask(address, "/a").await).await.len() > LARGE);
        drop(second);
        until(|| answers.at_once("a", 2 * LARGE).is_some()).await;
    }

    #[tokio::test]
    async fn what_is_in_hand_at_the_stop_is_finished() {
        let (address, stop, served, gate) = start().await;
        let slow = ask(address, "/slow").await;
        gate.holds(1).await;
        stop.cancel();
        // For longer than a head may take to come, or an answer to be read.
        sleep(Duration::from_millis(300)).await;
        assert!(!served.is_finished());
        gate.open.add_permits(1);
        assert!(rest(slow).await.ends_with(b"done"));
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
