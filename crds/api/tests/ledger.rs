//! `docs/controls.md` is complete and true: every field of the schema stands in it, every test it names exists, and no
//! row of a control leaves a cell empty. `docs/life-of-a-request.md` walks through functions that are there, and
//! `docs/attacks.md` names a test against each attack. And the bans of `clippy.toml` are taken off only where it is known.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

const LEDGER: &str = include_str!("../../../docs/controls.md");
const ATTACKS: &str = include_str!("../../../docs/attacks.md");

/// The cells of every row of the ledger's table under a heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = LEDGER
        .split_once(&format!("## {heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    cells(section.split("\n## ").next().unwrap())
}

/// The cells of every row of the table on this page.
fn cells(page: &'static str) -> Vec<Vec<&'static str>> {
    let lines = page.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What stands between backticks in a cell.
fn quoted(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The paths of the leaves of a schema, `spec.a.b` and `spec.list[].c`.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, property) in properties {
            leaves(property, &format!("{path}.{name}"), found);
        }
    } else if let Some(items) = schema.get("items") {
        leaves(items, &format!("{path}[]"), found);
    } else {
        found.insert(path.to_owned());
    }
}

/// The leaves below `spec` or `status`.
fn fields_of_the_schema(part: &str) -> BTreeSet<String> {
    let crd = screenshot_api::schema::crd().unwrap();
    let place = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}");
    let mut found = BTreeSet::new();
    leaves(crd.pointer(&place).unwrap(), part, &mut found);
    found
}

#[test]
fn every_field_of_the_schema_is_a_control_with_a_row_or_is_said_to_be_none() {
    let named: Vec<&str> = ["Controls with a field", "Fields that are no controls"]
        .into_iter()
        .flat_map(rows)
        .flat_map(|row| quoted(row[0]))
        .collect();
    let covers = |name: &str, field: &str| match name.strip_suffix('*') {
        Some(prefix) => field.starts_with(prefix),
        None => name == field,
    };
    let fields = fields_of_the_schema("spec");
    let missing: Vec<&String> = fields
        .iter()
        .filter(|field| !named.iter().any(|name| covers(name, field)))
        .collect();
    assert!(missing.is_empty(), "fields without a row: {missing:#?}");
    let stale: Vec<&&str> = named
        .iter()
        .filter(|name| !fields.iter().any(|field| covers(name, field)))
        .collect();
    assert!(stale.is_empty(), "rows without a field: {stale:#?}");
}

#[test]
fn every_field_of_the_status_that_the_ledger_shows_a_control_in_exists() {
    let fields = fields_of_the_schema("status");
    let mut named = quoted(LEDGER);
    named.retain(|name| name.starts_with("status."));
    assert!(named.len() >= 5, "{named:?}");
    let within = |field: &str, name: &str| {
        field
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for name in named {
        assert!(fields.iter().any(|field| within(field, name)), "there is no {name}");
    }
}

#[test]
fn a_control_has_both_halves_a_proof_and_a_test_that_goes_red() {
    for heading in [
        "Controls with a field",
        "Controls without a field: they hold for every service",
    ] {
        for row in rows(heading) {
            assert_eq!(row.len(), 6, "{row:?}");
            assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
            assert!(!quoted(row[3]).is_empty() && !quoted(row[4]).is_empty(), "{row:?}");
        }
    }
}

#[test]
fn every_test_that_the_ledger_names_exists() {
    let tests = test_functions();
    for heading in [
        "Controls with a field",
        "Controls without a field: they hold for every service",
    ] {
        for row in rows(heading) {
            for name in quoted(row[3]).into_iter().chain(quoted(row[4])) {
                assert!(tests.contains(name), "{}: no test {name}", row[0]);
            }
        }
    }
}

#[test]
fn every_attack_has_a_test_against_the_server_and_names_only_tests_that_exist() {
    let (page, rules) = ATTACKS.split_once("\n## ").unwrap();
    let tests = test_functions();
    let rows = cells(page);
    let legend: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("- *")?.split('*').next())
        .collect();
    let mut reasons = BTreeSet::new();
    let numbers: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let all: Vec<String> = (1..=31).filter(|n| *n != 26).map(|n| format!("T{n}")).collect();
    assert_eq!(numbers, all);
    for row in &rows {
        assert_eq!(row.len(), 6, "{row:?}");
        assert!(!quoted(row[3]).is_empty(), "{}: no test against the server", row[0]);
        for cell in &row[4..] {
            match cell.strip_prefix("- *").and_then(|reason| reason.strip_suffix('*')) {
                Some(reason) => drop(reasons.insert(reason)),
                None => assert!(!quoted(cell).is_empty(), "{}: {cell}", row[0]),
            }
        }
        for name in row[3..].iter().flat_map(|cell| quoted(cell)) {
            assert!(tests.contains(name), "{}: no test {name}", row[0]);
        }
    }
    assert_eq!(reasons, legend, "reasons why a half has no say");
    let (_, holes) = page.split_once("Of Pixashot's holes").unwrap();
    let named = quoted(holes);
    assert!(named.len() >= 4, "{named:?}");
    for name in named {
        assert!(tests.contains(name), "no test {name}");
    }
    let (root, rules) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), cells(rules));
    assert!(rules.len() > 30);
    for rule in rules {
        let [what, places, red] = rule[..] else {
            panic!("{rule:?}");
        };
        assert!(!quoted(red).is_empty(), "{what}: nothing goes red");
        for name in quoted(red) {
            assert!(tests.contains(name), "{what}: no test {name}");
        }
        for place in quoted(places) {
            let found = ["capture-server/egress/src", "capture-server/src", "crds/policy/src"]
                .iter()
                .any(|room| root.join(room).join(place).is_file());
            assert!(found, "{what}: no file {place}");
        }
    }
}

#[test]
fn every_step_of_a_requests_life_is_a_function_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = include_str!("../../../docs/life-of-a-request.md");
    let steps: Vec<Vec<&'static str>> = page.lines().filter(|l| l.starts_with("## ")).map(quoted).collect();
    assert_eq!(steps.len(), 12);
    for step in steps {
        let [file, function] = step[..] else {
            panic!("a heading names a file and a function: {step:?}");
        };
        let code = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(code.contains(&format!("fn {function}(")), "{file} has no {function}");
    }
}

/// Ways out of a process that are banned everywhere but in the rooms below.
const WAYS_OUT: [&str; 16] = [
    "std::net::TcpStream::connect",
    "std::net::TcpStream::connect_timeout",
    "std::net::UdpSocket::bind",
    "std::net::ToSocketAddrs::to_socket_addrs",
    "tokio::net::TcpStream::connect",
    "tokio::net::TcpSocket::connect",
    "tokio::net::UdpSocket::bind",
    "tokio::net::lookup_host",
    "hyper_util::client::legacy::connect::HttpConnector::new",
    "hyper_util::client::legacy::connect::HttpConnector::new_with_resolver",
    "tokio_socks::tcp::Socks5Stream::connect",
    "tokio_socks::tcp::Socks5Stream::connect_with_password",
    "rustix::net::connect",
    "rustix::net::sendto",
    "libc::connect",
    "libc::sendto",
];

/// Files of what is shipped that take a ban off, how often, and what for. The compiler does not say which ban.
const ROOMS: [(&str, usize, &str); 22] = [
    ("capture-server/egress/src/decide.rs", 1, "test: a target on loopback"),
    ("capture-server/egress/src/dial.rs", 1, "the dial, to a checked address"),
    (
        "capture-server/egress/src/fuzz.rs",
        1,
        "test: a name server on loopback",
    ),
    (
        "capture-server/egress/src/resolve/tests.rs",
        1,
        "test: a name server on loopback",
    ),
    ("capture-server/jail/src/child.rs", 1, "the jail's listeners"),
    ("capture-server/jail/src/client.rs", 1, "the jailer's socket"),
    ("capture-server/jail/src/inside.rs", 4, "tries from inside a jail; test"),
    ("capture-server/jail/src/server.rs", 1, "the jailer's socket"),
    (
        "capture-server/src/canary.rs",
        2,
        "past the proxy, to the operator; test",
    ),
    ("capture-server/src/child.rs", 1, "starts the jailer"),
    ("capture-server/src/clock.rs", 1, "the hour"),
    ("capture-server/src/http/listener.rs", 1, "test: callers on loopback"),
    ("capture-server/src/main.rs", 1, "the probe, to its own server"),
    ("capture-server/src/server.rs", 1, "the server's listeners"),
    ("capture-server/src/service/tests.rs", 1, "test: a made-up jailer"),
    ("crds/policy/src/schema.rs", 2, "test: where the crate is"),
    ("operator/src/attest.rs", 2, "to capture pods; test"),
    ("operator/src/canary/mod.rs", 2, "to its own canary; test"),
    ("operator/src/clock.rs", 1, "the hour"),
    ("operator/src/http.rs", 1, "the operator's listeners"),
    ("operator/src/probe.rs", 2, "helm test, to the operator; test"),
    ("operator/src/run.rs", 1, "the canary's listener"),
];

#[test]
fn nothing_that_is_shipped_goes_out_but_from_the_rooms_that_are_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let banned = std::fs::read_to_string(root.join("clippy.toml")).unwrap();
    for way in WAYS_OUT {
        assert!(
            banned.contains(&format!("{{ path = \"{way}\", ")),
            "{way} is not banned"
        );
    }
    let mut files = Vec::new();
    for room in ["crds", "operator", "capture-server"] {
        sources(&root.join(room), &mut files);
    }
    // With these a ban goes by another name.
    let off = ["disallowed_methods", "clippy::all", "clippy::style", "(warnings"];
    let mut found = Vec::new();
    for file in files {
        let place = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let count: usize = off.iter().map(|word| text.matches(word).count()).sum();
        if count > 0 && place.contains("/src/") {
            found.push((place, count));
        }
    }
    found.sort();
    let known: Vec<(String, usize)> = ROOMS
        .iter()
        .map(|(place, count, _)| ((*place).to_owned(), *count))
        .collect();
    assert_eq!(found, known);
}

/// The names of all functions under a `#[test]` in the workspace, and those in the tables of suites that run their tests
/// themselves.
fn test_functions() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for room in ["crds", "operator", "capture-server", "tests"] {
        sources(&root.join(room), &mut files);
    }
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if let Some((_, table)) = text.split_once("TESTS: &[Test] = &[")
            && let Some((table, _)) = table.split_once("\n];")
        {
            found.extend(table.split('"').skip(1).step_by(2).map(str::to_owned));
        }
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            marked |= line.contains("#[test]") || line.starts_with("#[tokio::test");
            if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked) {
                found.extend(rest.split('(').next().map(str::to_owned));
                marked = false;
            }
        }
    }
    found
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
