//! Connections to the outside.
//!
//! In: a [`Pinned`] destination, which only the egress decision can make. Out: a connection to exactly that
//! address. It must not resolve names and has no way to be given one.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::decide::Pinned;

/// Why no checked address was connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Refused by the target.
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("connection timed out")]
    Timeout,
    /// Anything else, such as no route.
    #[error("connection failed")]
    Failed,
}

impl ConnectError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused => "connect_refused",
            Self::Timeout => "connect_timeout",
            Self::Failed => "connect_failed",
        }
    }
}

/// Opens connections.
pub trait Dial: Send + Sync {
    /// A connection to the pinned address, nothing else.
    fn connect(&self, to: Pinned) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// Dials over the pod's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDial;

impl Dial for SystemDial {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one connection of the server to a place that a page named: it takes a checked address"
    )]
    fn connect(&self, to: Pinned) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to.address()).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

/// The time that attempts at one connection may take: `each` bounds one of them, twice that all of them.
pub(crate) struct Attempts {
    each: Duration,
    end: Instant,
}

impl Attempts {
    pub(crate) fn of(each: Duration) -> Self {
        let end = Instant::now() + each * 2;
        Self { each, end }
    }

    /// What came of one attempt, `None` if nothing did in its time; `Break` if there is no time left for any.
    pub(crate) async fn one<T>(&self, attempt: impl Future<Output = T>) -> ControlFlow<(), Option<T>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(timeout(self.each.min(left), attempt).await.ok())
    }
}

/// Tries the pinned destinations one after the other, in the time of [`Attempts`].
pub(crate) async fn first(
    dial: &dyn Dial,
    pinned: &[Pinned],
    each: Duration,
) -> Result<(TcpStream, Pinned), ConnectError> {
    let attempts = Attempts::of(each);
    let mut last = ConnectError::Failed;
    for to in pinned {
        let ControlFlow::Continue(attempt) = attempts.one(dial.connect(*to)).await else {
            break;
        };
        last = match attempt {
            Some(Ok(stream)) => return Ok((stream, *to)),
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            Some(Err(_)) => ConnectError::Failed,
            None => ConnectError::Timeout,
        };
    }
    Err(last)
}
