//! A proxy that answers for every host by itself, and remembers what it was asked for.
//!
//! In: a listener of a jail. Out: the hosts (with their ports, if not 80) that were asked for, `CONNECT` or not, and with
//! their paths those of the page's own host.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The page with every vector; also what every frame of it is not.
const PAGE: &str = include_str!("page.html");
/// Vectors that are headers of the page.
const HEADERS: &str = "Content-Security-Policy-Report-Only: img-src 'none'; report-uri http://csp-report.vector.test/\r\n\
                       Content-Security-Policy-Report-Only: font-src 'none'; report-to away\r\n\
                       Reporting-Endpoints: away=\"https://reporting.vector.test/\", default=\"http://127.0.0.1:89/\"\r\n\
                       Report-To: {\"group\":\"nel\",\"max_age\":99,\"endpoints\":[{\"url\":\"https://nel.vector.test/\"}]}\r\n\
                       NEL: {\"report_to\":\"nel\",\"max_age\":99,\"success_fraction\":1.0}\r\n\
                       Link: <http://link-header.vector.test/>; rel=preload; as=style\r\n";
/// A document that asks for something as it is opened.
const PDF: &str = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/URI/URI(http://pdf-action.vector.test/)>>>>endobj\n\
                   2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\n\
                   trailer<</Root 1 0 R>>\n";
const WORKER: &str = "fetch('http://service-worker.vector.test/').catch(()=>{});\
                      new WebSocket('ws://service-socket.vector.test/');new WebSocket('ws://169.254.169.254:88/')";
/// A certificate for `tls.vector.test`, until 2126, of an issuer that nobody knows but can be had from
/// `aia.vector.test`, as it says itself. (`openssl x509 -req` with `authorityInfoAccess`; the keys are gone.)
const CERTIFICATE: &[u8] = include_bytes!("unknown-issuer.der");
/// The TLS server with that certificate.
const TLS: &str = "tls.vector.test:443";
/// Where the page is: a secure context, and a place that a browser would like to reach past its proxy.
pub const START: &str = "http://127.0.0.1/page";

/// Whether the page, its headers or its documents have that host.
pub fn is_in_the_page(host: &str) -> bool {
    let host = format!("//{host}");
    [PAGE, HEADERS, PDF].iter().any(|text| text.contains(&host))
}

pub struct Proxy {
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxy {
    /// Serves the listener until the process ends.
    pub fn serve(listener: TcpListener) -> Self {
        let asked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            listener.set_nonblocking(false).unwrap();
            while let Ok((stream, _)) = listener.accept() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || drop(answer(stream, &log)));
            }
        });
        Self { asked }
    }

    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, log: &Mutex<BTreeSet<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 65_536 {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&chunk[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (host, path) = match target.strip_prefix("http://").and_then(|rest| rest.split_once('/')) {
        Some(parts) => parts,
        None => (target, ""),
    };
    log.lock().unwrap().insert(host.trim_end_matches(":80").to_owned());
    if host == "127.0.0.1" {
        log.lock().unwrap().insert(format!("/{path}"));
    }
    if method == "CONNECT" {
        // A tunnel that ends at once: whoever wanted to speak through it has been seen.
        stream.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n")?;
        return if host == TLS { certificate(&mut stream) } else { Ok(()) };
    }
    let (status, more, kind, body) = match (host, path) {
        ("127.0.0.1", "page") => ("200 OK", HEADERS, "text/html", PAGE),
        ("127.0.0.1", "worker.js") => ("200 OK", "", "text/javascript", WORKER),
        ("127.0.0.1", "redirect") => ("302 Found", "Location: http://203.0.113.10/\r\n", "text/plain", ""),
        ("127.0.0.1", "redirect/301") => ("301 Moved", "Location: http://r301.vector.test/\r\n", "text/plain", ""),
        ("127.0.0.1", "redirect/303") => ("303 See", "Location: http://r303.vector.test/\r\n", "text/plain", ""),
        ("127.0.0.1", "redirect/307") => ("307 There", "Location: http://r307.vector.test/\r\n", "text/plain", ""),
        ("127.0.0.1", "redirect/308") => ("308 There", "Location: http://r308.vector.test/\r\n", "text/plain", ""),
        ("127.0.0.1", "refresh") => (
            "200 OK",
            "Refresh: 0;url=http://header.vector.test/\r\n",
            "text/html",
            "",
        ),
        ("127.0.0.1", "action.pdf") | ("pdf.vector.test", _) => ("200 OK", "", "application/pdf", PDF),
        _ => ("200 OK", "Access-Control-Allow-Origin: *\r\n", "text/html", "nothing"),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// As much of TLS 1.2 as a client needs to judge a certificate: no key is involved up to there.
fn certificate(stream: &mut TcpStream) -> std::io::Result<()> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_be_bytes();
    let message = |kind: u8, body: &[u8]| [&[kind], &length(body)[1..], body].concat();
    let record = |message: &[u8]| [&[22, 3, 3], &length(message)[2..], message].concat();
    // Version, random, no session, ECDHE_ECDSA with AES-128-GCM, no compression.
    let hello = [&[3, 3], &[0x52; 32][..], &[0, 0xc0, 0x2b, 0]].concat();
    let chain = [&length(CERTIFICATE)[1..], CERTIFICATE].concat();
    let chain = [&length(&chain)[1..], &chain].concat();
    let mut hello_of_the_client = [0; 4096];
    let _ = stream.read(&mut hello_of_the_client)?;
    stream.write_all(&record(&message(2, &hello)))?;
    stream.write_all(&record(&message(11, &chain)))?;
    let _ = stream.read(&mut hello_of_the_client)?;
    Ok(())
}
