//! A name server on loopback that says what a test's script makes it say: over UDP and TCP, late, twice, or falsely.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

pub const A: u16 = 1;
const CNAME: u16 = 5;
pub const AAAA: u16 = 28;

/// One record: its owner and what it says.
#[derive(Clone)]
pub enum Record {
    Address(String, IpAddr),
    Alias(String, String),
}

/// What the server sends for one question.
#[derive(Clone, Default)]
pub struct Reply {
    pub records: Vec<Record>,
    /// Lies about the transaction: added to its id.
    pub lie: u16,
    pub after: Duration,
    /// 0 is success, 2 a failure of the server, 3 no such name.
    pub code: u8,
    /// TTL of every record.
    pub ttl: u32,
    /// Over UDP: nothing but the wish to be asked over TCP.
    pub truncated: bool,
}

impl Reply {
    pub fn of(records: Vec<Record>) -> Self {
        Self {
            records,
            ..Self::default()
        }
    }
}

/// `name` has these addresses, as far as they are of the kind asked for.
pub fn addresses(name: &str, kind: u16, ips: &[&str]) -> Vec<Record> {
    let ips = ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap());
    ips.filter(|ip| ip.is_ipv4() == (kind == A))
        .map(|ip| Record::Address(name.to_owned(), ip))
        .collect()
}

pub fn alias(name: &str, target: &str) -> Record {
    Record::Alias(name.to_owned(), target.to_owned())
}

type Asked = Arc<Mutex<Vec<(String, u16)>>>;
/// Name and kind of the question, and how many of the same there were before.
pub type Script = dyn Fn(&str, u16, usize) -> Vec<Reply> + Send + Sync;

pub struct NameServer {
    pub address: SocketAddr,
    asked: Asked,
}

impl NameServer {
    pub async fn start(script: impl Fn(&str, u16, usize) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets().await;
        let (address, asked) = (udp.local_addr().unwrap(), Asked::default());
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(over_udp(Arc::new(udp), Arc::clone(&script), Arc::clone(&asked)));
        tokio::spawn(over_tcp(tcp, script, Arc::clone(&asked)));
        Self { address, asked }
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<(String, u16)> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self, name: &str) -> HashMap<u16, usize> {
        let mut counts = HashMap::new();
        for (_, kind) in self.asked().into_iter().filter(|(asked, _)| asked == name) {
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }
}

/// A UDP and a TCP socket on one port.
async fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

async fn over_udp(socket: Arc<UdpSocket>, script: Arc<Script>, asked: Asked) {
    let mut buf = [0; 1500];
    loop {
        let (count, peer) = socket.recv_from(&mut buf).await.unwrap();
        for (reply, packet) in replies(&buf[..count], &*script, &asked, true) {
            let socket = Arc::clone(&socket);
            tokio::spawn(async move {
                tokio::time::sleep(reply.after).await;
                let _ = socket.send_to(&packet, peer).await;
            });
        }
    }
}

async fn over_tcp(listener: TcpListener, script: Arc<Script>, asked: Asked) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await.unwrap();
                for (reply, packet) in replies(&query, &*script, &asked, false) {
                    tokio::time::sleep(reply.after).await;
                    let length = u16::try_from(packet.len()).unwrap();
                    let _ = stream.write_all(&[&length.to_be_bytes(), &packet[..]].concat()).await;
                }
            }
        });
    }
}

fn replies(query: &[u8], script: &Script, asked: &Asked, udp: bool) -> Vec<(Reply, Vec<u8>)> {
    let (name, kind, end) = question(query);
    let before = {
        let mut asked = asked.lock().unwrap();
        let before = asked.iter().filter(|seen| **seen == (name.clone(), kind)).count();
        asked.push((name.clone(), kind));
        before
    };
    let encode = |reply: Reply| {
        let packet = packet(&query[..end], &reply, udp && reply.truncated);
        (reply, packet)
    };
    script(&name, kind, before).into_iter().map(encode).collect()
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

fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut out: Vec<u8> = labels
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat())
        .collect();
    out.push(0);
    out
}

fn packet(question: &[u8], reply: &Reply, truncated: bool) -> Vec<u8> {
    let mut out = question.to_vec();
    let id = u16::from_be_bytes([out[0], out[1]]).wrapping_add(reply.lie);
    out[..2].copy_from_slice(&id.to_be_bytes());
    out[2] = if truncated { 0x83 } else { 0x81 };
    out[3] = 0x80 | reply.code;
    let records: &[Record] = if truncated { &[] } else { &reply.records };
    out[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    out[8..12].fill(0);
    for record in records {
        let (owner, kind, data) = match record {
            Record::Address(owner, IpAddr::V4(ip)) => (owner, A, ip.octets().to_vec()),
            Record::Address(owner, IpAddr::V6(ip)) => (owner, AAAA, ip.octets().to_vec()),
            Record::Alias(owner, target) => (owner, CNAME, wire_name(target)),
        };
        out.extend(wire_name(owner));
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(reply.ttl.to_be_bytes());
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}
