//! T13, what a server could know a client by: passwords that a browser remembers, TLS sessions that it goes on with.
//!
//! Both are seen by the server, in what a connection says at its very beginning. Each test shows first that the browser
//! does it within one capture, so that nothing being seen afterwards means something.

use std::sync::{Arc, Mutex};

use capture_server::server::Server;
use capture_server::service::Network;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::{HandshakeKind, SupportedProtocolVersion};
use screenshot_policy::tls::SpkiPin;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{BLUE, HOLD, body, colour};
use crate::certificates::TwoServers;
use crate::harness::{Jailer, Running, Site, key, keyset, limits, without_a_route_out};
use crate::{tls, web};

/// A page that must be asked for a password, gives one and must then not be asked: blue. Red: it was not asked; yellow: it
/// was asked again.
const LOCKED: &str = "<script>(async()=>{const show=colour=>document.body.style.background=colour;\
    const asked=async()=>(await fetch('/locked')).status===401;if(!await asked())return show('#f00');\
    await new Promise(done=>{const request=new XMLHttpRequest();request.onloadend=done;\
    request.open('GET','/locked',true,'ada','h4rd-to-guess');request.send()});\
    show(await asked()?'#ff0':'#00f')})().finally(()=>hold.src='data:,')</script>";

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    let page = |html: String| ("200 OK\r\ncontent-type: text/html".to_owned(), html.into_bytes());
    Some(match path {
        "/page" => page(format!("<body style='margin:0;background:#fff'>{HOLD}{LOCKED}")),
        "/sessions" => page("<body style='margin:0;background:#00f'><script src=/again></script>".into()),
        "/again" => ("200 OK\r\ncontent-type: text/javascript".into(), Vec::new()),
        "/locked" => ("401 No\r\nwww-authenticate: Basic realm=\"a\"".into(), Vec::new()),
        "/locked authorized" => ("200 OK".into(), Vec::new()),
        "/never" => (String::new(), Vec::new()),
        _ => return None,
    })
}

/// A server with two clients and browsers that take certificates of `pair`.
async fn started(pair: &KeyPair, network: Network) -> (Running, Jailer) {
    let site = Site::new(limits(10_000));
    site.write("keyset.json", &keyset(1, &[1, 2]));
    let jailer = Jailer::start(&site);
    let mut args = site.args();
    args.jail_socket = tls::relay(&site, SpkiPin::of(&pair.subject_public_key_info()).bytes());
    let server = Server::start_on(args, network).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    (server, jailer)
}

/// One capture after the other, of one client and of another.
async fn captures(server: &Running, url: &str, mut between: impl FnMut(usize)) {
    for (at, client) in [1, 1, 2, 1, 2].into_iter().enumerate() {
        let answer = server.capture_as(key(client).0.text(), body(url)).await;
        assert_eq!(colour(&answer), BLUE, "capture {at} of client {client}");
        between(at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_no_password_that_a_page_gave_is_sent_by_the_next_capture() {
    if !without_a_route_out("threats::known::t13_no_password_that_a_page_gave_is_sent_by_the_next_capture") {
        return;
    }
    let pair = KeyPair::generate().unwrap();
    let network = Network {
        resolver: Arc::new(web::Names),
        dial: Arc::new(TwoServers {
            secure: tls::answering(&pair, answers).await,
            plain: web::serve(answers).await,
        }),
    };
    let (server, _jailer) = started(&pair, network).await;
    for url in ["http://known.net/page", "https://known.net/page"] {
        captures(&server, url, |_| ()).await;
    }
    server.stop().await;
}

#[derive(Default)]
struct Seen(Mutex<Vec<(String, bool)>>);

impl Seen {
    /// Answers, and notes whether the connection went on with a session of before.
    async fn answer(self: Arc<Self>, stream: TlsStream<TcpStream>) -> std::io::Result<String> {
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let path = web::answer(stream, answers).await?;
        self.0.lock().unwrap().push((path.clone(), resumed));
        Ok(path)
    }
}

async fn sessions(version: &'static SupportedProtocolVersion) {
    let pair = KeyPair::generate().unwrap();
    let seen = Arc::new(Seen::default());
    let noting = Arc::clone(&seen);
    let network = Network {
        resolver: Arc::new(web::Names),
        dial: Arc::new(TwoServers {
            secure: tls::serve(&pair, &[version], move |stream| Arc::clone(&noting).answer(stream)).await,
            plain: web::serve(|_| None).await,
        }),
    };
    let (server, _jailer) = started(&pair, network).await;
    captures(&server, "https://known.net/sessions", |at| {
        let seen = std::mem::take(&mut *seen.0.lock().unwrap());
        let expected = [("/sessions".to_owned(), false), ("/again".to_owned(), true)];
        assert_eq!(seen, expected, "capture {at}, {version:?}");
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_no_tls_session_of_a_page_is_gone_on_with_by_the_next_capture() {
    if !without_a_route_out("threats::known::t13_no_tls_session_of_a_page_is_gone_on_with_by_the_next_capture") {
        return;
    }
    sessions(&rustls::version::TLS13).await;
    sessions(&rustls::version::TLS12).await;
}
