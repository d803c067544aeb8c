//! Fuzz targets of the proxy: request heads, ClientHellos, response heads, DNS answers.
//!
//! They sit inside the crate since what they break is private. See `crds/policy/tests/fuzz/engine.rs` for how.

#[path = "../../../crds/policy/tests/fuzz/engine.rs"]
pub(crate) mod engine;

use std::time::Duration;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::serialize::binary::BinDecodable as _;
use screenshot_policy::address::classify;
use screenshot_policy::host::Host;
use screenshot_policy::policy::{Ceiling, EffectivePolicy, PolicyDocument};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::head::{self, Head, MAX_HEAD};
use crate::hello::{self, Opening, Served};
use crate::log::Site;
use crate::resolve::{self, Resolver as _, SystemResolver};
use crate::response;
use crate::wire::HeadEnd;
use engine::{Random, broken, fuzz, fuzz_bytes, run};

const HEADS: &[&str] = &[
    "GET http://a.com/x?y=1 HTTP/1.1\r\nHost: a.com\r\nAccept: */*\r\n\r\n",
    "POST http://a.com:8080/ HTTP/1.1\r\nContent-Length: 3\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\nabc",
    "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
    "CONNECT [2606:4700::1]:443 HTTP/1.1\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: a.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
    "GET http://a.com/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
];
const HEAD_WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    "@",
    "http://",
    "://",
    "/",
    "\\",
    "#",
    "?",
    "%0d%0a",
    "Host: 169.254.169.254\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +3",
    "Connection: content-length\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "127.0.0.1",
    "65536",
    "[::1]",
    "\u{ff0f}",
];

/// A head as the proxy writes it: lines of visible text, one empty line at the end, nothing after it.
fn is_one_head(head: &[u8]) -> bool {
    let Some(lines) = head.strip_suffix(b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(lines);
    text.split("\r\n")
        .all(|line| !line.is_empty() && !line.contains(['\r', '\n', '\0']))
}

#[test]
fn fuzz_request_head() {
    let inside = Site {
        host: "a.com".parse().unwrap(),
        port: 80,
    };
    fuzz(HEADS, HEAD_WORDS, |bytes| {
        // The head inside a tunnel is for the tunnel's host, and one.
        if let Ok(Some((request, used))) = head::parse_inner(bytes, &inside) {
            assert!(used <= bytes.len());
            assert!(is_one_head(&request.render()));
        }
        let Ok(Some((head, used))) = head::parse(bytes) else {
            return;
        };
        assert!(used <= bytes.len());
        assert_ne!(head.site().port, 0);
        // The host survives being written down, so that log, decision and dial are about the same one.
        assert_eq!(
            head.site().host.to_string().parse::<Host>().as_ref(),
            Ok(&head.site().host)
        );
        let Head::Plain(request) = head else { return };
        assert!(request.path.starts_with('/') && !request.path.contains(['#', ' ', '\r', '\n']));
        let out = request.render();
        assert!(is_one_head(&out), "{}", out.escape_ascii());
        // What the target reads is one request for the host that was decided about, framed by one length.
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut again = httparse::Request::new(&mut fields);
        assert_eq!(again.parse(&out), Ok(httparse::Status::Complete(out.len())));
        let named = |name: &str| {
            again
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(name))
                .count()
        };
        assert_eq!(
            (named("host"), named("transfer-encoding"), named("connection")),
            (1, 0, 1)
        );
        assert!(named("content-length") <= 1);
        assert!(
            !again
                .headers
                .iter()
                .any(|field| field.name.to_ascii_lowercase().starts_with("proxy-"))
        );
        let host = again
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("host"))
            .unwrap();
        assert!(String::from_utf8_lossy(host.value).starts_with(&request.site.host.to_string()));
    });
}

#[test]
fn fuzz_response_head() {
    let seeds = [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: x\r\n\r\nabc",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /\r\nTransfer-Encoding: chunked\r\nProxy-Status: x\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ];
    fuzz(&seeds, HEAD_WORDS, |bytes| {
        for (method, upgrade) in [("GET", false), ("HEAD", false), ("GET", true)] {
            let Ok(Some((response, used))) = response::parse(bytes, method, upgrade) else {
                continue;
            };
            assert!(used <= bytes.len() && response.status != 407);
            assert!(is_one_head(&response.head), "{}", response.head.escape_ascii());
            assert!(upgrade || response.status != 101);
            let text = String::from_utf8_lossy(&response.head).to_ascii_lowercase();
            assert!(!text.contains("\r\nproxy-"), "{text}");
        }
    });
}

#[test]
fn fuzz_client_hello() {
    let real = include_bytes!("hello/openssl-client-hello.bin");
    let host: Host = "example.com".parse().unwrap();
    let words = ["\x16\x03\x01", "\0\0", "\u{7f}", "example.com", "GET / HTTP/1.1\r\n"];
    fuzz_bytes(
        &[real, b"GET / HTTP/1.1\r\n\r\n", b"\0\x01\0\x08\x21\x12\xa4\x42"],
        &words,
        |bytes| {
            for served in [Served::Tls, Served::Http, Served::Either] {
                match hello::inspect(bytes, &host, served) {
                    Ok(Some(Opening::Tls)) => {
                        assert!(bytes[0] == 22 && served != Served::Http);
                        assert!(
                            bytes
                                .to_ascii_lowercase()
                                .windows(11)
                                .any(|window| window == b"example.com")
                        );
                    }
                    Ok(Some(Opening::Http)) => assert!(served != Served::Tls && bytes[0] == b'G'),
                    Ok(None) | Err(_) => {}
                }
            }
        },
    );
}

/// A reply with an alias, an IPv4 and an IPv6 address for `a.com`.
fn dns_reply() -> Vec<u8> {
    let mut out = b"\x12\x34\x81\x80\0\x01\0\x03\0\0\0\0\x01a\x03com\0\0\x01\0\x01".to_vec();
    out.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\0\0\x04\x01b\xc0\x0e");
    out.extend(b"\xc0\x23\0\x01\0\x01\0\0\0\0\0\x04\x5d\xb8\xd8\x22");
    out.extend(b"\xc0\x23\0\x1c\0\x01\0\0\0\0\0\x10\x26\x06\x47\0\0\0\0\0\0\0\0\0\0\0\0\x01");
    out
}

const DNS_WORDS: &[&str] = &[
    "\u{0}\u{1}",
    "\x01a",
    "\x7f\0\0\x01",
    "\x3f",
    "\0\x05\0\x01",
    "\x03svc\0",
    "\x04\n\0\0\x01",
];

#[test]
fn fuzz_dns_answer() {
    let document = PolicyDocument::secure_default("web", "shots").unwrap();
    let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let verdict = policy.admit_host(&"a.com".parse().unwrap(), 443, now).unwrap();
    let reply = dns_reply();
    let whole = Message::from_bytes(&reply).unwrap();
    assert_eq!(resolve::answers(&whole.answers).unwrap().addresses.len(), 2);
    fuzz_bytes(&[&reply], DNS_WORDS, |bytes| {
        let Ok(message) = Message::from_bytes(bytes) else {
            return;
        };
        let Ok(answers) = resolve::answers(&message.answers) else {
            return;
        };
        if policy.admit_aliases(&verdict, &answers.aliases).is_err() {
            return;
        }
        if let Ok(admitted) = policy.admit_addresses(&verdict, &answers.addresses, now) {
            assert!(
                !admitted.is_empty() && admitted.iter().all(|ip| classify(*ip).is_global()),
                "{admitted:?}"
            );
        }
    });
}

/// The same through the resolver that ships, over a socket: it must come back in time and unharmed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a name server on loopback")]
async fn fuzz_dns_packet() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (seed, time) = run();
    tokio::spawn(async move {
        let (mut random, mut query) = (Random::new(seed), [0; 1500]);
        while let Ok((_, peer)) = socket.recv_from(&mut query).await {
            let mut reply = broken(&mut random, &[&dns_reply()], DNS_WORDS);
            if reply.len() > 2 && random.below(8) != 0 {
                reply[..2].copy_from_slice(&query[..2]);
            }
            let _ = socket.send_to(&reply, peer).await;
        }
    });
    let patience = Duration::from_millis(20);
    let resolver = SystemResolver::asking(&[address], patience).unwrap();
    let name = "a.com".parse().unwrap();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let begun = Instant::now();
        let found = resolver.lookup(&name).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "FUZZ_SEED={seed}: {found:?}");
    }
}

#[test]
fn a_head_of_the_longest_length_is_parsed_in_no_time() {
    let begun = std::time::Instant::now();
    let field = format!("X: {}\r\n", "a".repeat(500));
    let head = format!(
        "GET http://a.com/ HTTP/1.1\r\n{}\r\n",
        field.repeat(MAX_HEAD / field.len())
    );
    for _ in 0..100 {
        let _ = head::parse(head.as_bytes());
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// Where each byte made all before it be looked at again, it would be two thousand million.
#[test]
fn a_head_that_comes_byte_by_byte_is_looked_at_once() {
    let bytes = vec![b'a'; MAX_HEAD];
    let (begun, mut end) = (std::time::Instant::now(), HeadEnd::default());
    assert!(!(1..=MAX_HEAD).any(|length| end.found(&bytes[..length])));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
