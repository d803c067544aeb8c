//! TLS to the upstream itself.

use std::sync::Arc;
use std::time::Duration;

use capture_egress::Access;
use screenshot_policy::egress::UpstreamScheme;
use tokio::io::AsyncWriteExt;

use super::server::{Manner, UpstreamServer};
use super::{behind, honest};
use crate::harness::{OK, Target, exactly, hello, reason};

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
