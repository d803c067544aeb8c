//! TLS servers whose certificates nobody vouches for, and browsers that take them all the same.
//!
//! In: a key. Out: a server on loopback with a certificate of it; a jailer's socket behind which every browser is told to
//! take certificates of it. The product tells browsers of no key but its proxy's: the relay is the tests' own.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use capture_jail::protocol::{Call, MAX_CONTEXTS, MAX_FRAME, Request, read_frame, write_frame};
use rcgen::KeyPair;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustls::{ALL_VERSIONS, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::harness::Site;
use crate::{self_signed, web};

const MAX_FDS: usize = MAX_CONTEXTS as usize + 2;

pub const EVERY_VERSION: &[&SupportedProtocolVersion] = ALL_VERSIONS;

/// Starts a server with a certificate of this key, and gives each connection to `serve`.
pub async fn serve<F>(
    pair: &KeyPair,
    versions: &[&'static SupportedProtocolVersion],
    serve: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = io::Result<String>> + Send,
{
    let config = self_signed::config(pair, "good.net", versions);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    drop(serve(stream).await);
                }
            });
        }
    });
    address
}

/// The same with the answers of a table.
pub async fn answering(pair: &KeyPair, answers: web::Answer) -> SocketAddr {
    serve(pair, EVERY_VERSION, move |stream| web::answer(stream, answers)).await
}

/// A socket that leads to the site's jailer, and has it tell browsers of `key` in place of whatever was asked for.
pub fn relay(site: &Site, key: [u8; 32]) -> PathBuf {
    let (path, jailer) = (site.path("run/relay.sock"), site.path("run/jailer.sock"));
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        while let Ok((server, _)) = listener.accept() {
            // The jailer may not be there yet: the server comes again.
            let Ok(jailer) = UnixStream::connect(&jailer) else {
                continue;
            };
            let (asking, asked) = (server.try_clone().unwrap(), jailer.try_clone().unwrap());
            std::thread::spawn(move || {
                drop(questions(&asking, &asked, key));
                drop(asked.shutdown(Shutdown::Both));
            });
            std::thread::spawn(move || {
                drop(answers(&jailer, &server));
                drop(server.shutdown(Shutdown::Both));
            });
        }
    });
    path
}

fn questions(mut server: &UnixStream, mut jailer: &UnixStream, key: [u8; 32]) -> io::Result<()> {
    loop {
        let mut request: Request = read_frame(&mut server)?;
        if let Call::Spawn(spec) = &mut request.call {
            spec.accepted_key = Some(key);
        }
        write_frame(&mut jailer, &request)?;
    }
}

/// Passes bytes on with the descriptors beside them.
fn answers(jailer: &UnixStream, server: &UnixStream) -> io::Result<()> {
    let mut bytes = vec![0; MAX_FRAME];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let count = recvmsg(jailer, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if count == 0 {
            return Ok(());
        }
        let descriptors: Vec<OwnedFd> = beside
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(|one| one.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(borrowed.is_empty() || beside.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let sent = sendmsg(
            server,
            &[IoSlice::new(&bytes[..count])],
            &mut beside,
            SendFlags::NOSIGNAL,
        )?;
        assert_eq!(sent, count, "small frames go whole");
    }
}
