//! Hosts that the policy names by their keys: the proof is made on the connection that carries the bytes.

use std::time::Duration;

use capture_egress::{Refusal, Spent};
use rcgen::{KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use screenshot_policy::tls::{SpkiPin, TlsHost, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::authority::{Authority, HELLO, Site, pin, pose, self_signed, serve, tunnelled};
use crate::harness::{NOW, PUBLIC, Proxy, Target, World, exactly, head_of, hello};

const END: &str = "2026-12-01T00:00:00Z";
pub const GET: &str = "GET /x HTTP/1.1\r\nHost: site.com\r\n\r\n";
type Chain = Vec<CertificateDer<'static>>;

fn pinned(host: &str, pins: &[SpkiPin]) -> TlsHost {
    TlsHost {
        host: host.parse().unwrap(),
        trust: Trust::PublicAuthorities,
        spki_pins: pins.to_vec(),
        reason: None,
        expires: None,
    }
}

pub fn exception(host: &str, pins: &[SpkiPin]) -> TlsHost {
    TlsHost {
        trust: Trust::PinnedKey,
        reason: Some("a test".parse().unwrap()),
        expires: Some(END.parse().unwrap()),
        ..pinned(host, pins)
    }
}

pub fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// `site.com` and `other.com` are one target on the port of TLS; the policy names what it names.
async fn named(named: Vec<TlsHost>) -> (World, Target) {
    let (mut world, target) = (World::new(), Target::new().await);
    for name in ["site.com", "other.com"] {
        world.names.set(name, &[&[PUBLIC]]);
    }
    world.wires.route(&format!("{PUBLIC}:443"), target.address);
    world.rules.tls.hosts = named;
    (world, target)
}

/// The target is a server with these certificates.
pub async fn world(hosts: Vec<TlsHost>, chain: Chain, pair: &KeyPair) -> (World, Site) {
    let (world, target) = named(hosts).await;
    (world, serve(target, chain, pair, &["h2", "http/1.1"]))
}

/// The page comes, under the proxy's key, in HTTP/1.1 on both sides.
async fn passes(proxy: &Proxy, site: &Site, what: &str) {
    let mut tunnel = tunnelled(proxy, "site.com", 443).await.expect(what);
    assert_eq!(Some(tunnel.key), proxy.key, "{what}");
    let protocol = tunnel.stream.get_ref().1.alpn_protocol();
    assert_eq!(protocol, Some(&b"http/1.1"[..]), "{what}");
    assert_eq!(tunnel.ask(GET).await, HELLO, "{what}");
    assert_eq!(
        site.asked.lock().unwrap().pop().unwrap(),
        "http/1.1 GET /x HTTP/1.1",
        "{what}"
    );
    assert_eq!(proxy.outcomes(1).await.last(), Some(&"allowed"), "{what}");
}

/// Nothing comes, nothing of the browser's went out, and the log says why.
async fn is_refused(proxy: &Proxy, site: &Site, word: &str, what: &str) {
    let before = proxy.session.report().decisions.len();
    assert!(tunnelled(proxy, "site.com", 443).await.is_none(), "{what}");
    assert_eq!(proxy.outcomes(before + 1).await.last(), Some(&word), "{what}");
    assert!(site.asked.lock().unwrap().is_empty(), "{what}");
}

/// A good certificate of `site.com` and everybody in its path.
struct Path {
    root: Authority,
    middle: Authority,
    pair: KeyPair,
    chain: Chain,
}

fn path() -> Path {
    let root = Authority::root("a root");
    let middle = root.under("an intermediate");
    let pair = key();
    let chain = vec![middle.issue("site.com", &pair, |_| ()), middle.certificate.clone()];
    Path {
        root,
        middle,
        pair,
        chain,
    }
}

#[tokio::test]
async fn a_pinned_key_anywhere_in_the_verified_path_passes_and_no_other() {
    let path = path();
    let (leaf, middle, root) = (pin(&path.pair), pin(&path.middle.pair), pin(&path.root.pair));
    let stranger = pin(&key());
    for (pins, reason) in [
        (vec![leaf], None),
        (vec![middle], None),
        (vec![root], None),
        (vec![stranger, leaf], None),
        (vec![stranger], Some("tls_pin_mismatch")),
    ] {
        let (mut world, site) = world(vec![pinned("site.com", &pins)], path.chain.clone(), &path.pair).await;
        world.roots.add(path.root.certificate.clone()).unwrap();
        let proxy = world.open().await;
        match reason {
            None => passes(&proxy, &site, &format!("{pins:?}")).await,
            Some(reason) => is_refused(&proxy, &site, reason, &format!("{pins:?}")).await,
        }
    }
}

/// Certificates are public: only the handshake's signature shows whose they are.
#[tokio::test]
async fn a_good_certificate_without_its_key_proves_nothing() {
    let path = path();
    let pins = [pin(&path.pair)];
    for host in [pinned("site.com", &pins), exception("site.com", &pins)] {
        for version in [&TLS12, &TLS13] {
            let (mut world, target) = named(vec![host.clone()]).await;
            world.roots.add(path.root.certificate.clone()).unwrap();
            let site = pose(target, path.chain.clone(), &key(), version);
            let proxy = world.open().await;
            is_refused(&proxy, &site, "tls_untrusted", &format!("{:?} {version:?}", host.trust)).await;
        }
    }
}

/// Certificates are public: whoever has a certificate of some other authority can send them along.
#[tokio::test]
async fn a_pinned_certificate_that_is_only_sent_along_does_not_count() {
    let (good, bad) = (path(), path());
    let mut chain = bad.chain.clone();
    chain.extend([good.middle.certificate.clone(), good.chain[0].clone()]);
    let pins = [pin(&good.pair), pin(&good.middle.pair), pin(&good.root.pair)];
    let (mut world, site) = world(vec![pinned("site.com", &pins)], chain, &bad.pair).await;
    for path in [&good, &bad] {
        world.roots.add(path.root.certificate.clone()).unwrap();
    }
    let proxy = world.open().await;
    is_refused(&proxy, &site, "tls_pin_mismatch", "sent along").await;
}

#[tokio::test]
async fn under_authorities_a_pin_alone_is_not_enough() {
    let path = path();
    let pair = &path.pair;
    let of_middle = |leaf| vec![leaf, path.middle.certificate.clone()];
    let old = |parameters: &mut rcgen::CertificateParams| parameters.not_after = date_time_ymd(2026, 11, 24);
    let young = |parameters: &mut rcgen::CertificateParams| parameters.not_before = date_time_ymd(2026, 11, 26);
    for (what, word, chain) in [
        ("self-signed", "tls_untrusted", self_signed("site.com", pair, |_| ())),
        ("without its issuer", "tls_untrusted", vec![path.chain[0].clone()]),
        (
            "for another name",
            "tls_name_mismatch",
            of_middle(path.middle.issue("other.com", pair, |_| ())),
        ),
        (
            "expired",
            "tls_expired",
            of_middle(path.middle.issue("site.com", pair, old)),
        ),
        (
            "not yet valid",
            "tls_expired",
            of_middle(path.middle.issue("site.com", pair, young)),
        ),
    ] {
        let (mut world, site) = world(vec![pinned("site.com", &[pin(pair)])], chain, pair).await;
        world.roots.add(path.root.certificate.clone()).unwrap();
        let proxy = world.open().await;
        is_refused(&proxy, &site, word, what).await;
    }
}

#[tokio::test]
async fn under_an_exception_the_key_decides_alone_whatever_the_certificate_says() {
    let pair = key();
    let (private, stranger) = (Authority::root("a private root"), key());
    let old = |parameters: &mut rcgen::CertificateParams| parameters.not_after = date_time_ymd(2020, 1, 1);
    for (what, chain) in [
        ("self-signed", self_signed("site.com", &pair, |_| ())),
        ("expired", self_signed("site.com", &pair, old)),
        ("for another name", self_signed("other.net", &pair, |_| ())),
        ("of a private authority", vec![private.issue("site.com", &pair, |_| ())]),
    ] {
        let named = vec![exception("site.com", &[pin(&pair)])];
        let (good, site) = world(named, chain.clone(), &pair).await;
        passes(&good.open().await, &site, what).await;
        // The key of an issuer is none of the host's: nothing here was verified up to it.
        for other in [pin(&stranger), pin(&private.pair)] {
            let (bad, site) = world(vec![exception("site.com", &[other])], chain.clone(), &pair).await;
            is_refused(&bad.open().await, &site, "tls_pin_mismatch", what).await;
        }
    }
}

#[tokio::test]
async fn an_exception_ends_in_a_running_proxy_and_authorities_must_vouch_again() {
    let pair = key();
    let named = vec![exception("site.com", &[pin(&pair)])];
    let (world, site) = world(named, self_signed("site.com", &pair, |_| ()), &pair).await;
    let proxy = world.open().await;
    *world.now.lock().unwrap() = "2026-11-30T23:59:59Z".parse().unwrap();
    passes(&proxy, &site, "before its end").await;
    *world.now.lock().unwrap() = END.parse().unwrap();
    is_refused(&proxy, &site, "tls_untrusted", "after its end").await;
    *world.now.lock().unwrap() = NOW.parse().unwrap();
    passes(&proxy, &site, "each connection is judged by itself").await;
}

#[tokio::test]
async fn a_host_that_is_not_named_is_left_to_the_browser_and_never_shown_the_proxys_key() {
    let pair = key();
    let named = vec![exception("site.com", &[pin(&pair)])];
    let (world, _site) = world(named, self_signed("other.com", &pair, |_| ()), &pair).await;
    let proxy = world.open().await;
    let tunnel = tunnelled(&proxy, "other.com", 443).await.unwrap();
    assert_eq!(tunnel.key, pin(&pair));
    assert_ne!(Some(tunnel.key), proxy.key);
    // Nor another name through a named host's tunnel, nor the named one through another's.
    for (to, name) in [("site.com", "other.com"), ("other.com", "site.com")] {
        let (mut stream, _) = proxy.tunnel(&format!("{to}:443")).await;
        stream.write_all(&hello(Some(name))).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
    assert_eq!(
        proxy.outcomes(3).await,
        ["allowed", "tunnel_sni_mismatch", "tunnel_sni_mismatch"]
    );
}

#[tokio::test]
async fn the_key_is_new_with_every_proxy_and_there_is_none_where_no_host_is_named() {
    let pair = key();
    let named = vec![exception("site.com", &[pin(&pair)])];
    let (mut world, _site) = world(named, self_signed("site.com", &pair, |_| ()), &pair).await;
    let keys = [world.open().await.key.unwrap(), world.open().await.key.unwrap()];
    assert_ne!(keys[0], keys[1]);
    world.rules.tls.hosts.clear();
    assert_eq!(world.open().await.key, None);
}

#[tokio::test]
async fn an_address_can_be_named_too() {
    let pair = key();
    let chain = self_signed("site.com", &pair, |_| ());
    let (world, site) = world(vec![exception(PUBLIC, &[pin(&pair)])], chain, &pair).await;
    let proxy = world.open().await;
    let mut tunnel = tunnelled(&proxy, PUBLIC, 443).await.unwrap();
    assert_eq!((Some(tunnel.key), tunnel.ask(GET).await.as_str()), (proxy.key, HELLO));
    assert_eq!(site.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn bytes_go_both_ways_and_are_counted_as_they_are_on_the_wire() {
    let pair = key();
    let named = vec![exception("site.com", &[pin(&pair)])];
    let (mut world, _site) = world(named, self_signed("site.com", &pair, |_| ()), &pair).await;
    world.budget.wire_bytes = 1_000_000;
    let proxy = world.open().await;
    let mut tunnel = tunnelled(&proxy, "site.com", 443).await.unwrap();
    assert_eq!(tunnel.ask(GET).await, HELLO);
    let handshake = proxy.session.report().bytes;
    assert!(handshake > 1_000, "{handshake}");
    let sent = vec![7; 200_000];
    let (mut read, mut write) = tokio::io::split(tunnel.stream);
    let echoed = async {
        let mut got = vec![0; sent.len()];
        read.read_exact(&mut got).await.unwrap();
        got
    };
    let (written, got) = tokio::join!(write.write_all(&sent), echoed);
    written.unwrap();
    assert!(got == sent);
    let moved = proxy.session.report().bytes - handshake;
    assert!((400_000..440_000).contains(&moved), "{moved}");
    // The same once more is beyond the budget: the connection is cut, and everything after it.
    let more = vec![7; 1_000_000];
    let cut = async {
        let mut sink = Vec::new();
        let _ = read.read_to_end(&mut sink).await;
    };
    let ended = timeout(Duration::from_secs(10), async {
        tokio::join!(write.write_all(&more), cut)
    });
    assert!(ended.await.is_ok());
    assert_eq!(proxy.session.report().tripped, Some(Refusal::Budget(Spent::WireBytes)));
    assert!(proxy.session.report().bytes < 1_100_000);
}

#[tokio::test]
async fn a_budget_that_ends_within_the_handshake_is_named_as_that() {
    let pair = key();
    let named = vec![exception("site.com", &[pin(&pair)])];
    let (mut world, site) = world(named, self_signed("site.com", &pair, |_| ()), &pair).await;
    world.budget.wire_bytes = 300;
    let proxy = world.open().await;
    is_refused(&proxy, &site, "budget_wire_bytes", "handshake").await;
}

#[tokio::test]
async fn the_end_of_the_capture_cuts_a_named_hosts_connection() {
    let pair = key();
    let named = vec![exception("site.com", &[pin(&pair)])];
    let (mut world, _site) = world(named, self_signed("site.com", &pair, |_| ()), &pair).await;
    world.deadline = Duration::from_millis(700);
    let proxy = world.open().await;
    let mut tunnel = tunnelled(&proxy, "site.com", 443).await.unwrap();
    assert_eq!(tunnel.ask(GET).await, HELLO);
    let end = timeout(Duration::from_secs(5), tunnel.stream.read(&mut [0; 1])).await;
    assert!(!matches!(end.unwrap(), Ok(count) if count > 0));
    assert_eq!(proxy.session.report().tripped, Some(Refusal::Budget(Spent::Deadline)));
}

#[tokio::test]
async fn a_target_that_does_not_come_to_terms_is_named_and_no_host_waits_for_ever() {
    let pair = key();
    let named = || vec![exception("site.com", &[pin(&pair)])];
    let target = async |word| {
        let (mut world, target) = (World::new(), Target::new().await);
        world.timings.header = Duration::from_millis(400);
        world.names.set("site.com", &[&[PUBLIC]]);
        world.wires.route(&format!("{PUBLIC}:443"), target.address);
        world.rules.tls.hosts = named();
        let proxy = world.open().await;
        let visit = tunnelled(&proxy, "site.com", 443);
        let answer = async {
            let mut stream = target.accept().await;
            match word {
                "tls_closed" => drop(stream),
                "tls_protocol" => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap(),
                _ => {
                    let mut sink = Vec::new();
                    let _ = stream.read_to_end(&mut sink).await;
                }
            }
        };
        assert!(tokio::join!(visit, answer).0.is_none(), "{word}");
        assert_eq!(proxy.outcomes(1).await, [word]);
    };
    for word in ["tls_closed", "tls_protocol", "tls_timeout"] {
        target(word).await;
    }
    // HTTP/2 alone is not spoken.
    let (mut world, target) = (World::new(), Target::new().await);
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:443"), target.address);
    world.rules.tls.hosts = named();
    let site = serve(target, self_signed("site.com", &pair, |_| ()), &pair, &["h2"]);
    is_refused(&world.open().await, &site, "tls_protocol", "h2 alone").await;
}

#[tokio::test]
async fn what_is_not_tls_to_a_named_host_is_as_ever() {
    let (mut world, target) = (World::new(), Target::new().await);
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(&format!("{PUBLIC}:80"), target.address);
    world.rules.tls.hosts = vec![exception("site.com", &[pin(&key())])];
    let proxy = world.open().await;
    let (mut browser, _) = proxy.tunnel("site.com:80").await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: site.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    browser.write_all(upgrade.as_bytes()).await.unwrap();
    let mut seen = target.accept().await;
    assert!(head_of(&mut seen).await.starts_with("GET /ws HTTP/1.1\r\n"));
    seen.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nframe")
        .await
        .unwrap();
    assert!(head_of(&mut browser).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(exactly(&mut browser, 5).await, b"frame");
}
