//! Which destinations pass: names, addresses, ports, every answer, every time.

use std::net::SocketAddr;

use capture_egress::{Fault, ResolveError};

use crate::harness::{PUBLIC, Target, World, reason, refusal, with_site};

/// Special addresses in the spellings that a URL may have them in, and the word for each.
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0", "unspecified_address"),
    ("10.0.0.1", "private_address"),
    ("100.64.0.1", "shared_address"),
    ("127.0.0.1", "loopback_address"),
    ("127.255.255.254", "loopback_address"),
    ("169.254.1.1", "link_local_address"),
    ("169.254.169.254", "metadata_address"),
    ("169.254.170.2", "metadata_address"),
    ("100.100.100.200", "metadata_address"),
    ("168.63.129.16", "metadata_address"),
    ("172.16.0.1", "private_address"),
    ("172.31.255.255", "private_address"),
    ("192.168.0.1", "private_address"),
    ("198.18.0.1", "benchmarking_address"),
    ("224.0.0.1", "multicast_address"),
    ("240.0.0.1", "reserved_address"),
    ("255.255.255.255", "broadcast_address"),
    ("::", "unspecified_address"),
    ("::1", "loopback_address"),
    ("::ffff:127.0.0.1", "loopback_address"),
    ("::ffff:a9fe:a9fe", "metadata_address"),
    ("::ffff:10.0.0.1", "private_address"),
    ("fe80::1", "link_local_address"),
    ("fd00::1", "unique_local_address"),
    ("fd00:ec2::254", "metadata_address"),
    ("ff02::1", "multicast_address"),
    ("fec0::1", "site_local_address"),
];

fn literal(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}

#[tokio::test]
async fn a_public_address_is_dialled_and_nothing_else() {
    let world = with_site().await;
    let proxy = world.open().await;
    assert!(proxy.get("http://site.com/").await.ends_with("\r\n\r\nhi"));
    assert_eq!(
        world.wires.dialled(),
        [format!("{PUBLIC}:80").parse::<SocketAddr>().unwrap()]
    );
    let decision = proxy.session.report().decisions.remove(0);
    assert_eq!(
        (decision.host.as_str(), decision.port, decision.outcome),
        ("site.com", 80, "allowed")
    );
    assert_eq!(decision.address, Some(PUBLIC.parse().unwrap()));
}

#[tokio::test]
async fn a_literal_special_address_is_refused_by_its_class_in_both_ways_of_asking() {
    let world = World::new();
    let proxy = world.open().await;
    for (ip, class) in SPECIAL {
        let host = literal(ip);
        let expected = (403, "destination_ip_prohibited".to_owned(), (*class).to_owned());
        assert_eq!(
            refusal(&proxy.get(&format!("http://{host}/")).await),
            expected,
            "{host}"
        );
        assert_eq!(
            refusal(&proxy.tunnel(&format!("{host}:443")).await.1),
            expected,
            "{host}"
        );
    }
    assert_eq!((world.names.asked().len(), world.wires.dialled().len()), (0, 0));
}

#[tokio::test]
async fn a_name_that_answers_with_a_special_address_is_refused_by_its_class() {
    let world = World::new();
    let proxy = world.open().await;
    for (ip, class) in SPECIAL {
        world.names.set("evil.com", &[&[ip]]);
        assert_eq!(reason(&proxy.get("http://evil.com/").await), *class, "{ip}");
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn one_special_answer_among_public_ones_refuses_the_name_wherever_it_stands() {
    let world = World::new();
    let proxy = world.open().await;
    for (ip, class) in SPECIAL {
        for answers in [[PUBLIC, ip], [ip, PUBLIC]] {
            world.names.set("mixed.com", &[&answers]);
            assert_eq!(reason(&proxy.get("http://mixed.com/").await), *class, "{answers:?}");
        }
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn a_name_that_rebinds_between_two_connections_is_checked_each_time() {
    let world = with_site().await;
    world.names.set("rebind.com", &[&[PUBLIC], &["127.0.0.1"], &[PUBLIC]]);
    let proxy = world.open().await;
    assert!(proxy.get("http://rebind.com/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(reason(&proxy.get("http://rebind.com/").await), "loopback_address");
    assert!(proxy.get("http://rebind.com/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.names.asked().len(), 3);
    assert_eq!(world.wires.dialled().len(), 2);
}

#[tokio::test]
async fn every_other_spelling_of_loopback_is_refused_without_a_look_up() {
    let world = World::new();
    let proxy = world.open().await;
    for host in [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "017700000001",
        "0",
        "127.0.0.1.",
    ] {
        let expected = (400, "http_request_error".to_owned(), "head_authority".to_owned());
        assert_eq!(
            refusal(&proxy.get(&format!("http://{host}/")).await),
            expected,
            "{host}"
        );
        assert_eq!(
            refusal(&proxy.tunnel(&format!("{host}:443")).await.1),
            expected,
            "{host}"
        );
    }
    assert_eq!((world.names.asked().len(), world.wires.dialled().len()), (0, 0));
}

#[tokio::test]
async fn special_names_are_refused_before_any_look_up() {
    let world = World::new();
    let proxy = world.open().await;
    for name in [
        "localhost",
        "a.localhost",
        "kubernetes",
        "printer.local",
        "web.t1.svc",
        "web.t1.svc.cluster.local",
        "db.internal",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "router.home.arpa",
        "x.onion",
        "x.invalid",
        "x.test",
        "x.alt",
    ] {
        let (status, error, details) = refusal(&proxy.get(&format!("http://{name}/")).await);
        assert_eq!((status, error.as_str()), (403, "http_request_denied"), "{name}");
        assert!(details.ends_with("_name"), "{name}: {details}");
    }
    assert!(world.names.asked().is_empty());
}

#[tokio::test]
async fn ports_other_than_the_policys_are_refused_before_any_look_up() {
    let world = with_site().await;
    let proxy = world.open().await;
    for port in [1, 22, 25, 53, 81, 445, 2379, 6379, 6443, 8080, 8443, 10250, 65535] {
        assert_eq!(
            reason(&proxy.get(&format!("http://site.com:{port}/")).await),
            "port_not_allowed",
            "{port}"
        );
        assert_eq!(
            reason(&proxy.tunnel(&format!("site.com:{port}")).await.1),
            "port_not_allowed",
            "{port}"
        );
    }
    assert!(world.names.asked().is_empty());
}

#[tokio::test]
async fn a_name_without_an_address_is_the_targets_fault() {
    let world = World::new();
    world.names.script("late.com", [Err(ResolveError::Timeout)].into());
    world.names.script("broken.com", [Err(ResolveError::Failed)].into());
    world.names.set("empty.com", &[&[]]);
    let proxy = world.open().await;
    let row = |status, error: &str, details: &str| (status, error.to_owned(), details.to_owned());
    assert_eq!(
        refusal(&proxy.get("http://missing.com/").await),
        row(502, "dns_error", "dns_not_found")
    );
    assert_eq!(
        refusal(&proxy.get("http://late.com/").await),
        row(504, "dns_timeout", "dns_timeout")
    );
    assert_eq!(
        refusal(&proxy.get("http://broken.com/").await),
        row(502, "dns_error", "dns_failed")
    );
    assert_eq!(
        refusal(&proxy.get("http://empty.com/").await),
        row(502, "dns_error", "no_address")
    );
    let faults = proxy
        .session
        .refusals()
        .into_iter()
        .filter_map(|decision| decision.refusal);
    assert!(
        faults
            .map(|refusal| refusal.fault())
            .all(|fault| fault == Fault::Target)
    );
}

#[tokio::test]
async fn the_next_checked_address_is_tried_when_one_refuses() {
    let world = with_site().await;
    world.names.set("two.com", &[&["2606:4700::1", "1.1.1.1", PUBLIC]]);
    let proxy = world.open().await;
    assert!(proxy.get("http://two.com/").await.starts_with("HTTP/1.1 200"));
    let dialled: Vec<String> = world.wires.dialled().iter().map(ToString::to_string).collect();
    assert_eq!(dialled, ["1.1.1.1:80".to_owned(), format!("{PUBLIC}:80")]);
}

#[tokio::test]
async fn the_next_checked_address_is_tried_when_one_is_silent() {
    let mut world = with_site().await;
    world.timings.connect = std::time::Duration::from_millis(500);
    world.names.set("two.com", &[&["1.1.1.1", PUBLIC]]);
    world.wires.silence("1.1.1.1:80");
    let proxy = world.open().await;
    assert!(proxy.get("http://two.com/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_target_that_refuses_every_connection_gives_502() {
    let world = World::new();
    world.names.set("down.com", &[&["1.1.1.1"]]);
    let proxy = world.open().await;
    let expected = (502, "connection_refused".to_owned(), "connect_refused".to_owned());
    assert_eq!(refusal(&proxy.get("http://down.com/").await), expected);
    assert_eq!(refusal(&proxy.tunnel("down.com:443").await.1), expected);
}

#[tokio::test]
async fn more_answers_than_the_policy_looks_at_are_refused_not_cut_off() {
    let world = with_site().await;
    let many: Vec<String> = (0..200).map(|last| format!("1.1.1.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    world.names.set("many.com", &[&many]);
    let proxy = world.open().await;
    assert_eq!(reason(&proxy.get("http://many.com/").await), "too_many_addresses");
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn a_refused_destination_is_never_contacted_even_if_something_listens_there() {
    let target = Target::new().await;
    let world = World::new();
    world.wires.route("127.0.0.1:80", target.address);
    world.names.set("evil.com", &[&["127.0.0.1"]]);
    let proxy = world.open().await;
    let _ = proxy.get("http://evil.com/").await;
    let _ = proxy.get("http://127.0.0.1/").await;
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn a_target_that_never_answers_gives_504_in_twice_the_time_of_one_attempt() {
    let mut world = World::new();
    world.timings.connect = std::time::Duration::from_millis(100);
    let ips = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"];
    world.names.set("hole.com", &[&ips]);
    for ip in ips {
        world.wires.silence(&format!("{ip}:80"));
    }
    let proxy = world.open().await;
    let expected = (504, "connection_timeout".to_owned(), "connect_timeout".to_owned());
    assert_eq!(refusal(&proxy.get("http://hole.com/").await), expected);
    assert!(world.wires.dialled().len() < ips.len(), "{:?}", world.wires.dialled());
}
