//! One listener: how many connections, how long a head may take to arrive, how long an answer may wait to be read.
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
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After a failed accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at one time; more wait in the kernel's backlog.
    pub connections: usize,
    /// From the first byte awaited to the end of a head; also how long a connection may be idle.
    pub head: Duration,
    /// While the peer takes nothing of an answer.
    pub stall: Duration,
}

impl Bounds {
    /// For the outside.
    pub const API: Self = Self {
        connections: 1024,
        head: Duration::from_secs(10),
        stall: Duration::from_secs(30),
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
    let stream = TokioIo::new(Unstalled::new(stream, bounds.stall));
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

/// A stream whose writes fail when the peer has taken nothing for a while.
struct Unstalled {
    stream: TcpStream,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Unstalled {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            waiting: None,
        }
    }

    /// Passes progress on and bounds the lack of it.
    fn bound<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.waiting = None;
            return write;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
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
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const SHORT: Bounds = Bounds {
        connections: 2,
        head: Duration::from_millis(200),
        stall: Duration::from_millis(200),
    };

    async fn start() -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route(
                "/slow",
                get(async || {
                    sleep(Duration::from_millis(300)).await;
                    "done"
                }),
            )
            .route("/large", get(async || vec![0_u8; 32 << 20]));
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, stop.clone(), SHORT));
        (address, stop, served)
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
        let (address, _stop, _) = start().await;
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
        let (address, _stop, _) = start().await;
        let (one, two) = (ask(address, "/slow").await, ask(address, "/slow").await);
        let mut third = ask(address, "/").await;
        let mut byte = [0; 1];
        let early = tokio::time::timeout(Duration::from_millis(100), third.read(&mut byte)).await;
        assert!(early.is_err(), "served beside two others");
        assert!(rest(third).await.ends_with(b"hello"));
        drop((one, two));
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_of_its_answer_loses_its_connection() {
        let (address, _stop, _) = start().await;
        let stalled = ask(address, "/large").await;
        sleep(Duration::from_millis(800)).await;
        assert!(rest(stalled).await.len() < 32 << 20);
    }

    #[tokio::test]
    async fn what_is_in_hand_at_the_stop_is_finished() {
        let (address, stop, served) = start().await;
        let slow = ask(address, "/slow").await;
        sleep(Duration::from_millis(100)).await;
        stop.cancel();
        assert!(rest(slow).await.ends_with(b"done"));
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
