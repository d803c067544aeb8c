//! The wire: frames in, frames out. CDP over a pipe is JSON objects, each ended by a NUL byte.
//!
//! In: an owned pipe end. Out: one frame at a time, bounded in length. Must not: know what a frame means.
//! The two traits exist so that the client can be tested on a transcript instead of a browser.

use std::future::Future;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// Bytes read from the pipe in one go.
const CHUNK: usize = 64 * 1024;

/// What the wire itself can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame is longer than the limit.
    #[error("frame longer than the limit")]
    TooLong,
    /// The pipe failed, or ended inside a frame.
    #[error("the pipe failed")]
    Io,
}

/// The reading half. `Ok(None)` is a clean end.
pub trait FrameSource: Send + 'static {
    /// The next whole frame without its terminator.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, WireError>> + Send;
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
        })
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer[self.scanned..]
            .iter()
            .position(|b| *b == 0)
            .map(|at| at + self.scanned);
        let Some(end) = end else {
            self.scanned = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(end + 1);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.truncate(end);
        self.scanned = 0;
        Some(frame)
    }
}

impl FrameSource for PipeSource {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        loop {
            if let Some(frame) = self.take_frame() {
                return if frame.len() > self.max_frame {
                    Err(WireError::TooLong)
                } else {
                    Ok(Some(frame))
                };
            }
            if self.buffer.len() > self.max_frame {
                return Err(WireError::TooLong);
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

    #[tokio::test]
    async fn frames_are_split_at_nul_wherever_the_reads_fall() {
        let (mut source, mut write) = source(100);
        write.write_all(b"one\0tw").unwrap();
        assert_eq!(source.next().await, Ok(Some(b"one".to_vec())));
        write.write_all(b"o\0three\0").unwrap();
        drop(write);
        assert_eq!(source.next().await, Ok(Some(b"two".to_vec())));
        assert_eq!(source.next().await, Ok(Some(b"three".to_vec())));
        assert_eq!(source.next().await, Ok(None));
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_is_refused_before_it_is_whole() {
        let (mut source, mut write) = source(8);
        write.write_all(&[b'x'; 64]).unwrap();
        assert_eq!(source.next().await, Err(WireError::TooLong));
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_a_failure() {
        let (mut source, mut write) = source(100);
        write.write_all(b"half").unwrap();
        drop(write);
        assert_eq!(source.next().await, Err(WireError::Io));
    }

    #[tokio::test]
    async fn a_sent_frame_arrives_with_its_terminator() {
        let (read, write) = std::io::pipe().unwrap();
        let mut sink = PipeSink::new(write.into()).unwrap();
        sink.send(b"{}".to_vec()).await.unwrap();
        let mut source = PipeSource::new(read.into(), 10).unwrap();
        assert_eq!(source.next().await, Ok(Some(b"{}".to_vec())));
    }
}
