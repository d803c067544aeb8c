//! Fuzz target: what an upstream answers. See `crds/policy/tests/fuzz/engine.rs` for how.

use std::sync::Arc;

use screenshot_policy::egress::Resolution;
use screenshot_policy::policy::{Ceiling, EffectivePolicy, PolicyDocument};
use screenshot_policy::unit::Port;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::budget::{Budget, Meter};
use crate::decide::{Decider, Way};
use crate::fuzz::engine::{Random, broken, run};
use crate::log::Site;
use crate::resolve::SystemResolver;

const HEADS: [&[u8]; 4] = [
    b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n",
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nearly",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
];
const HEAD_WORDS: &[&str] = &[
    "\r\n\r\n",
    "\n\n",
    "HTTP/1.1 ",
    "HTTP/2 ",
    "200",
    "2000",
    " ",
    "\0",
    "a: b\r\n",
];
const SOCKS: [&[u8]; 4] = [
    b"\x05\x00\x05\x00\x00\x01\x01\x02\x03\x04\x00\x50",
    b"\x05\x02\x01\x00\x05\x00\x00\x03\x05a.com\x00\x50",
    b"\x05\x02\x01\x01",
    b"\x05\x00\x05\x05\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50",
];
const SOCKS_WORDS: &[&str] = &["\x05", "\x01", "\0\0", "\x03\x7f", "\x7f"];

/// A target, as only a decision makes one.
async fn target() -> Target {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    document.egress.upstream_proxy = Some(UpstreamProxy {
        scheme: UpstreamScheme::Http,
        host: "10.9.9.9".parse().unwrap(),
        port: Port::HTTP,
        cidr: None,
        resolve: Resolution::Remote,
        authenticated: false,
        ca_bundle: false,
    });
    let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
    let decider = Decider {
        policy: watch::channel(Arc::new(policy)).1,
        resolver: Arc::new(SystemResolver::asking(&[], Duration::from_secs(1)).unwrap()),
        clock: Arc::new(|| "2026-06-01T00:00:00Z".parse().unwrap()),
    };
    let site = Site {
        host: "a.com".parse().unwrap(),
        port: 443,
    };
    let budget = Budget {
        requests: 1,
        hosts: 1,
        sockets: 1,
        wire_bytes: 1,
    };
    match decider.decide(&site, &Meter::new(budget)).await.unwrap() {
        Way::Upstream(_, mut targets) => targets.remove(0),
        Way::Direct(_) => panic!("straight"),
    }
}

/// A stream on which `answer` and then nothing more comes.
async fn answering(answer: &[u8]) -> (DuplexStream, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 17);
    theirs.write_all(answer).await.unwrap();
    theirs.shutdown().await.unwrap();
    (ours, theirs)
}

#[tokio::test]
async fn fuzz_answer_of_an_upstream() {
    let (seed, time) = run();
    let mut random = Random::new(seed);
    let target = target().await;
    let credentials = Credentials::parse(b"ada", b"secret").unwrap();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let answer = broken(&mut random, &HEADS, HEAD_WORDS);
        let (mut ours, _theirs) = answering(&answer).await;
        if connect::ask(&mut ours, &target, Some(&credentials)).await.is_ok() {
            // Nothing but one head that says yes.
            let text = String::from_utf8_lossy(&answer);
            assert!(
                text.trim_start().starts_with("HTTP/1.") && text.contains(" 2"),
                "FUZZ_SEED={seed}: {text}"
            );
            assert!(
                answer.ends_with(b"\n") && answer.len() <= MAX_ANSWER,
                "FUZZ_SEED={seed}: {text}"
            );
        }
        let answer = broken(&mut random, &SOCKS, SOCKS_WORDS);
        let (ours, _theirs) = answering(&answer).await;
        if socks::ask(ours, &target, Some(&credentials)).await.is_ok() {
            assert!(
                answer[0] == 5 && answer.windows(3).any(|window| window == [5, 0, 0]),
                "FUZZ_SEED={seed}"
            );
        }
    }
}
