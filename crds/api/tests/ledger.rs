//! `docs/controls.md` is complete and true: every field of the schema stands in it, every test it names exists, and no
//! row of a control leaves a cell empty. `docs/life-of-a-request.md` walks through functions that are there, and
//! `docs/attacks.md` names a test against each attack.

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

fn fields_of_the_schema() -> BTreeSet<String> {
    let crd = screenshot_api::schema::crd().unwrap();
    let spec = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .unwrap();
    let mut found = BTreeSet::new();
    leaves(spec, "spec", &mut found);
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
    let fields = fields_of_the_schema();
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
