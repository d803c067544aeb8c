//! A web of two names: a server on loopback that gives the answers of a table, and names that lead nowhere.
//!
//! In: connections of the product's proxy, which has judged them as it judges any other. Nothing leaves the machine: the
//! names' addresses are never dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use capture_egress::{Answers, Dial, Pinned, ResolveError, Resolver};
use capture_server::service::Network;
use screenshot_policy::host::HostName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Public addresses. They are judged, not dialled.
pub const HERE: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);
const DEAD: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 15);

pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the server says to a path: the head without its end, and the body. An empty head: nothing, ever. `None`: what it
/// says to everything else.
pub type Answer = fn(&str) -> Option<(String, Vec<u8>)>;

/// The status of a WebSocket, whose body is a [`message`]: it is sent twenty times a second.
pub const SOCKET: &str = "101 Switching Protocols";

/// A text message of so many bytes, as it is on the wire.
pub fn message(bytes: usize) -> Vec<u8> {
    let length = u64::try_from(bytes).unwrap().to_be_bytes();
    [&[0x81, 127], length.as_slice(), vec![b'x'; bytes].as_slice()].concat()
}

async fn socket(mut stream: impl AsyncWrite + Unpin, head: &str, message: &[u8]) -> io::Result<()> {
    let header = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
    };
    let key = head
        .lines()
        .filter_map(header)
        .find(|(name, _)| name == "sec-websocket-key");
    let (_, key) = key.ok_or(io::ErrorKind::InvalidData)?;
    let challenge = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); // RFC 6455, section 4.2.2.
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, challenge.as_bytes()));
    let head = format!(
        "HTTP/1.1 {SOCKET}\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(message).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// See [`network`].
pub struct Names;

impl Resolver for Names {
    fn lookup<'a>(&'a self, name: &'a HostName) -> Boxed<'a, Result<Answers, ResolveError>> {
        let found = match name.to_string().as_str() {
            "gone.net" => Err(ResolveError::NotFound),
            "dead.net" => Ok(DEAD),
            _ => Ok(HERE),
        };
        let answers = found.map(|address| Answers {
            aliases: Vec::new(),
            addresses: vec![IpAddr::V4(address)],
        });
        Box::pin(async { answers })
    }
}

struct OneServer(SocketAddr);

impl Dial for OneServer {
    fn connect(&self, to: Pinned) -> Boxed<'static, io::Result<TcpStream>> {
        let address = self.0;
        Box::pin(async move {
            if to.address().ip() == IpAddr::V4(DEAD) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            TcpStream::connect(address).await
        })
    }
}

/// Starts the server. `gone.net` has no address, `dead.net` takes no connection, every other name leads to it.
pub async fn network(answers: Answer) -> Network {
    let address = serve(answers).await;
    Network {
        resolver: Arc::new(Names),
        dial: Arc::new(OneServer(address)),
    }
}

/// Starts the server alone.
pub async fn serve(answers: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { drop(answer(stream, answers).await) });
        }
    });
    address
}

/// Answers one request, and says which path was asked for. A path that is asked for with a password has a word more.
pub async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answers: Answer) -> io::Result<String> {
    let mut head = Vec::new();
    // The first byte of a TLS hello is answered as a plain server does, by what is no TLS.
    while !head.ends_with(b"\r\n\r\n") && head.first() != Some(&0x16) {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if head.to_lowercase().contains("\r\nauthorization: basic ") {
        path += " authorized";
    }
    let (status, body) = answers(&path).unwrap_or_else(|| ("404 Not Found".into(), Vec::new()));
    if status.is_empty() {
        return std::future::pending().await;
    }
    if status == SOCKET {
        socket(stream, &head, &body).await?;
        return Ok(path);
    }
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await?;
    Ok(path)
}
