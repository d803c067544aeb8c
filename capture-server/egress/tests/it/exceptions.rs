//! Named exceptions: exactly one host, its ports, until they expire, and never everything.

use screenshot_policy::egress::EgressException;
use screenshot_policy::unit::Port;

use crate::harness::{OK, PUBLIC, Target, World, hello, reason};

fn exception(host: &str, cidr: Option<&str>) -> EgressException {
    EgressException {
        host: host.parse().unwrap(),
        ports: vec![Port::try_from(8080u64).unwrap()],
        cidr: cidr.map(|text| text.parse().unwrap()),
        reason: "a test".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
    }
}

/// The name server of a cluster knows Services below the cluster's domain alone.
async fn with_exception(cidr: Option<&str>) -> World {
    let mut world = World::new();
    world.rules.exceptions = vec![exception("web.t1.svc", cidr)];
    world.names.set("web.t1.svc.cluster.local", &[&["10.1.0.7"]]);
    world.wires.route("10.1.0.7:8080", Target::new().await.answering(OK));
    world
}

#[tokio::test]
async fn an_exception_opens_its_host_on_its_port() {
    let proxy = with_exception(None).await.open().await;
    assert!(proxy.get("http://web.t1.svc:8080/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn what_is_denied_by_its_full_name_is_not_opened_by_its_short_one() {
    for denied in ["web.t1.svc", "web.t1.svc.cluster.local", "*.cluster.local"] {
        let mut world = with_exception(None).await;
        world.rules.domains.deny = vec![denied.parse().unwrap()];
        let proxy = world.open().await;
        assert_eq!(
            reason(&proxy.get("http://web.t1.svc:8080/").await),
            "denied_name",
            "{denied}"
        );
        assert!(world.wires.dialled().is_empty());
    }
}

#[tokio::test]
async fn an_exception_opens_nothing_else() {
    let world = with_exception(None).await;
    world.names.set("other.com", &[&["10.1.0.7"]]);
    let proxy = world.open().await;
    for (url, word) in [
        ("http://web.t1.svc/", "cluster_name"),
        ("http://web.t1.svc:8081/", "cluster_name"),
        ("http://sub.web.t1.svc:8080/", "cluster_name"),
        ("http://other.t1.svc:8080/", "cluster_name"),
        ("http://10.1.0.7:8080/", "private_address"),
        ("http://other.com/", "private_address"),
        ("http://other.com:8080/", "port_not_allowed"),
    ] {
        assert_eq!(reason(&proxy.get(url).await), word, "{url}");
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn an_expired_exception_opens_nothing() {
    let world = with_exception(None).await;
    let proxy = world.open().await;
    *world.now.lock().unwrap() = "2026-11-30T23:59:59Z".parse().unwrap();
    assert!(proxy.get("http://web.t1.svc:8080/").await.starts_with("HTTP/1.1 200"));
    *world.now.lock().unwrap() = "2026-12-01T00:00:00Z".parse().unwrap();
    assert_eq!(reason(&proxy.get("http://web.t1.svc:8080/").await), "cluster_name");
    assert_eq!(world.wires.dialled().len(), 1);
}

#[tokio::test]
async fn an_exception_that_ends_during_the_look_up_opens_nothing() {
    let world = with_exception(None).await;
    let proxy = world.open().await;
    let now = std::sync::Arc::clone(&world.now);
    let end = move || *now.lock().unwrap() = "2026-12-01T00:00:00Z".parse().unwrap();
    *world.names.meanwhile.lock().unwrap() = Some(std::sync::Arc::new(end));
    assert_eq!(reason(&proxy.get("http://web.t1.svc:8080/").await), "outside_exception");
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn no_exception_opens_metadata_loopback_or_the_link() {
    let world = with_exception(None).await;
    let proxy = world.open().await;
    for (ip, class) in [
        ("169.254.169.254", "metadata_address"),
        ("169.254.170.23", "metadata_address"),
        ("100.100.100.200", "metadata_address"),
        ("168.63.129.16", "metadata_address"),
        ("fd00:ec2::254", "metadata_address"),
        ("::ffff:169.254.169.254", "metadata_address"),
        ("127.0.0.1", "loopback_address"),
        ("::1", "loopback_address"),
        ("169.254.9.9", "link_local_address"),
        ("fe80::1", "link_local_address"),
        ("0.0.0.0", "unspecified_address"),
        ("224.0.0.1", "multicast_address"),
    ] {
        for answers in [&[ip][..], &["10.1.0.7", ip]] {
            world.names.set("web.t1.svc.cluster.local", &[answers]);
            assert_eq!(
                reason(&proxy.get("http://web.t1.svc:8080/").await),
                class,
                "{answers:?}"
            );
        }
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn an_exception_with_a_range_admits_only_addresses_in_it() {
    let world = with_exception(Some("10.1.0.0/16")).await;
    let proxy = world.open().await;
    assert!(proxy.get("http://web.t1.svc:8080/").await.starts_with("HTTP/1.1 200"));
    for answers in [&["10.2.0.7"][..], &["10.1.0.7", "10.2.0.7"], &["10.1.0.7", PUBLIC]] {
        world.names.set("web.t1.svc.cluster.local", &[answers]);
        assert_eq!(
            reason(&proxy.get("http://web.t1.svc:8080/").await),
            "outside_exception",
            "{answers:?}"
        );
    }
    assert_eq!(world.wires.dialled().len(), 1);
}

#[tokio::test]
async fn a_tunnel_to_an_exception_still_needs_tls_for_its_host() {
    let target = Target::new().await;
    let world = with_exception(None).await;
    world.wires.route("10.1.0.7:8080", target.address);
    let proxy = world.open().await;
    let (mut stream, head) = proxy.tunnel("web.t1.svc:8080").await;
    assert!(head.starts_with("HTTP/1.1 200"));
    tokio::io::AsyncWriteExt::write_all(&mut stream, &hello(Some("other.com")))
        .await
        .unwrap();
    assert_eq!(proxy.outcomes(1).await, ["tunnel_sni_mismatch"]);
}
