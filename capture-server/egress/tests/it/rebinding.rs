//! T8: a name server that belongs to the attacker, asked by the resolver that ships, over real sockets.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capture_egress::SystemResolver;

use crate::harness::{OK, PUBLIC, Target, World, reason};
use crate::name_server::{A, AAAA, NameServer, Reply, addresses, alias};

const PATIENCE: Duration = Duration::from_millis(700);

/// A world whose names are the server's, and in which the public address answers.
async fn world(server: &NameServer) -> World {
    let mut world = World::new();
    world.resolver = Some(Arc::new(SystemResolver::asking(&[server.address], PATIENCE).unwrap()));
    world
        .wires
        .route(&format!("{PUBLIC}:80"), Target::new().await.answering(OK));
    world
}

fn dialled(world: &World) -> Vec<String> {
    world.wires.dialled().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn t8_first_a_public_address_then_a_private_one_is_judged_anew_each_time() {
    for ttl in [0, 3600] {
        let server = NameServer::start(move |name, kind, before| {
            let ip = if before == 0 { PUBLIC } else { "127.0.0.1" };
            vec![Reply {
                ttl,
                ..Reply::of(addresses(name, kind, &[ip]))
            }]
        })
        .await;
        let world = world(&server).await;
        let proxy = world.open().await;
        assert!(proxy.get("http://rebind.com/").await.starts_with("HTTP/1.1 200"));
        assert_eq!(reason(&proxy.get("http://rebind.com/").await), "loopback_address");
        assert_eq!(dialled(&world), [format!("{PUBLIC}:80")], "ttl {ttl}");
    }
}

#[tokio::test]
async fn t8_one_connection_is_one_look_up_and_the_dial_takes_no_other() {
    let server = NameServer::start(|name, kind, before| {
        // Whoever asked again would get another answer.
        let ip = if before == 0 { PUBLIC } else { "6.6.6.6" };
        vec![Reply::of(addresses(name, kind, &[ip]))]
    })
    .await;
    let world = world(&server).await;
    let proxy = world.open().await;
    assert!(proxy.get("http://once.com/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.count("once.com"), [(A, 1), (AAAA, 1)].into());
    assert_eq!(dialled(&world), [format!("{PUBLIC}:80")]);
}

#[tokio::test]
async fn t8_one_special_answer_of_either_family_refuses_the_name() {
    for (ips, class) in [
        (&[PUBLIC, "10.0.0.1"][..], "private_address"),
        (&["10.0.0.1", PUBLIC], "private_address"),
        (&[PUBLIC, "fd00::1"], "unique_local_address"),
        (&[PUBLIC, "::ffff:169.254.169.254"], "metadata_address"),
        (&[PUBLIC, "2002:a9fe:a9fe::1"], "embedded_ipv4_address"),
        (&[PUBLIC, "64:ff9b::a9fe:a9fe"], "embedded_ipv4_address"),
    ] {
        let server = NameServer::start(|name, kind, _| vec![Reply::of(addresses(name, kind, ips))]).await;
        let world = world(&server).await;
        let proxy = world.open().await;
        assert_eq!(reason(&proxy.get("http://mixed.com/").await), class, "{ips:?}");
        assert!(world.wires.dialled().is_empty());
    }
}

#[tokio::test]
async fn t8_the_special_answer_may_come_last_and_late() {
    let server = NameServer::start(|name, kind, _| {
        let after = Duration::from_millis(if kind == AAAA { 200 } else { 0 });
        vec![Reply {
            after,
            ..Reply::of(addresses(name, kind, &[PUBLIC, "::1"]))
        }]
    })
    .await;
    let world = world(&server).await;
    let proxy = world.open().await;
    assert_eq!(reason(&proxy.get("http://race.com/").await), "loopback_address");
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t8_an_alias_of_an_internal_name_is_refused_whatever_address_it_has() {
    for (target, ip, word) in [
        ("kubernetes.default.svc.cluster.local", PUBLIC, "cluster_name"),
        ("web.t1.svc", PUBLIC, "cluster_name"),
        ("localhost", PUBLIC, "localhost_name"),
        ("metadata.google.internal", PUBLIC, "metadata_name"),
        ("intra.example.org", "10.0.0.1", "private_address"),
    ] {
        let server = NameServer::start(move |name, kind, _| {
            let mut records = vec![alias("evil.com", target)];
            records.extend(addresses(target, kind, &[ip]));
            let other = addresses(name, kind, &[ip]);
            vec![Reply::of(if name == "evil.com" { records } else { other })]
        })
        .await;
        let world = world(&server).await;
        let proxy = world.open().await;
        assert_eq!(reason(&proxy.get("http://evil.com/").await), word, "{target}");
        assert!(world.wires.dialled().is_empty());
    }
}

/// The cluster's own name server would follow an alias for the browser: each hop is a question of its own here.
#[tokio::test]
async fn t8_an_alias_that_is_followed_by_a_question_is_judged_too() {
    let server = NameServer::start(|name, kind, _| {
        vec![Reply::of(if name == "evil.com" {
            vec![alias("evil.com", "db.shop.svc.cluster.local")]
        } else {
            addresses(name, kind, &[PUBLIC])
        })]
    })
    .await;
    let world = world(&server).await;
    let proxy = world.open().await;
    assert_eq!(reason(&proxy.get("http://evil.com/").await), "cluster_name");
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t8_chains_of_aliases_are_bounded_and_loops_end() {
    for (length, word) in [(8, None), (9, Some("too_many_aliases"))] {
        let server = NameServer::start(move |_, kind, _| {
            let name = |n: usize| {
                if n == 0 {
                    "chain.com".to_owned()
                } else {
                    format!("a{n}.net")
                }
            };
            let mut records: Vec<_> = (0..length).map(|n| alias(&name(n), &name(n + 1))).collect();
            records.extend(addresses(&name(length), kind, &[PUBLIC]));
            vec![Reply::of(records)]
        })
        .await;
        let world = world(&server).await;
        let proxy = world.open().await;
        let answer = proxy.get("http://chain.com/").await;
        match word {
            None => assert!(answer.starts_with("HTTP/1.1 200"), "{answer}"),
            Some(expected) => assert_eq!(reason(&answer), expected),
        }
    }
    let server = NameServer::start(|name, _, _| {
        let (from, to) = if name == "a.com" {
            ("a.com", "b.com")
        } else {
            ("b.com", "a.com")
        };
        vec![Reply::of(vec![alias(from, to)])]
    })
    .await;
    let world = world(&server).await;
    let proxy = world.open().await;
    let answer = reason(&proxy.get("http://a.com/").await);
    assert!(
        ["dns_failed", "dns_not_found", "no_address"].contains(&answer.as_str()),
        "{answer}"
    );
    assert!(server.asked().len() < 64, "{}", server.asked().len());
}

#[tokio::test]
async fn t8_more_answers_than_are_looked_at_refuse_the_name() {
    for (count, word) in [
        (64, None),
        (65, Some("too_many_addresses")),
        (2000, Some("too_many_addresses")),
    ] {
        let server = NameServer::start(move |name, kind, _| {
            let ips: Vec<String> = (0..count)
                .map(|n| format!("93.184.{}.{}", n / 250, n % 250 + 1))
                .collect();
            let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
            vec![Reply {
                truncated: true,
                ..Reply::of(addresses(name, kind, &ips))
            }]
        })
        .await;
        let mut world = world(&server).await;
        world.timings.connect = Duration::from_secs(1);
        let proxy = world.open().await;
        let answer = reason(&proxy.get("http://many.com/").await);
        assert_eq!(answer, word.unwrap_or("connect_refused"), "{count}");
        assert_eq!(world.wires.dialled().is_empty(), word.is_some(), "{count}");
    }
}

#[tokio::test]
async fn t8_a_server_that_does_not_answer_costs_a_bounded_time() {
    let server = NameServer::start(|_, _, _| vec![]).await;
    let world = world(&server).await;
    let proxy = world.open().await;
    let begun = Instant::now();
    assert_eq!(reason(&proxy.get("http://slow.com/").await), "dns_timeout");
    assert!(
        (PATIENCE..PATIENCE * 4).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn t8_an_answer_with_a_lying_transaction_id_is_not_taken() {
    let server = NameServer::start(|name, kind, _| {
        let mut replies: Vec<Reply> = (1..20)
            .map(|lie| Reply {
                lie,
                ..Reply::of(addresses(name, kind, &["6.6.6.6"]))
            })
            .collect();
        replies.push(Reply {
            after: Duration::from_millis(100),
            ..Reply::of(addresses(name, kind, &[PUBLIC]))
        });
        replies
    })
    .await;
    let world = world(&server).await;
    let proxy = world.open().await;
    let answer = proxy.get("http://honest.com/").await;
    assert!(
        !dialled(&world).contains(&"6.6.6.6:80".to_owned()),
        "the lie was dialled"
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_failing_server_and_a_name_that_does_not_exist_are_told_apart() {
    for (code, word) in [(2, "dns_failed"), (3, "dns_not_found")] {
        let server = NameServer::start(move |_, _, _| {
            vec![Reply {
                code,
                ..Reply::default()
            }]
        })
        .await;
        let world = world(&server).await;
        let proxy = world.open().await;
        assert_eq!(reason(&proxy.get("http://gone.com/").await), word);
    }
}

/// Where the test before the test puts a name into a hosts file of its own.
const HOSTS: &str =
    "f=$(mktemp) && echo '6.6.6.6 known.com' > $f && mount --bind $f /etc/hosts && rm $f && exec \"$@\"";
const WITH_HOSTS: &str = "IT_WITH_HOSTS";

#[tokio::test]
async fn a_name_of_the_hosts_file_is_asked_for_like_any_other() {
    if std::env::var_os(WITH_HOSTS).is_none() {
        let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let again = Command::new("unshare")
            .args(if root { &["-m"][..] } else { &["-r", "-m"] })
            .args(["sh", "-c", HOSTS, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "rebinding::a_name_of_the_hosts_file_is_asked_for_like_any_other",
            ])
            .env(WITH_HOSTS, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && told.contains("1 passed"), "{again:?}");
        return;
    }
    let server = NameServer::start(|name, kind, _| vec![Reply::of(addresses(name, kind, &[PUBLIC]))]).await;
    let world = world(&server).await;
    let proxy = world.open().await;
    assert!(proxy.get("http://known.com/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.count("known.com"), [(A, 1), (AAAA, 1)].into());
    assert_eq!(dialled(&world), [format!("{PUBLIC}:80")]);
}
