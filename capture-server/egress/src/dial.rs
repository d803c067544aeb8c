//! Connections to the outside.
//!
//! In: a [`Pinned`] destination, which only the egress decision can make. Out: a connection to exactly that
//! address. It must not resolve names and has no way to be given one.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::Instant;

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

/// Tries the pinned destinations one after the other: `each` bounds one attempt, twice that all of them.
pub(crate) async fn first(
    dial: &dyn Dial,
    pinned: Vec<Pinned>,
    each: Duration,
) -> Result<(TcpStream, Pinned), ConnectError> {
    let end = Instant::now() + each * 2;
    let mut last = ConnectError::Failed;
    for to in pinned {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        last = match tokio::time::timeout(each.min(left), dial.connect(to)).await {
            Ok(Ok(stream)) => return Ok((stream, to)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            Ok(Err(_)) => ConnectError::Failed,
            Err(_) => ConnectError::Timeout,
        };
    }
    Err(last)
}
