//! The evaluator and a real engine on one list of connections.
//!
//! `tests/cluster/internal/netpol/testdata/connections.json` is what both are held against: here the evaluator, in Go the
//! kernel with the rules of the test cluster's engine (`TestTheKernelDoesWithEachConnectionWhatTheListSays`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use std::collections::BTreeMap;

use screenshot_operator::netpol::{Endpoint, Network, Pod, Protocol};
use serde_json::Value;

const LIST: &str = include_str!("../../tests/cluster/internal/netpol/testdata/connections.json");

fn protocol(value: &Value) -> Protocol {
    if value == "UDP" { Protocol::Udp } else { Protocol::Tcp }
}

fn port(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}

fn pod(value: &Value) -> (String, Pod) {
    let text = |key: &str| value[key].as_str().unwrap().to_owned();
    let named = value["ports"].as_array().unwrap().iter();
    let ports = named.map(|named| {
        (
            named["name"].as_str().unwrap().to_owned(),
            protocol(&named["protocol"]),
            port(&named["port"]),
        )
    });
    let pod = Pod {
        namespace: text("namespace"),
        labels: serde_json::from_value(value["labels"].clone()).unwrap(),
        ip: text("ip").parse().unwrap(),
        ports: ports.collect(),
    };
    (format!("{}/{}", text("namespace"), text("name")), pod)
}

#[test]
fn the_evaluator_says_of_each_connection_what_the_engine_is_held_to() {
    let list: Value = serde_json::from_str(LIST).unwrap();
    let pods: BTreeMap<String, Pod> = list["pods"].as_array().unwrap().iter().map(pod).collect();
    let namespaces = list["namespaces"].as_array().unwrap().iter().map(|namespace| {
        let labels = serde_json::from_value(namespace["labels"].clone()).unwrap();
        (namespace["name"].as_str().unwrap().to_owned(), labels)
    });
    let network = Network {
        policies: serde_json::from_value(list["policies"].clone()).unwrap(),
        namespaces: namespaces.collect(),
    };
    let end = |value: &Value| {
        let name = value.as_str().unwrap();
        match pods.get(name) {
            Some(pod) => Endpoint::Pod(pod),
            None => Endpoint::Outside(name.parse().unwrap()),
        }
    };
    let connections = list["connections"].as_array().unwrap();
    assert!(connections.len() > 40);
    for connection in connections {
        let (from, to) = (end(&connection["from"]), end(&connection["to"]));
        let open = network.allows(from, to, protocol(&connection["protocol"]), port(&connection["port"]));
        assert_eq!(Value::Bool(open), connection["open"], "{connection}");
    }
}
