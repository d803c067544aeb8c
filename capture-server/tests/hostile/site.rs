//! A web server on loopback that answers like an enemy, and a network in which every name leads to it.
//!
//! In: connections of the product's proxy, which has judged them as it judges any other. Out: bodies that never end,
//! never begin, or grow a thousandfold. Nothing leaves the machine: the names' addresses are never dialled.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use capture_egress::{Answers, Dial, Pinned, ResolveError, Resolver};
use capture_server::service::Network;
use flate2::Compression;
use flate2::write::GzEncoder;
use screenshot_policy::host::HostName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A public address for every name. It is judged, not dialled.
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14));

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

struct EveryName;

impl Resolver for EveryName {
    fn lookup<'a>(&'a self, _name: &'a HostName) -> Boxed<'a, Result<Answers, ResolveError>> {
        let answers = Answers {
            aliases: Vec::new(),
            addresses: vec![PUBLIC],
        };
        Box::pin(async { Ok(answers) })
    }
}

struct OneServer(SocketAddr);

impl Dial for OneServer {
    fn connect(&self, _to: Pinned) -> Boxed<'static, io::Result<TcpStream>> {
        let address = self.0;
        Box::pin(async move { TcpStream::connect(address).await })
    }
}

/// Starts the server; the network leads to it.
pub async fn network() -> Network {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bomb: Arc<[u8]> = gzip_bomb().into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let bomb = Arc::clone(&bomb);
            tokio::spawn(async move { drop(answer(stream, &bomb).await) });
        }
    });
    Network {
        resolver: Arc::new(EveryName),
        dial: Arc::new(OneServer(address)),
    }
}

async fn answer(mut stream: TcpStream, bomb: &[u8]) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = path
        .split_once("://")
        .map_or(path, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    let html = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/html\r\n";
    match path {
        "/slow" => {
            stream.write_all(format!("{html}\r\n<p>").as_bytes()).await?;
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                stream.write_all(b"x").await?;
            }
        }
        "/never" => std::future::pending().await,
        "/endless" => {
            stream.write_all(format!("{html}\r\n").as_bytes()).await?;
            loop {
                stream.write_all(&[b'x'; 4096]).await?;
            }
        }
        "/headers" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            for n in 0..1200 {
                stream
                    .write_all(format!("x-{n}: {}\r\n", "y".repeat(1000)).as_bytes())
                    .await?;
            }
            stream.write_all(b"\r\n").await
        }
        "/redirect" => {
            let redirect =
                "HTTP/1.1 302 Found\r\nlocation: /redirect\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(redirect.as_bytes()).await
        }
        "/gzip" => {
            let head = format!("{html}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(bomb).await
        }
        "/download" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\
                        content-disposition: attachment\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
            stream.write_all(head.as_bytes()).await
        }
        _ => stream.write_all(format!("{html}\r\n<p>a frame").as_bytes()).await,
    }
}

/// One mebibyte that becomes one gibibyte.
fn gzip_bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}
