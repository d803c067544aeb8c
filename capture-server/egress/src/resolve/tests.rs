//! The system resolver against a name server on loopback.

use std::net::Ipv4Addr;

use super::*;

#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "on loopback; the tests from outside need more of it"
)]
#[path = "../../tests/it/name_server.rs"]
mod name_server;

use name_server::{A, NameServer, Reply, addresses};

const NO_SUCH_NAME: u8 = 3;

/// Knows `two.example` and `four.example`, and everything under the search domain, which must never be asked for.
async fn name_server() -> NameServer {
    NameServer::start(|name, kind, _| {
        let ips: &[&str] = match name {
            "two.example" => &["192.0.2.1", "2001:db8::1"],
            "four.example" => &["192.0.2.1"],
            _ if name.ends_with(".search.example") => &["127.0.0.1"],
            _ => &[],
        };
        let records = addresses(name, kind, ips);
        let code = if records.is_empty() { NO_SUCH_NAME } else { 0 };
        vec![Reply {
            code,
            // Long enough to be kept by whoever keeps answers.
            ttl: 256,
            ..Reply::of(records)
        }]
    })
    .await
}

async fn resolver() -> (SystemResolver, NameServer) {
    let names = name_server().await;
    let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
    server.connections[0].port = names.address.port();
    let search = vec![Name::from_ascii("search.example.").unwrap()];
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().ndots = 5;
    (SystemResolver::strict(builder).unwrap(), names)
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

#[tokio::test]
async fn both_families_are_looked_up_and_all_answers_come_back() {
    let (resolver, _) = resolver().await;
    let mut found = resolver.lookup(&name("two.example")).await.unwrap().addresses;
    found.sort();
    assert_eq!(
        found,
        ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]
    );
    assert_eq!(
        resolver
            .lookup(&name("four.example"))
            .await
            .map(|found| found.addresses),
        Ok(vec!["192.0.2.1".parse().unwrap()])
    );
}

#[tokio::test]
async fn the_search_list_is_never_used_not_even_for_names_that_do_not_exist() {
    let (resolver, names) = resolver().await;
    assert_eq!(
        resolver.lookup(&name("kubernetes.default.svc")).await,
        Err(ResolveError::NotFound)
    );
    assert_eq!(resolver.lookup(&name("single")).await, Err(ResolveError::NotFound));
    let asked = names.asked();
    assert!(!asked.is_empty());
    assert!(
        asked.iter().all(|(name, _)| !name.ends_with("search.example")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn every_look_up_asks_again() {
    let (resolver, names) = resolver().await;
    for _ in 0..2 {
        assert!(resolver.lookup(&name("two.example")).await.is_ok());
    }
    assert_eq!(names.asked().iter().filter(|(_, kind)| *kind == A).count(), 2);
}

#[test]
fn names_are_asked_for_as_absolute_ones() {
    let name = absolute(&name("kubernetes.default.svc")).unwrap();
    assert!(name.is_fqdn());
    assert_eq!(name.to_ascii(), "kubernetes.default.svc.");
}
