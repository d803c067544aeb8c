//! Everything public goes through the upstream, what it is asked for is decided here, and it is not trusted.

mod answers;
mod server;
mod tls;

use std::sync::Arc;

use capture_egress::{Access, Answers, Credentials, MAX_CREDENTIAL};
use screenshot_policy::egress::{EgressException, Resolution, UpstreamProxy, UpstreamScheme};
use screenshot_policy::unit::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{OK, PUBLIC, Target, World, exactly, hello, reason, refusal};
use crate::threats::told::Lines;
use server::{Manner, PASSWORD, USER, UpstreamServer};

const SCHEMES: [UpstreamScheme; 3] = [UpstreamScheme::Http, UpstreamScheme::Https, UpstreamScheme::Socks5];
/// Where the upstream is, as the policy has it.
const AT: &str = "10.9.9.9:3128";

fn upstream(scheme: UpstreamScheme, host: &str) -> UpstreamProxy {
    UpstreamProxy {
        scheme,
        host: host.parse().unwrap(),
        port: Port::try_from(3128u64).unwrap(),
        cidr: None,
        resolve: Resolution::Local,
        authenticated: false,
        ca_bundle: false,
    }
}

fn access(scheme: UpstreamScheme, credentials: Option<(&str, &str)>, bundle: &str) -> Arc<Access> {
    let credentials =
        credentials.map(|(username, password)| Credentials::parse(username.as_bytes(), password.as_bytes()).unwrap());
    Arc::new(Access::new(scheme, credentials, Some(bundle.as_bytes())).unwrap())
}

/// A world behind an upstream, in which `site.com` has a public address.
fn behind(server: &UpstreamServer, scheme: UpstreamScheme) -> World {
    let mut world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    world.wires.route(AT, server.address);
    world.rules.upstream_proxy = Some(upstream(scheme, "10.9.9.9"));
    world.access.send_replace(access(scheme, None, &server.bundle));
    world
}

fn change(world: &mut World, change: impl FnOnce(&mut UpstreamProxy)) {
    change(world.rules.upstream_proxy.as_mut().unwrap());
}

async fn honest(scheme: UpstreamScheme) -> UpstreamServer {
    UpstreamServer::start(scheme, Manner::Honest, Target::new().await.answering(OK)).await
}

fn dialled(world: &World) -> Vec<String> {
    world.wires.dialled().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_upstream_gets_the_checked_address_and_never_the_name() {
    for scheme in SCHEMES {
        let server = honest(scheme).await;
        let world = behind(&server, scheme);
        let proxy = world.open().await;
        let answer = proxy.get("http://site.com/path").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{scheme:?}: {answer}");
        assert_eq!(server.asked(), [format!("{PUBLIC}:80")], "{scheme:?}");
        assert!(!format!("{:?}", server.heard()).contains("site.com"), "{scheme:?}");
        assert_eq!(dialled(&world), [AT], "nothing is dialled but the upstream");
        let (report, _) = proxy.session.finish().await;
        let decision = &report.decisions[0];
        assert_eq!(
            (decision.outcome, decision.via_upstream, decision.address),
            ("allowed", true, Some(PUBLIC.parse().unwrap()))
        );
        assert!(decision.bytes > 0 && report.bytes == decision.bytes && report.hosts == 1);
    }
}

#[tokio::test]
async fn a_tunnel_through_the_upstream_carries_the_pages_own_tls_and_still_only_for_its_host() {
    for scheme in SCHEMES {
        let target = Target::new().await;
        let server = UpstreamServer::start(scheme, Manner::Honest, target.address).await;
        let world = behind(&server, scheme);
        let proxy = world.open().await;
        let first = hello(Some("site.com"));
        let (mut stream, head) = proxy.tunnel("site.com:443").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{scheme:?}: {head}");
        stream.write_all(&first).await.unwrap();
        let mut seen = target.accept().await;
        assert_eq!(exactly(&mut seen, first.len()).await, first, "{scheme:?}");
        seen.write_all(b"server hello").await.unwrap();
        assert_eq!(exactly(&mut stream, 12).await, b"server hello");
        assert_eq!(server.asked(), [format!("{PUBLIC}:443")]);

        let (mut stream, _) = proxy.tunnel("site.com:443").await;
        let mut other = target.accept().await;
        stream.write_all(&hello(Some("other.com"))).await.unwrap();
        assert_eq!(proxy.outcomes(2).await[1], "tunnel_sni_mismatch");
        assert_eq!(
            crate::harness::to_end(&mut other).await,
            "",
            "not a byte of it goes out"
        );
    }
}

#[tokio::test]
async fn what_is_refused_here_is_refused_before_the_upstream_hears_anything() {
    for scheme in SCHEMES {
        let server = honest(scheme).await;
        let mut world = behind(&server, scheme);
        world.rules.domains.deny = vec!["denied.com".parse().unwrap()];
        world.rules.cidrs.deny = vec!["20.0.0.0/8".parse().unwrap()];
        world.names.set("private.com", &[&["10.0.0.1"]]);
        world.names.set("mixed.com", &[&[PUBLIC, "169.254.169.254"]]);
        world.names.set("listed.com", &[&["20.1.2.3"]]);
        let aliased = Answers {
            aliases: vec!["web.t1.svc".parse().unwrap()],
            addresses: vec![PUBLIC.parse().unwrap()],
        };
        world.names.script("alias.com", [Ok(aliased)].into());
        let proxy = world.open().await;
        for (url, word) in [
            ("http://private.com/", "private_address"),
            ("http://mixed.com/", "metadata_address"),
            ("http://listed.com/", "denied_address"),
            ("http://denied.com/", "denied_name"),
            ("http://alias.com/", "cluster_name"),
            ("http://169.254.169.254/", "metadata_address"),
            ("http://10.9.9.9:3128/", "private_address"),
            ("http://kubernetes.default.svc/", "cluster_name"),
            ("http://site.com:3128/", "port_not_allowed"),
            ("http://gone.com/", "dns_not_found"),
        ] {
            assert_eq!(reason(&proxy.get(url).await), word, "{url}");
        }
        assert_eq!((server.heard(), dialled(&world)), (vec![], vec![]));
    }
}

#[tokio::test]
async fn exceptions_go_straight() {
    let server = honest(UpstreamScheme::Http).await;
    let mut world = behind(&server, UpstreamScheme::Http);
    world.rules.exceptions = vec![EgressException {
        host: "web.t1.svc".parse().unwrap(),
        ports: vec![Port::try_from(8080u64).unwrap()],
        cidr: None,
        reason: "a test".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
    }];
    for resolve in [Resolution::Local, Resolution::Remote] {
        change(&mut world, |upstream| upstream.resolve = resolve);
        world.names.set("web.t1.svc.cluster.local", &[&["10.1.0.7"]]);
        world.wires.route("10.1.0.7:8080", Target::new().await.answering(OK));
        let proxy = world.open().await;
        assert!(proxy.get("http://web.t1.svc:8080/").await.starts_with("HTTP/1.1 200"));
        assert!(!proxy.session.report().decisions[0].via_upstream);
    }
    assert_eq!(server.heard(), Vec::<String>::new());
    assert_eq!(dialled(&world), ["10.1.0.7:8080", "10.1.0.7:8080"]);
}

#[tokio::test]
async fn an_upstream_that_wants_a_password_gets_it_and_another_is_refused() {
    for scheme in SCHEMES {
        let site = Target::new().await.answering(OK);
        let server = UpstreamServer::start(scheme, Manner::Guarded, site).await;
        let mut world = behind(&server, scheme);
        // Without being told that it wants one.
        let told = refusal(&world.open().await.get("http://site.com/").await);
        let expected = (
            502,
            "proxy_configuration_error".to_owned(),
            "upstream_credentials".to_owned(),
        );
        assert_eq!(told, expected, "{scheme:?}");
        change(&mut world, |upstream| upstream.authenticated = true);
        // Without one to give nothing is asked.
        let heard = server.heard().len();
        let proxy = world.open().await;
        assert_eq!(refusal(&proxy.get("http://site.com/").await), expected);
        assert_eq!((server.heard().len(), dialled(&world).len()), (heard, 1));
        for (username, password, good) in [
            (USER, "other", false),
            ("other", PASSWORD, false),
            (USER, PASSWORD, true),
        ] {
            // What was sent last counts from the next connection on.
            world
                .access
                .send_replace(access(scheme, Some((username, password)), &server.bundle));
            let answer = proxy.get("http://site.com/").await;
            assert_eq!(answer.starts_with("HTTP/1.1 200"), good, "{scheme:?}: {answer}");
            assert!(good || refusal(&answer) == expected, "{answer}");
        }
    }
}

#[tokio::test]
async fn credentials_go_only_to_an_upstream_that_is_said_to_want_them() {
    let server = honest(UpstreamScheme::Http).await;
    let world = behind(&server, UpstreamScheme::Http);
    world
        .access
        .send_replace(access(UpstreamScheme::Http, Some((USER, PASSWORD)), &server.bundle));
    assert!(
        world
            .open()
            .await
            .get("http://site.com/")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(!server.heard()[0].to_lowercase().contains("authorization"));
}

#[tokio::test]
async fn the_longest_credentials_that_the_rfc_allows_are_sent_whole() {
    let server = honest(UpstreamScheme::Socks5).await;
    let mut world = behind(&server, UpstreamScheme::Socks5);
    change(&mut world, |upstream| upstream.authenticated = true);
    let longest = "x".repeat(MAX_CREDENTIAL);
    world.access.send_replace(access(
        UpstreamScheme::Socks5,
        Some((&longest, &longest)),
        &server.bundle,
    ));
    assert!(
        world
            .open()
            .await
            .get("http://site.com/")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn credentials_are_in_no_log_line_report_or_answer() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.subscriber());
    let mut shown = Vec::new();
    for scheme in SCHEMES {
        let site = Target::new().await.answering(OK);
        let server = UpstreamServer::start(scheme, Manner::Guarded, site).await;
        let mut world = behind(&server, scheme);
        change(&mut world, |upstream| upstream.authenticated = true);
        for user in [USER, "eve"] {
            let given = access(scheme, Some((user, PASSWORD)), &server.bundle);
            shown.push(format!("{given:?}"));
            world.access.send_replace(given);
            let proxy = world.open().await;
            shown.push(proxy.get("http://site.com/").await);
            let (report, _) = proxy.session.finish().await;
            shown.push(format!("{report:?}"));
        }
    }
    let text = lines.text();
    assert!(
        text.contains("via=\"upstream\"") && text.contains("upstream_credentials"),
        "{text}"
    );
    shown.push(text);
    for text in shown {
        // Plain, and in Base64 from wherever it begins.
        for secret in [PASSWORD, "aDRyZC10by1ndWVzc", "g0cmQtdG8tZ3Vlc3", "oNHJkLXRvLWd1ZXNz"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn another_address_of_the_destination_is_tried_when_the_first_is_out_of_reach() {
    for scheme in SCHEMES {
        let site = Target::new().await.answering(OK);
        let server = UpstreamServer::start(scheme, Manner::Fails, site).await;
        let world = behind(&server, scheme);
        world.names.set("site.com", &[&[PUBLIC, "9.9.9.9"]]);
        let proxy = world.open().await;
        assert!(
            proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"),
            "{scheme:?}"
        );
        assert_eq!(server.asked(), [format!("{PUBLIC}:80"), "9.9.9.9:80".into()]);
        assert_eq!(
            proxy.session.report().decisions[0].address,
            Some("9.9.9.9".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn the_upstreams_own_address_is_looked_up_and_checked_for_every_connection() {
    let server = honest(UpstreamScheme::Http).await;
    let mut world = behind(&server, UpstreamScheme::Http);
    change(&mut world, |upstream| {
        upstream.host = "proxy.example.com".parse().unwrap();
        upstream.cidr = Some("10.9.0.0/16".parse().unwrap());
    });
    let script: [&[&str]; 6] = [
        &["10.9.9.9"],
        &["10.8.0.1"],
        &["127.0.0.1"],
        &["10.9.9.9", "169.254.169.254"],
        &[PUBLIC],
        &["10.9.9.9"],
    ];
    world.names.set("proxy.example.com", &script);
    let proxy = world.open().await;
    assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    for _ in 0..4 {
        assert_eq!(reason(&proxy.get("http://site.com/").await), "upstream_address");
    }
    assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(dialled(&world), [AT, AT]);
    world
        .names
        .script("proxy.example.com", [Err(capture_egress::ResolveError::Failed)].into());
    assert_eq!(reason(&proxy.get("http://site.com/").await), "upstream_unresolved");
}

/// An `ExternalName` is an alias: whoever may edit the Service would choose where all that the pages ask for goes.
#[tokio::test]
async fn an_upstream_that_is_a_service_is_no_alias_unless_a_range_holds_it() {
    const SQUID: &str = "squid.proxies.svc.cluster.local";
    let server = honest(UpstreamScheme::Http).await;
    let mut world = behind(&server, UpstreamScheme::Http);
    let aliased = Answers {
        aliases: vec!["db.corp.example".parse().unwrap()],
        addresses: vec!["10.9.9.9".parse().unwrap()],
    };
    for (range, passes) in [(None, false), (Some("10.9.0.0/16"), true)] {
        change(&mut world, |upstream| {
            upstream.host = SQUID.parse().unwrap();
            upstream.cidr = range.map(|range| range.parse().unwrap());
        });
        world.names.script(SQUID, [Ok(aliased.clone())].into());
        let proxy = world.open().await;
        let answer = proxy.get("http://site.com/").await;
        if passes {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        } else {
            assert_eq!(reason(&answer), "upstream_address");
            assert!(dialled(&world).is_empty());
        }
    }
}

#[tokio::test]
async fn only_where_the_policy_says_so_the_upstream_resolves_and_the_rules_for_names_hold() {
    for scheme in SCHEMES {
        let server = honest(scheme).await;
        let mut world = behind(&server, scheme);
        world.rules.domains.deny = vec!["*.denied.com".parse().unwrap()];
        change(&mut world, |upstream| upstream.resolve = Resolution::Remote);
        let proxy = world.open().await;
        assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
        assert_eq!(server.asked(), ["site.com:80"], "{scheme:?}");
        for (url, word) in [
            ("http://a.denied.com/", "denied_name"),
            ("http://kubernetes.default.svc/", "cluster_name"),
            ("http://metadata.google.internal/", "metadata_name"),
            ("http://localhost/", "localhost_name"),
            ("http://site.com:8080/", "port_not_allowed"),
            ("http://10.0.0.1/", "private_address"),
            ("http://169.254.169.254/", "metadata_address"),
        ] {
            assert_eq!(reason(&proxy.get(url).await), word, "{url}");
        }
        assert_eq!((server.asked().len(), world.names.asked()), (1, vec![]));
        let report = proxy.session.report();
        assert_eq!(
            (report.decisions[0].address, report.decisions[0].via_upstream),
            (None, true)
        );
        world.rules.domains.allow = vec!["good.com".parse().unwrap()];
        let proxy = world.open().await;
        assert_eq!(reason(&proxy.get("http://site.com/").await), "unlisted_name");
        assert!(proxy.get("http://good.com/").await.starts_with("HTTP/1.1 200"));
    }
}
