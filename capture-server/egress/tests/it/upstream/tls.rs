//! TLS to the upstream itself, and through it to hosts that are known by their keys.

use std::sync::Arc;
use std::time::Duration;

use capture_egress::Access;
use rcgen::KeyPair;
use screenshot_policy::egress::UpstreamScheme;
use tokio::io::AsyncWriteExt;

use super::server::{Manner, UpstreamServer};
use super::{SCHEMES, behind, honest};
use crate::authority::{HELLO, pin, self_signed, serve, tunnelled};
use crate::harness::{OK, PUBLIC, Target, exactly, hello, reason};
use crate::pins::{GET, exception};

#[tokio::test]
async fn an_upstream_over_tls_is_the_one_that_was_named_or_hears_nothing() {
    let https = UpstreamScheme::Https;
    let site = Target::new().await.answering(OK);
    let (named, other) = (honest(https).await, honest(https).await);
    let misnamed = UpstreamServer::named(https, Manner::Honest, site, &["proxy.example.org", "10.9.9.8"]).await;
    let plain = honest(UpstreamScheme::Http).await;
    for (server, bundle, word) in [
        (&named, Some(&other.bundle), "upstream_certificate"),
        (&named, None, "upstream_certificate"),
        (&misnamed, Some(&misnamed.bundle), "upstream_certificate"),
        (&plain, Some(&named.bundle), "upstream_tls"),
    ] {
        let mut world = behind(server, https);
        world.timings.connect = Duration::from_millis(500);
        let access = Access::new(https, None, bundle.map(String::as_bytes)).unwrap();
        world.access.send_replace(Arc::new(access));
        let answer = world.open().await.get("http://site.com/").await;
        // Who speaks no TLS may also wait for a line that does not come.
        let told = reason(&answer);
        assert!(
            told == word || (word == "upstream_tls" && told == "upstream_timeout"),
            "{word}: {answer}"
        );
        assert!(server.asked().is_empty(), "{:?}", server.heard());
    }
    let world = behind(&named, https);
    world.access.send_replace(Arc::default());
    assert_eq!(
        reason(&world.open().await.get("http://site.com/").await),
        "upstream_tls"
    );
}

#[tokio::test]
async fn much_is_carried_both_ways_through_an_upstream_over_tls() {
    let target = Target::new().await;
    let server = UpstreamServer::start(UpstreamScheme::Https, Manner::Honest, target.address).await;
    let world = behind(&server, UpstreamScheme::Https);
    let proxy = world.open().await;
    let first = hello(Some("site.com"));
    let (mut stream, _) = proxy.tunnel("site.com:443").await;
    stream.write_all(&first).await.unwrap();
    let mut seen = target.accept().await;
    assert_eq!(exactly(&mut seen, first.len()).await, first);
    let much = vec![7; 3_000_000];
    // The target reads only after everything was written: what does not fit into the sockets must not be lost on the way.
    let sent = async {
        stream.write_all(&much).await.unwrap();
        stream.flush().await.unwrap();
    };
    let received = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        exactly(&mut seen, 3_000_000).await
    };
    let ((), there) = tokio::join!(sent, received);
    assert!(there == much);
    seen.write_all(&much).await.unwrap();
    assert!(exactly(&mut stream, 3_000_000).await == much);
    assert!(proxy.session.report().bytes >= 6_000_000);
}

#[tokio::test]
async fn a_host_that_is_known_by_its_key_has_to_prove_it_through_the_upstream_too() {
    let (pair, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for scheme in SCHEMES {
        for (key, known) in [(pin(&pair), true), (pin(&other), false)] {
            let target = Target::new().await;
            let server = UpstreamServer::start(scheme, Manner::Honest, target.address).await;
            let site = serve(target, self_signed("site.com", &pair, |_| ()), &pair, &[]);
            let mut world = behind(&server, scheme);
            world.rules.tls.hosts = vec![exception("site.com", &[key])];
            let proxy = world.open().await;
            let tunnel = tunnelled(&proxy, "site.com", 443).await;
            assert_eq!(server.asked(), [format!("{PUBLIC}:443")], "{scheme:?}");
            if known {
                assert_eq!(tunnel.unwrap().ask(GET).await, HELLO, "{scheme:?}");
                assert_eq!(proxy.outcomes(1).await, ["allowed"]);
            } else {
                assert!(tunnel.is_none(), "{scheme:?}");
                assert_eq!(proxy.outcomes(1).await, ["tls_pin_mismatch"]);
                assert!(site.asked.lock().unwrap().is_empty(), "{scheme:?}");
            }
        }
    }
}
