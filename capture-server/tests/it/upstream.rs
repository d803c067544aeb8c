//! Real captures where an upstream proxy is the only way out.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use capture_egress::{Dial, Pinned};
use capture_server::server::Server;
use capture_server::service::Network;
use screenshot_policy::egress::{Resolution, UpstreamProxy, UpstreamScheme};
use screenshot_policy::unit::Port;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Jailer, Running, Site, get, limits, policy_of, until, without_a_route_out};
use crate::web;

const PASSWORD: &str = "h4rd-to-guess";
/// Where the policy has the upstream.
const AT: &str = "10.9.9.9:3128";

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    (path == "/green").then(|| {
        let page = "<body style='margin:0;background:#0f0'><img src='http://169.254.169.254/a.png'><img src='http://other.net/b.png'>";
        ("200 OK\r\ncontent-type: text/html".into(), page.into())
    })
}

/// Leads to the upstream, and remembers what else was dialled.
struct OnlyTo {
    upstream: SocketAddr,
    others: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Dial for OnlyTo {
    fn connect(&self, to: Pinned) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>> {
        let (upstream, address) = (self.upstream, to.address());
        if address.to_string() != AT {
            self.others.lock().unwrap().push(address);
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        Box::pin(TcpStream::connect(upstream))
    }
}

/// A proxy that leads everybody with the password to the site. Returns its address and the heads that it gets.
async fn upstream(site: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move { drop(lead(stream, site, &seen).await) });
        }
    });
    (address, heads)
}

async fn lead(mut stream: TcpStream, site: SocketAddr, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let good = head.contains(&format!("Basic {}\r\n", STANDARD.encode(format!("ada:{PASSWORD}"))));
    seen.lock().unwrap().push(head);
    if !good {
        return stream
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .await;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut to = TcpStream::connect(site).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut to).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_goes_through_the_upstream_and_by_no_other_way() {
    if !without_a_route_out("upstream::a_capture_goes_through_the_upstream_and_by_no_other_way") {
        return;
    }
    let (address, heads) = upstream(web::serve(answers).await).await;
    let others = Arc::new(Mutex::new(Vec::new()));
    let network = Network {
        resolver: Arc::new(web::Names),
        dial: Arc::new(OnlyTo {
            upstream: address,
            others: Arc::clone(&others),
        }),
    };
    let site = Site::new(limits(20_000));
    let policy = policy_of(limits(20_000), |document| {
        document.egress.upstream_proxy = Some(UpstreamProxy {
            scheme: UpstreamScheme::Http,
            host: "10.9.9.9".parse().unwrap(),
            port: Port::try_from(3128u64).unwrap(),
            cidr: None,
            resolve: Resolution::Local,
            authenticated: true,
            ca_bundle: false,
        });
    });
    site.write("policy.json", &policy.canonical_json());
    std::fs::create_dir(site.path("upstream")).unwrap();
    let _jailer = Jailer::start(&site);
    let server = Server::start_on(site.args(), network).await.unwrap();
    let server = Running::serving(site, server).await;
    // Without credentials no page could be reached, and the pod says so.
    until("the reason", async || {
        server.reasons().await == ["upstream_credentials_missing"]
    })
    .await;
    server.site.write("upstream/username", "ada");
    server.site.write("upstream/password", "outdated");
    server.until_ready(true).await;
    let page = json!({"url": "http://alive.net/green", "window_width": 200, "window_height": 100});
    let refused = server.capture(page.clone()).await;
    assert_eq!(refused.problem(), (502, "connect_failed".into()));
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("upstream_credentials"), "{detail}");
    // A Secret that changes counts without a restart.
    server.site.write("upstream/password", PASSWORD);
    until("the new password", async || {
        server.capture(page.clone()).await.status == 200
    })
    .await;
    let taken = server.capture(page).await;
    assert_eq!(taken.image().get_pixel(100, 50).0, [0, 255, 0]);
    assert_eq!(
        taken.header("x-capture-refusals"),
        Some("169.254.169.254:80;metadata_address")
    );
    // The page's own TLS goes through untouched: the site has none, and that is what is said.
    let tls = server.capture(json!({"url": "https://alive.net/"})).await;
    assert_eq!(tls.problem().1, "tls_failed");
    let heads = heads.lock().unwrap().clone();
    let lines: Vec<&str> = heads.iter().map(|head| head.lines().next().unwrap()).collect();
    for (port, found) in [(80, true), (443, true), (8080, false)] {
        let line = format!("CONNECT {}:{port} HTTP/1.1", web::HERE);
        assert_eq!(lines.contains(&line.as_str()), found, "{lines:?}");
    }
    let heads = heads.concat();
    assert!(!heads.contains("alive.net") && !heads.contains("169.254"), "{heads}");
    assert_eq!(*others.lock().unwrap(), []);
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(metrics.contains("upstream_credentials") && !metrics.contains(PASSWORD));
    server.stop().await;
}
