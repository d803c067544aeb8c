//! The system resolver against a name server on loopback that speaks in bytes.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

use super::*;

const A: u16 = 1;
const AAAA: u16 = 28;

type Asked = Arc<Mutex<Vec<(String, u16)>>>;

/// Knows `two.example` and `four.example`, and everything under the search domain, which must never be asked for.
#[expect(clippy::disallowed_methods, reason = "on loopback")]
async fn name_server() -> (SocketAddr, Asked) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Asked::default());
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buf = [0; 1500];
        loop {
            let (count, peer) = socket.recv_from(&mut buf).await.unwrap();
            let (name, kind, end) = question(&buf[..count]);
            log.lock().unwrap().push((name.clone(), kind));
            let data: &[u8] = match (name.as_str(), kind) {
                ("two.example" | "four.example", A) => &[192, 0, 2, 1],
                ("two.example", AAAA) => &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                (name, A) if name.ends_with(".search.example") => &[127, 0, 0, 1],
                _ => &[],
            };
            socket.send_to(&answer(&buf[..end], kind, data), peer).await.unwrap();
        }
    });
    (address, asked)
}

fn question(packet: &[u8]) -> (String, u16, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while packet[at] != 0 {
        let length = usize::from(packet[at]);
        labels.push(String::from_utf8(packet[at + 1..=at + length].to_vec()).unwrap());
        at += length + 1;
    }
    let kind = u16::from_be_bytes([packet[at + 1], packet[at + 2]]);
    (labels.join(".").to_ascii_lowercase(), kind, at + 5)
}

/// One record with `data`, or NXDOMAIN without any.
fn answer(question: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = question.to_vec();
    out[2..4].copy_from_slice(if data.is_empty() { &[0x81, 0x83] } else { &[0x81, 0x80] });
    out[6..12].copy_from_slice(&[0, u8::from(!data.is_empty()), 0, 0, 0, 0]);
    if !data.is_empty() {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 1, 0]);
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}

async fn resolver() -> (SystemResolver, Asked) {
    let (address, asked) = name_server().await;
    let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
    server.connections[0].port = address.port();
    let search = vec![Name::from_ascii("search.example.").unwrap()];
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().ndots = 5;
    (SystemResolver::strict(builder).unwrap(), asked)
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
    let (resolver, asked) = resolver().await;
    assert_eq!(
        resolver.lookup(&name("kubernetes.default.svc")).await,
        Err(ResolveError::NotFound)
    );
    assert_eq!(resolver.lookup(&name("single")).await, Err(ResolveError::NotFound));
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty());
    assert!(
        asked.iter().all(|(name, _)| !name.ends_with("search.example")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn every_look_up_asks_again() {
    let (resolver, asked) = resolver().await;
    for _ in 0..2 {
        assert!(resolver.lookup(&name("two.example")).await.is_ok());
    }
    assert_eq!(asked.lock().unwrap().iter().filter(|(_, kind)| *kind == A).count(), 2);
}

#[test]
fn names_are_asked_for_as_absolute_ones() {
    let name = absolute(&name("kubernetes.default.svc")).unwrap();
    assert!(name.is_fqdn());
    assert_eq!(name.to_ascii(), "kubernetes.default.svc.");
}
