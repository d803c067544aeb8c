//! Everything public goes through the upstream, what it is asked for is decided here, and it is not trusted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use capture_egress::{Access, Answers, Credentials, MAX_ANSWER, MAX_CREDENTIAL};
use screenshot_policy::egress::{EgressException, Resolution, UpstreamProxy, UpstreamScheme};
use screenshot_policy::unit::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{OK, PUBLIC, Target, World, exactly, hello, reason, refusal};
use crate::threats::told::Lines;
use crate::upstream_server::{Manner, PASSWORD, USER, UpstreamServer};

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
        assert_eq!(crate::harness::to_end(&mut other).await, "", "not a byte of it goes out");
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
        world.names.set("web.t1.svc", &[&["10.1.0.7"]]);
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
        let expected = (502, "proxy_configuration_error".to_owned(), "upstream_credentials".to_owned());
        assert_eq!(told, expected, "{scheme:?}");
        change(&mut world, |upstream| upstream.authenticated = true);
        // Without one to give nothing is asked.
        let heard = server.heard().len();
        let proxy = world.open().await;
        assert_eq!(refusal(&proxy.get("http://site.com/").await), expected);
        assert_eq!((server.heard().len(), dialled(&world).len()), (heard, 1));
        for (username, password, good) in [(USER, "other", false), ("other", PASSWORD, false), (USER, PASSWORD, true)] {
            // What was sent last counts from the next connection on.
            world.access.send_replace(access(scheme, Some((username, password)), &server.bundle));
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
    world.access.send_replace(access(UpstreamScheme::Http, Some((USER, PASSWORD)), &server.bundle));
    assert!(world.open().await.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
    assert!(!server.heard()[0].to_lowercase().contains("authorization"));
}

#[tokio::test]
async fn the_longest_credentials_that_the_rfc_allows_are_sent_whole() {
    let server = honest(UpstreamScheme::Socks5).await;
    let mut world = behind(&server, UpstreamScheme::Socks5);
    change(&mut world, |upstream| upstream.authenticated = true);
    let longest = "x".repeat(MAX_CREDENTIAL);
    world.access.send_replace(access(UpstreamScheme::Socks5, Some((&longest, &longest)), &server.bundle));
    assert!(world.open().await.get("http://site.com/").await.starts_with("HTTP/1.1 200"));
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
    assert!(text.contains("via=\"upstream\"") && text.contains("upstream_credentials"), "{text}");
    shown.push(text);
    for text in shown {
        // Plain, and in Base64 from wherever it begins.
        for secret in [PASSWORD, "aDRyZC10by1ndWVzc", "g0cmQtdG8tZ3Vlc3", "oNHJkLXRvLWd1ZXNz"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

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
        (http, b"HTTP/1.1 302 Found\r\nLocation: http://a.com/\r\n\r\n", "upstream_protocol"),
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
        assert_eq!(reason(&proxy.get("http://site.com/").await), word, "{scheme:?} {shown:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{shown:?} took {:?}", begun.elapsed());
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

#[tokio::test]
async fn another_address_of_the_destination_is_tried_when_the_first_is_out_of_reach() {
    for scheme in SCHEMES {
        let site = Target::new().await.answering(OK);
        let server = UpstreamServer::start(scheme, Manner::Fails, site).await;
        let world = behind(&server, scheme);
        world.names.set("site.com", &[&[PUBLIC, "9.9.9.9"]]);
        let proxy = world.open().await;
        assert!(proxy.get("http://site.com/").await.starts_with("HTTP/1.1 200"), "{scheme:?}");
        assert_eq!(server.asked(), [format!("{PUBLIC}:80"), "9.9.9.9:80".into()]);
        assert_eq!(proxy.session.report().decisions[0].address, Some("9.9.9.9".parse().unwrap()));
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
    world.names.script("proxy.example.com", [Err(capture_egress::ResolveError::Failed)].into());
    assert_eq!(reason(&proxy.get("http://site.com/").await), "upstream_unresolved");
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
        assert_eq!((report.decisions[0].address, report.decisions[0].via_upstream), (None, true));
        world.rules.domains.allow = vec!["good.com".parse().unwrap()];
        let proxy = world.open().await;
        assert_eq!(reason(&proxy.get("http://site.com/").await), "unlisted_name");
        assert!(proxy.get("http://good.com/").await.starts_with("HTTP/1.1 200"));
    }
}

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
        let access = Access::new(https, None, bundle.map(|pem| pem.as_bytes())).unwrap();
        world.access.send_replace(Arc::new(access));
        let answer = world.open().await.get("http://site.com/").await;
        // Who speaks no TLS may also wait for a line that does not come.
        let told = reason(&answer);
        assert!(told == word || (word == "upstream_tls" && told == "upstream_timeout"), "{word}: {answer}");
        assert!(server.asked().is_empty(), "{:?}", server.heard());
    }
    let world = behind(&named, https);
    world.access.send_replace(Arc::default());
    assert_eq!(reason(&world.open().await.get("http://site.com/").await), "upstream_tls");
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
    let (_, there) = tokio::join!(sent, received);
    assert!(there == much);
    seen.write_all(&much).await.unwrap();
    assert!(exactly(&mut stream, 3_000_000).await == much);
    assert!(proxy.session.report().bytes >= 6_000_000);
}
