//! What a restart or an upgrade of the operator does to capture pods that run: nothing, unless `upgrade.yaml` says why.

use std::fmt::Write as _;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::rules::template;
use super::*;

const LIST: &str = include_str!("upgrade.yaml");
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: String,
    why: String,
    templates: BTreeMap<String, String>,
}

/// The digest of the pod template of each golden plan, from its committed snapshot: what changes in the template is a
/// difference there for a reviewer to read, and that the snapshots are today's the golden tests say.
fn today() -> BTreeMap<String, String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots");
    let mut digests = BTreeMap::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(sort) = name.strip_prefix("golden__the_plan_of_") else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        // Between two lines of dashes stands insta's header.
        let (_, plan) = text[4..].split_once("\n---\n").unwrap();
        let deployment = plan
            .split("\n---\n")
            .find(|child| child.lines().any(|line| line == "kind: Deployment"));
        let deployment: Value = serde_saphyr::from_str(deployment.unwrap()).unwrap();
        let template = &deployment["spec"]["template"];
        assert!(template["spec"]["containers"].is_array(), "{sort}");
        let mut hex = String::new();
        for byte in &Sha256::digest(serde_json::to_vec(template).unwrap())[..8] {
            let _ = write!(hex, "{byte:02x}");
        }
        digests.insert(sort.strip_suffix(".snap").unwrap().to_owned(), hex);
    }
    assert!(digests.len() >= 12, "{digests:?}");
    digests
}

#[test]
fn an_upgrade_replaces_capture_pods_only_where_the_list_says_why() {
    let versions: Vec<Entry> = serde_saphyr::from_str(LIST).unwrap();
    let last = versions.last().unwrap();
    assert!(versions.iter().all(|entry| !entry.why.trim().is_empty()));
    let names: BTreeSet<&str> = versions.iter().map(|entry| entry.version.as_str()).collect();
    assert!(
        names.len() == versions.len() && names.contains(VERSION) && last.version == VERSION,
        "one entry for each version, the last for {VERSION}"
    );
    let today = today();
    let mut entry = format!("- version: {VERSION}\n  why:\n  templates:\n");
    for (sort, digest) in &today {
        let _ = writeln!(entry, "    {sort}: \"{digest}\"");
    }
    assert!(
        last.templates == today,
        "this replaces the capture pods of services that run; if it must, say why in operator/tests/golden/upgrade.yaml:\n{entry}"
    );
}

/// An operator that is installed anew elsewhere, or has another version, plans the same pods.
#[test]
fn which_operator_it_is_is_no_part_of_a_pod() {
    let before = template("{}");
    assert!(!before.to_string().contains(VERSION));
    let elsewhere = Settings {
        operator_namespace: "elsewhere".into(),
        operator_name: "another".into(),
        ..settings()
    };
    let service = service("{}");
    let wanted = validate(identity(&service).unwrap(), &service, &elsewhere).unwrap();
    let around = Surroundings {
        targets: &Targets::new(),
        operator: &screenshot_operator::plan::OperatorPods {
            namespace: "elsewhere".into(),
            name: "another".into(),
        },
        served: &optional_kinds(),
        deployment: None,
    };
    let there = plan(&wanted, &around, now());
    assert_eq!(there.deployment.body["spec"]["template"], before);
    assert_ne!(
        whole(&there),
        whole(&planned("{}", &Targets::new())),
        "it is another operator"
    );
}
