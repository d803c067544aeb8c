//! Moving bytes: bounded reads of heads, copies with an end, and splices that end when both sides fall silent.
//!
//! In: streams and bounds. Out: what a parser made of the first bytes, or copied bytes.
//! It must not know what the bytes mean.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::Timings;
use crate::budget::Spent;
use crate::response::ResponseError;

/// Bytes moved in one go: what a socket on the same machine hands over at once. Every piece wakes the browser up.
const CHUNK: usize = 64 * 1024;
/// Bytes of a head that are read in one go. Most answers fit whole, and then go out whole.
const HEAD_CHUNK: usize = 16 * 1024;

/// Why the first bytes came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError<E> {
    /// The parser refused them.
    Parse(E),
    /// The bound was reached before the parser was content.
    TooLarge,
    /// The peer closed, or the stream failed.
    Closed,
}

/// Reads into `buf`, at most up to `limit` bytes in it, until `parse` is content.
pub(crate) async fn read_until<R, T, E>(
    reader: &mut R,
    buf: &mut Vec<u8>,
    limit: usize,
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, E>,
) -> Result<T, ReadError<E>>
where
    R: AsyncRead + Unpin,
{
    loop {
        if let Some(parsed) = parse(buf).map_err(ReadError::Parse)? {
            return Ok(parsed);
        }
        let room = limit.saturating_sub(buf.len()).min(HEAD_CHUNK);
        if room == 0 {
            return Err(ReadError::TooLarge);
        }
        buf.reserve(room);
        if !matches!(reader.read_buf(&mut (&mut *buf).limit(room)).await, Ok(1..)) {
            return Err(ReadError::Closed);
        }
    }
}

/// Finds the empty line that ends a head, looking at every byte once however slowly they come.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    seen: usize,
}

impl HeadEnd {
    pub(crate) fn found(&mut self, bytes: &[u8]) -> bool {
        let fresh = bytes.get(self.seen.saturating_sub(3)..).unwrap_or_default();
        self.seen = bytes.len();
        fresh.windows(4).any(|window| window == b"\r\n\r\n")
    }
}

/// When bytes last moved.
#[derive(Debug)]
pub(crate) struct Activity {
    last: Mutex<Instant>,
    hurried: Notify,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            hurried: Notify::new(),
        }
    }

    pub(crate) fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The patience is less from now on.
    pub(crate) fn hurry(&self) {
        self.hurried.notify_one();
    }

    /// Resolves when nothing has moved for as long as `patience` says.
    pub(crate) async fn quiet(&self, patience: impl Fn() -> Duration) {
        loop {
            let end = *self.last.lock().unwrap_or_else(PoisonError::into_inner) + patience();
            if end <= Instant::now() {
                return;
            }
            let _ = timeout_at(end, self.hurried.notified()).await;
        }
    }
}

/// Copies at most `most` bytes; returns how many are still missing when the source ends. `moved` is called whenever bytes
/// have moved.
pub(crate) async fn pump<R, W>(from: &mut R, to: &mut W, moved: impl Fn(), most: u64) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = Vec::with_capacity(usize::try_from(most).unwrap_or(CHUNK).min(CHUNK));
    let mut left = most;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
        chunk.clear();
        let count = from.read_buf(&mut (&mut chunk).limit(want)).await?;
        if count == 0 {
            break;
        }
        moved();
        to.write_all(&chunk).await?;
        // A TCP stream keeps nothing back; one over TLS may.
        to.flush().await?;
        moved();
        left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
    }
    to.flush().await?;
    Ok(left)
}

/// How far browser and target have come when their streams are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The target was not asked anything yet.
    Open,
    /// It was asked and has not said a word.
    Asked,
    /// It has answered.
    Answered,
}

/// Copies both ways until both ends have closed, one fails, or nothing has moved for too long: a target that was asked has
/// `first_byte` for its first word, everything else `idle`.
///
/// # Errors
/// The target never said a word.
pub(crate) async fn splice<A, B>(
    browser: &mut A,
    target: &mut B,
    timings: &Timings,
    stage: Stage,
) -> Result<(), ResponseError>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::new();
    let asked = AtomicBool::new(stage >= Stage::Asked);
    let answered = AtomicBool::new(stage == Stage::Answered);
    let awaited = || asked.load(Ordering::Relaxed) && !answered.load(Ordering::Relaxed);
    // The patience is another one then.
    let moved = |first: &AtomicBool| {
        activity.touch();
        if !first.swap(true, Ordering::Relaxed) {
            activity.hurry();
        }
    };
    let (mut browser_read, mut browser_write) = tokio::io::split(browser);
    let (mut target_read, mut target_write) = tokio::io::split(target);
    let there = async {
        pump(&mut browser_read, &mut target_write, || moved(&asked), u64::MAX).await?;
        target_write.shutdown().await
    };
    let back = async {
        pump(&mut target_read, &mut browser_write, || moved(&answered), u64::MAX).await?;
        browser_write.shutdown().await
    };
    tokio::select! {
        // How a connection ends is the ends' affair; a spent budget shows in the meter.
        _ = async { tokio::try_join!(there, back) } => Ok(()),
        () = activity.quiet(|| if awaited() { timings.first_byte } else { timings.idle }) => {
            if awaited() { Err(ResponseError::Timeout) } else { Ok(()) }
        }
    }
}

/// The budget whose end made a stream fail, if that was it.
pub(crate) fn spent(error: &io::Error) -> Option<Spent> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Spent>()).copied()
}

#[cfg(test)]
mod tests {
    use tokio::io::BufWriter;

    use super::*;

    #[tokio::test]
    async fn what_is_pumped_goes_out_at_once_also_through_a_stream_that_keeps_bytes_back() {
        let ((mut source, mut from), (to, mut sink)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let mut to = BufWriter::new(to);
        let seen = async {
            source.write_all(b"hello").await.unwrap();
            let mut got = [0; 5];
            sink.read_exact(&mut got).await.unwrap();
            got
        };
        tokio::select! {
            _ = pump(&mut from, &mut to, || (), u64::MAX) => panic!("the source has not ended"),
            got = tokio::time::timeout(Duration::from_secs(5), seen) => assert_eq!(got.unwrap(), *b"hello"),
        }
    }
}
