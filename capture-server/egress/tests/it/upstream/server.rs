//! Upstream proxies on loopback: HTTP CONNECT over TCP and TLS, and SOCKS5, honest ones and others.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use screenshot_policy::egress::UpstreamScheme;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::head_of;

pub const USER: &str = "ada";
pub const PASSWORD: &str = "h4rd-to-guess";

/// How an upstream treats who asks.
#[derive(Clone)]
pub enum Manner {
    /// It leads where it is asked to.
    Honest,
    /// The same, to those who give [`USER`] and [`PASSWORD`].
    Guarded,
    /// It answers this, whatever is asked.
    Says(Vec<u8>),
    /// The first destination is told to be out of reach, later ones are led to.
    Fails,
}

/// An upstream and what it heard.
pub struct UpstreamServer {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    /// Its authority in PEM, if it speaks TLS.
    pub bundle: String,
}

#[derive(Clone)]
struct Shared {
    manner: Manner,
    to: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl UpstreamServer {
    /// Every destination leads to `to`, for as long as the test runs.
    pub async fn start(scheme: UpstreamScheme, manner: Manner, to: SocketAddr) -> Self {
        Self::named(scheme, manner, to, &["proxy.example.com", "10.9.9.9"]).await
    }

    /// The same with a certificate for other names.
    pub async fn named(scheme: UpstreamScheme, manner: Manner, to: SocketAddr, names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared {
            manner,
            to,
            heard: Arc::clone(&heard),
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let bundle = certified.cert.pem();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap().0;
                let (shared, acceptor) = (shared.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match scheme {
                        UpstreamScheme::Http => http(stream, &shared).await,
                        UpstreamScheme::Socks5 => drop(socks(stream, &shared).await),
                        UpstreamScheme::Https => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                http(stream, &shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, heard, bundle }
    }

    /// Everything that it was asked for, a line each; the whole heads of HTTP.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// The destinations that it was asked for.
    pub fn asked(&self) -> Vec<String> {
        let heard = self.heard();
        let line = |text: &String| text.lines().next().unwrap_or_default().to_owned();
        let asked = heard.iter().map(line);
        asked
            .filter_map(|line| Some(line.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned()))
            .collect()
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) {
    let head = head_of(&mut stream).await;
    let first = {
        let mut all = shared.heard.lock().unwrap();
        all.push(head.clone());
        all.len() == 1
    };
    let expected = format!(
        "Proxy-Authorization: Basic {}\r\n",
        STANDARD.encode(format!("{USER}:{PASSWORD}"))
    );
    let answer = match &shared.manner {
        Manner::Guarded if !head.contains(&expected) => {
            &b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"[..]
        }
        Manner::Fails if first => b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        Manner::Says(answer) => answer,
        Manner::Honest | Manner::Guarded | Manner::Fails => {
            return lead(
                stream,
                b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n",
                shared.to,
            )
            .await;
        }
    };
    let _ = stream.write_all(answer).await;
    let _ = stream.flush().await;
    // It stays, as one does that is waited for.
    let _ = stream.read(&mut [0]).await;
}

async fn lead<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &[u8], to: SocketAddr) {
    let mut to = TcpStream::connect(to).await.unwrap();
    stream.write_all(answer).await.unwrap();
    stream.flush().await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
}

/// RFC 1928 and RFC 1929, as far as a test needs them.
async fn socks(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    if let Manner::Says(answer) = &shared.manner {
        let count = stream.read(&mut [0; 512]).await?;
        shared.heard.lock().unwrap().push(format!("{count} bytes"));
        stream.write_all(answer).await?;
        let _ = stream.read(&mut [0]).await;
        return Ok(());
    }
    let guarded = matches!(shared.manner, Manner::Guarded);
    let methods = counted(&mut stream, 1).await?;
    let method = if guarded { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    if guarded {
        let username = counted(&mut stream, 1).await?;
        let password = counted(&mut stream, 0).await?;
        let good = (username, password) == (USER.into(), PASSWORD.into());
        stream.write_all(&[1, u8::from(!good)]).await?;
        if !good {
            return Ok(());
        }
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        3 => String::from_utf8(counted(&mut stream, 0).await?).unwrap(),
        other => panic!("address type {other}"),
    };
    let port = stream.read_u16().await?;
    let first = {
        let mut all = shared.heard.lock().unwrap();
        all.push(format!("CONNECT {host}:{port}"));
        all.len() == 1
    };
    if matches!(shared.manner, Manner::Fails) && first {
        return stream.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    }
    lead(stream, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0], shared.to).await;
    Ok(())
}

/// Skips `skip` bytes, then reads a length and as many bytes.
async fn counted(stream: &mut TcpStream, skip: usize) -> std::io::Result<Vec<u8>> {
    for _ in 0..skip {
        stream.read_u8().await?;
    }
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
