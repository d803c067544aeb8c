//! Upstreams that answer badly, or not at all.

use std::time::{Duration, Instant};

use capture_egress::MAX_ANSWER;
use screenshot_policy::egress::UpstreamScheme;

use super::server::{Manner, UpstreamServer};
use super::{behind, change, honest};
use crate::harness::{reason, refusal};

#[tokio::test]
async fn an_upstream_that_answers_badly_costs_a_bounded_time_and_is_named() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_ANSWER));
    let endless = vec![b'x'; 10 * MAX_ANSWER];
    let http = UpstreamScheme::Http;
    let socks = UpstreamScheme::Socks5;
    for (scheme, says, word) in [
        (http, &b""[..], "upstream_timeout"),
        (http, b"HTTP/1.1 200", "upstream_timeout"),
        (socks, b"\x05", "upstream_timeout"),
        (http, b"rubbish\r\n\r\n", "upstream_protocol"),
        (http, long.as_bytes(), "upstream_protocol"),
        (http, &endless, "upstream_protocol"),
        (http, b"HTTP/1.1 200 OK\r\n\r\nnot the destination", "upstream_protocol"),
        (http, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "upstream_protocol"),
        (
            http,
            b"HTTP/1.1 302 Found\r\nLocation: http://a.com/\r\n\r\n",
            "upstream_protocol",
        ),
        (http, b"HTTP/1.1 403 Forbidden\r\n\r\n", "upstream_refused"),
        (http, b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "upstream_destination"),
        (socks, b"HTTP/1.1 400 Bad Request\r\n\r\n", "upstream_protocol"),
        (socks, b"\x05\xff", "upstream_credentials"),
        (socks, b"\x05\x02", "upstream_credentials"),
        (socks, b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0", "upstream_refused"),
        (socks, b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0", "upstream_destination"),
        (socks, b"\x05\x00\x05\x00\x00\x09", "upstream_protocol"),
    ] {
        let server = UpstreamServer::start(scheme, Manner::Says(says.to_vec()), PUBLIC_NOWHERE.parse().unwrap()).await;
        let mut world = behind(&server, scheme);
        world.timings.connect = Duration::from_millis(300);
        let proxy = world.open().await;
        let begun = Instant::now();
        let shown: String = String::from_utf8_lossy(says).chars().take(40).collect();
        assert_eq!(
            reason(&proxy.get("http://site.com/").await),
            word,
            "{scheme:?} {shown:?}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{shown:?} took {:?}",
            begun.elapsed()
        );
        assert!(proxy.session.report().decisions[0].via_upstream);
    }
}

/// An honest upstream of these tests leads nowhere else than to its target, so this is never dialled.
const PUBLIC_NOWHERE: &str = "127.0.0.1:1";

#[tokio::test]
async fn what_an_upstream_could_not_do_has_its_error_type() {
    for (says, expected) in [
        (&b""[..], (504, "connection_timeout")),
        (b"HTTP/1.1 403 No\r\n\r\n", (502, "http_request_denied")),
        (b"HTTP/1.1 407 No\r\n\r\n", (502, "proxy_configuration_error")),
        (b"HTTP/1.1 504 No\r\n\r\n", (502, "destination_unavailable")),
        (b"no\r\n\r\n", (502, "http_protocol_error")),
    ] {
        let manner = Manner::Says(says.to_vec());
        let server = UpstreamServer::start(UpstreamScheme::Http, manner, PUBLIC_NOWHERE.parse().unwrap()).await;
        let mut world = behind(&server, UpstreamScheme::Http);
        world.timings.connect = Duration::from_millis(300);
        let (status, error, _) = refusal(&world.open().await.get("http://site.com/").await);
        assert_eq!((status, error.as_str()), expected);
    }
    let server = honest(UpstreamScheme::Http).await;
    let mut world = behind(&server, UpstreamScheme::Http);
    change(&mut world, |upstream| upstream.host = "10.9.9.8".parse().unwrap());
    let told = refusal(&world.open().await.get("http://site.com/").await);
    assert_eq!(told, (502, "connection_refused".into(), "upstream_unreachable".into()));
}
