//! The wire: frames in, frames out. CDP over a pipe is JSON objects, each ended by a NUL byte.
//!
//! In: an owned pipe end. Out: one frame at a time, bounded in length; of a longer one only its two ends, so that it
//! takes no more memory however long it is. Must not: know what a frame means.
//! The two traits exist so that the client can be tested on a transcript instead of a browser.

use std::future::Future;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// Bytes read from the pipe in one go.
const CHUNK: usize = 64 * 1024;
/// Bytes that are kept of either end of a frame that is too long: enough for an answer's id and for a session.
const EDGE: usize = 128;

/// What the wire itself can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The pipe failed, or ended inside a frame.
    #[error("the pipe failed")]
    Io,
}

/// What is read of a frame, without its terminator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// All of it.
    Whole(Vec<u8>),
    /// It is longer than the limit; all but its ends was thrown away as it came.
    Oversized {
        /// Its first bytes.
        head: Vec<u8>,
        /// Its last bytes.
        tail: Vec<u8>,
    },
}

/// The reading half. `Ok(None)` is a clean end.
pub trait FrameSource: Send + 'static {
    /// The next frame.
    fn next(&mut self) -> impl Future<Output = Result<Option<Frame>, WireError>> + Send;
}

/// The writing half.
pub trait FrameSink: Send + 'static {
    /// Writes one frame and its terminator.
    fn send(&mut self, frame: Vec<u8>) -> impl Future<Output = Result<(), WireError>> + Send;
}

/// Frames read from a pipe.
pub struct PipeSource {
    pipe: pipe::Receiver,
    buffer: Vec<u8>,
    /// Everything before this index is known to hold no terminator.
    scanned: usize,
    max_frame: usize,
    /// The first bytes of a frame that was found too long before its end; the buffer holds the last ones so far.
    skipped: Option<Vec<u8>>,
}

fn first(frame: &[u8]) -> Vec<u8> {
    frame[..frame.len().min(EDGE)].to_vec()
}

fn last(frame: &[u8]) -> Vec<u8> {
    frame[frame.len().saturating_sub(EDGE)..].to_vec()
}

impl PipeSource {
    /// Takes the reading end; `max_frame` is in bytes, without the terminator.
    pub fn new(fd: OwnedFd, max_frame: usize) -> std::io::Result<Self> {
        let pipe = pipe::Receiver::from_owned_fd(fd)?;
        Ok(Self {
            pipe,
            buffer: Vec::new(),
            scanned: 0,
            max_frame,
            skipped: None,
        })
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let end = self.buffer[self.scanned..]
            .iter()
            .position(|b| *b == 0)
            .map(|at| at + self.scanned);
        let Some(end) = end else {
            if self.skipped.is_some() || self.buffer.len() > self.max_frame {
                self.skip();
            }
            self.scanned = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(end + 1);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.truncate(end);
        self.scanned = 0;
        let head = match self.skipped.take() {
            Some(head) => head,
            None if frame.len() > self.max_frame => first(&frame),
            None => return Some(Frame::Whole(frame)),
        };
        let tail = last(&frame);
        Some(Frame::Oversized { head, tail })
    }

    /// Frees what is there of a frame that is too long, but for its ends.
    fn skip(&mut self) {
        if self.skipped.is_none() {
            self.skipped = Some(first(&self.buffer));
        }
        self.buffer = last(&self.buffer);
    }
}

impl FrameSource for PipeSource {
    async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(Some(frame));
            }
            self.buffer.reserve(CHUNK);
            match self.pipe.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(WireError::Io),
                Ok(_) => {}
            }
        }
    }
}

/// Frames written to a pipe.
pub struct PipeSink {
    pipe: pipe::Sender,
}

impl PipeSink {
    /// Takes the writing end.
    pub fn new(fd: OwnedFd) -> std::io::Result<Self> {
        Ok(Self {
            pipe: pipe::Sender::from_owned_fd(fd)?,
        })
    }
}

impl FrameSink for PipeSink {
    async fn send(&mut self, mut frame: Vec<u8>) -> Result<(), WireError> {
        frame.push(0);
        self.pipe.write_all(&frame).await.map_err(|_| WireError::Io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn source(max: usize) -> (PipeSource, std::io::PipeWriter) {
        let (read, write) = std::io::pipe().unwrap();
        (PipeSource::new(read.into(), max).unwrap(), write)
    }

    fn whole(frame: &[u8]) -> Frame {
        Frame::Whole(frame.to_vec())
    }

    #[tokio::test]
    async fn frames_are_split_at_nul_wherever_the_reads_fall() {
        let (mut source, mut write) = source(100);
        write.write_all(b"one\0tw").unwrap();
        assert_eq!(source.next().await, Ok(Some(whole(b"one"))));
        write.write_all(b"o\0three\0").unwrap();
        drop(write);
        assert_eq!(source.next().await, Ok(Some(whole(b"two"))));
        assert_eq!(source.next().await, Ok(Some(whole(b"three"))));
        assert_eq!(source.next().await, Ok(None));
    }

    #[tokio::test]
    async fn of_a_frame_over_the_limit_the_ends_are_kept_and_the_next_one_is_read() {
        let (mut source, mut write) = source(8);
        write.write_all(b"12345678\0").unwrap();
        assert_eq!(source.next().await, Ok(Some(whole(b"12345678"))));
        let long: Vec<u8> = (1..=200).collect();
        write.write_all(&long).unwrap();
        write.write_all(b"\0next\0").unwrap();
        let oversized = Frame::Oversized {
            head: long[..EDGE].to_vec(),
            tail: long[200 - EDGE..].to_vec(),
        };
        assert_eq!(source.next().await, Ok(Some(oversized)));
        assert_eq!(source.next().await, Ok(Some(whole(b"next"))));
        drop(write);
        assert_eq!(source.next().await, Ok(None));
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_takes_no_more_memory_however_long_it_is() {
        let (mut source, mut write) = source(2 * CHUNK);
        let begun = tokio::task::spawn_blocking(move || {
            write.write_all(b"{\"id\":7,").unwrap();
            write.write_all(&vec![b'x'; 8 << 20]).unwrap();
            write
        });
        let mut write = tokio::select! {
            biased;
            frame = source.next() => panic!("it has no end yet: {frame:?}"),
            write = begun => write.unwrap(),
        };
        // All of it is read but for what the pipe holds, at most a chunk.
        assert!(source.buffer.capacity() < 2 * CHUNK, "{}", source.buffer.capacity());
        let ended = tokio::task::spawn_blocking(move || {
            write.write_all(&[b'y'; EDGE]).unwrap();
            write.write_all(b"\0next\0").unwrap();
        });
        let Ok(Some(Frame::Oversized { head, tail })) = source.next().await else {
            panic!("it is too long")
        };
        assert!(head.starts_with(b"{\"id\":7,xxx") && head.len() == EDGE);
        assert_eq!(tail, [b'y'; EDGE]);
        assert_eq!(source.next().await, Ok(Some(whole(b"next"))));
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_a_failure_however_long_the_frame_is() {
        for max in [100, 2] {
            let (mut source, mut write) = source(max);
            write.write_all(b"half").unwrap();
            drop(write);
            assert_eq!(source.next().await, Err(WireError::Io));
        }
    }

    #[tokio::test]
    async fn a_sent_frame_arrives_with_its_terminator() {
        let (read, write) = std::io::pipe().unwrap();
        let mut sink = PipeSink::new(write.into()).unwrap();
        sink.send(b"{}".to_vec()).await.unwrap();
        let mut source = PipeSource::new(read.into(), 10).unwrap();
        assert_eq!(source.next().await, Ok(Some(whole(b"{}"))));
    }
}
