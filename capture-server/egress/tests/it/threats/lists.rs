//! Lists that allow and deny: T16, T27, T28.

use std::time::{Duration, Instant};

use screenshot_policy::egress::EgressException;
use screenshot_policy::unit::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{OK, PUBLIC, Target, World, hello, reason, with_site};

#[tokio::test]
async fn t16_the_longest_lists_decide_in_no_time() {
    let mut world = with_site().await;
    let long = ["a".repeat(60), "a".repeat(63), "a".repeat(63), "a".repeat(55)].join(".");
    world.rules.domains.deny = (0..256).map(|n| format!("*.{n:03}{long}").parse().unwrap()).collect();
    world.rules.cidrs.deny = (0..128).map(|n| format!("1.{n}.0.0/16").parse().unwrap()).collect();
    let policy = world.policy();
    let (host, now) = (
        format!("b.{long}").parse().unwrap(),
        crate::harness::NOW.parse().unwrap(),
    );
    let begun = Instant::now();
    for _ in 0..100 {
        let verdict = policy.admit_host(&host, 443, now).unwrap();
        assert!(
            policy
                .admit_addresses(&verdict, &[PUBLIC.parse().unwrap(); 64], now)
                .is_ok()
        );
    }
    assert!(
        begun.elapsed() / 100 < Duration::from_millis(10),
        "{:?}",
        begun.elapsed() / 100
    );
}

#[tokio::test]
async fn t27_an_allow_list_compares_parsed_hosts() {
    let mut world = with_site().await;
    world.rules.domains.allow = vec!["good.com".parse().unwrap(), "*.good.com".parse().unwrap()];
    for name in ["good.com", "www.good.com", "good.com.evil.net", "notgood.com"] {
        world.names.set(name, &[&[PUBLIC]]);
    }
    let proxy = world.open().await;
    for host in ["good.com", "www.good.com", "GOOD.com."] {
        assert!(
            proxy.get(&format!("http://{host}/")).await.starts_with("HTTP/1.1 200"),
            "{host}"
        );
    }
    for (url, word) in [
        ("http://good.com.evil.net/", "unlisted_name"),
        ("http://notgood.com/", "unlisted_name"),
        ("http://evil.net/good.com", "unlisted_name"),
        ("http://evil.net/?http://good.com", "unlisted_name"),
        ("http://93.184.216.34/", "unlisted_name"),
        ("http://good.com@evil.net/", "head_userinfo"),
        ("http://good.com:80@evil.net/", "head_userinfo"),
        ("http://good.com\\@evil.net/", "head_userinfo"),
        ("http://good.com\\.evil.net/", "head_authority"),
        ("http://good.com#@evil.net/", "head_malformed"),
    ] {
        assert_eq!(reason(&proxy.get(url).await), word, "{url}");
    }
    let asked = world.names.asked();
    assert!(asked.iter().all(|name| name.ends_with("good.com")), "{asked:?}");
}

#[tokio::test]
async fn t28_an_entry_that_allows_switches_no_other_check_off() {
    let mut world = World::new();
    world.rules.domains.allow = vec!["*.com".parse().unwrap()];
    world.rules.cidrs.allow = vec!["0.0.0.0/0".parse().unwrap()];
    world.rules.exceptions = vec![EgressException {
        host: "intra.com".parse().unwrap(),
        ports: vec![Port::try_from(8080u64).unwrap(), Port::HTTPS],
        cidr: Some("10.1.0.0/16".parse().unwrap()),
        reason: "a test".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
    }];
    world.names.set(
        "intra.com",
        &[
            &["10.1.0.1"],
            &["169.254.169.254"],
            &["127.0.0.1"],
            &["10.2.0.1"],
            &["10.1.0.1"],
        ],
    );
    world.names.set("site.com", &[&["10.1.0.1"]]);
    let target = Target::new().await;
    let address = target.address;
    world.wires.route("10.1.0.1:8080", Target::new().await.answering(OK));
    world.wires.route("10.1.0.1:443", address);
    let proxy = world.open().await;
    let get = async |url: &str| proxy.get(url).await;
    assert!(get("http://intra.com:8080/").await.starts_with("HTTP/1.1 200"));
    // Pinned anew for each connection, metadata and loopback closed, the range kept to.
    assert_eq!(reason(&get("http://intra.com:8080/").await), "metadata_address");
    assert_eq!(reason(&get("http://intra.com:8080/").await), "loopback_address");
    assert_eq!(reason(&get("http://intra.com:8080/").await), "outside_exception");
    // Ports and schemes as ever, and TLS for the host in a tunnel.
    assert_eq!(reason(&get("http://intra.com:22/").await), "port_not_allowed");
    assert_eq!(reason(&get("https://intra.com:8080/").await), "head_scheme");
    assert_eq!(reason(&get("http://10.1.0.1:8080/").await), "private_address");
    assert_eq!(reason(&get("http://site.com/").await), "private_address");
    let (mut stream, _) = proxy.tunnel("intra.com:443").await;
    let mut seen = target.accept().await;
    stream.write_all(&hello(Some("other.com"))).await.unwrap();
    assert_eq!(crate::harness::to_end(&mut seen).await, "");
}
