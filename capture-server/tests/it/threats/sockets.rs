//! T15 and T31: which internet sockets there are in a jail while its page loads all that it can.
//!
//! The kernel's tables of every network namespace below the jailer, read from outside. A listener that this process (the
//! server) does not hold, and a connection that does not end at one that it holds, would be somebody's second way.

use std::collections::{BTreeMap, BTreeSet};

use capture_server::server::Server;

use crate::harness::{Jailer, Running, Site, limits, until};
use crate::web;

/// Whatever has a socket of its own in other engines: workers, sockets, media, prefetches, a PDF, peers.
const PAGE: &str = "<img id=hold src=/never><iframe src=/frame></iframe><embed type=application/pdf src=/a.pdf>\
    <video src=/v autoplay muted></video><link rel=prefetch href=/p><link rel=dns-prefetch href=//d.net>\
    <link rel=preconnect href=https://c.net><script>const blob=text=>URL.createObjectURL(new Blob([text]));\
    new Worker(blob('fetch(\"http://w.net/never\")'));new WebSocket('ws://s.net/never');new EventSource('/never');\
    const peer=new RTCPeerConnection({iceServers:[{urls:'stun:203.0.113.4:3478'},\
    {urls:'turn:203.0.113.5:80?transport=tcp',username:'u',credential:'c'}]});peer.createDataChannel('x');\
    peer.createOffer().then(offer=>peer.setLocalDescription(offer))</script>";

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    Some(match path {
        "/page" => ("200 OK\r\ncontent-type: text/html".into(), PAGE.into()),
        "/frame" => (
            "200 OK\r\ncontent-type: text/html".into(),
            b"<img src=http://f.net/never>".into(),
        ),
        "/never" => (String::new(), Vec::new()),
        _ => return None,
    })
}

const TABLES: [&str; 8] = ["tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "icmp"];
const LISTENS: &str = "0A";

/// A line of one of the kernel's tables: protocol, both ends, state, inode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Socket {
    table: &'static str,
    ends: [String; 2],
    state: String,
    inode: String,
}

fn sockets(pid: &str) -> Vec<Socket> {
    let mut found = Vec::new();
    for table in TABLES {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        found.extend(text.lines().skip(1).map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Socket {
                table,
                ends: [words[1].into(), words[2].into()],
                state: words[3].into(),
                inode: words[9].into(),
            }
        }));
    }
    found
}

/// Every process below this one.
fn below(ancestor: i32) -> Vec<String> {
    let parents: BTreeMap<i32, i32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((pid, parent.trim().parse().ok()?))
        })
        .collect();
    let is_below =
        |pid: i32| std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).any(|at| at == ancestor);
    parents
        .keys()
        .filter(|pid| is_below(**pid))
        .map(i32::to_string)
        .collect()
}

/// The sockets of every jail: of the network namespaces below the jailer in which the server's own port is not.
fn of_jails(jailer: &Jailer, server: &Running) -> BTreeSet<Vec<Socket>> {
    let own = format!(":{:04X}", server.api.port());
    let is_ours = |sockets: &[Socket]| {
        let mut listeners = sockets.iter().filter(|socket| socket.state == LISTENS);
        listeners.any(|socket| socket.ends[0].ends_with(&own))
    };
    let all = below(jailer.pid()).into_iter().map(|pid| sockets(&pid));
    all.filter(|sockets| !sockets.is_empty() && !is_ours(sockets)).collect()
}

/// The inodes of the sockets that this process has open.
fn held() -> BTreeSet<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn t15_t31_in_a_jail_nothing_listens_but_the_proxy_and_nothing_is_connected_but_to_it() {
    let site = Site::new(limits(20_000));
    let jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, web::network(answers).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    let capture = server.capture(super::body("http://site.net/page"));
    let looking = async {
        // 0100007F is 127.0.0.1. Twice the connections of one page: it is in the middle of it.
        until("a page with connections", async || {
            let jails = of_jails(&jailer, &server);
            let connected = jails.iter().flatten().filter(|socket| socket.state == "01").count();
            connected >= 6
        })
        .await;
        let (mut seen, mut listeners) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..20 {
            seen.extend(of_jails(&jailer, &server).into_iter().flatten());
            listeners.extend(held());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        (seen, listeners)
    };
    // The page never comes to rest: the capture is given up when it was looked at.
    let (seen, held) = tokio::select! {
        early = capture => panic!("the capture ended first: {early:?}"),
        found = looking => found,
    };
    let listening = |socket: &&Socket| socket.state == LISTENS && socket.table == "tcp";
    let proxies: BTreeSet<&String> = seen.iter().filter(listening).map(|socket| &socket.ends[0]).collect();
    assert!(!proxies.is_empty(), "{seen:?}");
    for socket in &seen {
        assert!(socket.table == "tcp", "{socket:?}");
        assert!(socket.ends[0].starts_with("0100007F:"), "{socket:?}");
        if socket.state == LISTENS {
            assert!(held.contains(&socket.inode), "not the server's: {socket:?}");
        } else {
            assert!(socket.ends.iter().any(|end| proxies.contains(end)), "{socket:?}");
        }
    }
    server.stop().await;
}
