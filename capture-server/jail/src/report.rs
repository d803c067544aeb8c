//! What a cloned child tells the jailer before the browser takes over.
//!
//! In and out: one JSON object per packet of a SOCK_SEQPACKET pair; the listening sockets beside the first.
//! The channel closes at exec: an end of file after `Confined` means that the browser runs. It must not carry text.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::facts::{LandlockFacts, SecretFacts};
use crate::protocol::{JailError, MAX_CONTEXTS};

/// One listener a context, and the socket that asks what answers in there.
const MAX_FDS: usize = MAX_CONTEXTS as usize + 1;

/// One step of the child.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The listening sockets are beside this packet, and after them one for [`crate::inside::ports`].
    Listening(Vec<u16>),
    /// Everything is in place; exec is next.
    Confined(LandlockFacts, SecretFacts),
    /// It ends here.
    Failed(JailError),
}

/// Both ends, close-on-exec: the jailer's, the child's.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one packet.
pub fn send(channel: &OwnedFd, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(report)?;
    send_with_fds(channel, &bytes, fds).map(drop)
}

/// Sends bytes with descriptors beside them; says how many bytes went.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

/// Waits for one packet; `None` at the end of file.
///
/// # Errors
/// `TimedOut`; the socket's; a packet that is not a report.
pub fn receive(channel: &OwnedFd, timeout: Timespec) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    let mut ready = [PollFd::new(channel, PollFlags::IN)];
    if poll(&mut ready, Some(&timeout))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        channel,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?
    .bytes;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..received])?, fds)))
}
