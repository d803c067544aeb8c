//! Who listens in a pod that is working, and in its jails. The kernel's tables are read from outside, as the image has
//! nothing to read them with: for the project's own cluster, whose node is this machine.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use screenshot_policy::layout;
use screenshot_tests::{Forward, capture, eventually, pods, token};
use serde_json::json;

use crate::demo;

/// A page that is loading for some seconds.
const SLOW: &str = "<img src='http://93.184.215.14/say?wait=6000'><img src='http://93.184.215.14/say?wait=6001'>";

/// A socket: the table that it is in, its ends, and whether it listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Socket {
    table: &'static str,
    ends: [String; 2],
    listens: bool,
}

/// The tables of each network namespace of a pod, by what its processes see of them.
fn namespaces(uid: &str) -> BTreeSet<BTreeSet<Socket>> {
    let is_of_pod = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|path| path.contains(uid));
    let names = fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && is_of_pod(name))
        .map(|pid| sockets(&pid))
        .filter(|sockets| !sockets.is_empty())
        .collect()
}

fn sockets(pid: &str) -> BTreeSet<Socket> {
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "raw"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        found.extend(text.lines().skip(1).map(|row| {
            let words: Vec<&str> = row.split_whitespace().collect();
            Socket {
                table,
                ends: [words[1].into(), words[2].into()],
                listens: words[3] == "0A",
            }
        }));
    }
    found
}

fn listeners(sockets: &BTreeSet<Socket>) -> BTreeSet<u16> {
    let listening = sockets.iter().filter(|socket| socket.listens);
    let ports = listening.filter_map(|socket| u16::from_str_radix(socket.ends[0].rsplit(':').next()?, 16).ok());
    ports.collect()
}

#[test]
fn in_a_working_pod_only_the_servers_ports_listen_and_in_its_jails_only_the_proxy() {
    let namespace = demo("e2e-sockets");
    let token = token(&namespace.0, "demo").unwrap();
    let forward = Forward::open(&namespace.0, "service/demo", 80).unwrap();
    let pod = pods(&namespace.0, "demo").unwrap()[0]["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let ours = BTreeSet::from([layout::API_PORT, layout::HEALTH_PORT, layout::METRICS_PORT]);
    let is_busy =
        |jail: &BTreeSet<Socket>| !listeners(jail).is_superset(&ours) && jail.iter().any(|socket| !socket.listens);
    let seen = thread::scope(|scope| {
        let page = scope.spawn(|| capture(forward.port(), Some(&token), &json!({"html_content": SLOW})).unwrap());
        let seen = eventually("a page that is loading", Duration::from_secs(10), || {
            Some(namespaces(&pod)).filter(|seen| seen.iter().any(is_busy))
        });
        let page = page.join().unwrap();
        assert_eq!(page.status, 200, "{}", page.json());
        seen.unwrap()
    });
    let (servers, jails): (Vec<_>, Vec<_>) = seen.iter().partition(|sockets| listeners(sockets).is_superset(&ours));
    // What another container of the pod, or another pod, could connect to: the pod's own namespace.
    assert!(!servers.is_empty(), "{seen:?}");
    for server in servers {
        assert_eq!(listeners(server), ours);
    }
    for jail in jails {
        let proxies: BTreeSet<&String> = jail
            .iter()
            .filter(|socket| socket.listens)
            .map(|socket| &socket.ends[0])
            .collect();
        for socket in jail {
            // 0100007F is 127.0.0.1, the only address that a jail has; each connection has the proxy at one end.
            assert!(
                socket.table == "tcp" && socket.ends[0].starts_with("0100007F:"),
                "{socket:?}"
            );
            assert!(
                socket.listens || socket.ends.iter().any(|end| proxies.contains(end)),
                "{socket:?}"
            );
        }
    }
}
