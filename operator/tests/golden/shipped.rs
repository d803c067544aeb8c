//! What is shipped beside the operator: examples, alerts, the dashboard.

use super::*;

/// Names that a crate registers, as they stand in an answer to a scrape: `prefix_name` without a type's suffix.
fn registered(prefix: &str, directory: &str) -> BTreeSet<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut names = BTreeSet::new();
    let mut open = vec![root];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // (the call, what it appends to the name)
            for (call, unit) in [(".register(", ""), (".register_with_unit(", "_seconds")] {
                for rest in text.split(call).skip(1) {
                    let name = rest.split('"').nth(1).unwrap_or_default();
                    names.insert(format!("{prefix}_{name}{unit}"));
                }
            }
        }
    }
    names
}

#[test]
fn alerts_and_dashboards_read_only_metrics_that_are_exported() {
    let mut exported = registered("screenshot_server", "../capture-server/src");
    exported.extend(registered("screenshot_operator", "src"));
    assert!(exported.contains("screenshot_server_ready"), "{exported:?}");
    let plan = planned(MONITORED, &Targets::new());
    let chart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/screenshot-operator/files");
    let of_the_chart = ["alerts.yaml", "dashboard.json"].map(|file| std::fs::read_to_string(chart.join(file)).unwrap());
    let text = [plan.prometheus_rule, plan.dashboard]
        .into_iter()
        .flatten()
        .map(|child| child.body.to_string())
        .chain(of_the_chart)
        .collect::<String>();
    let mut read = BTreeSet::new();
    for (start, _) in text.match_indices("screenshot_") {
        let name: String = text[start..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        let base = ["_total", "_bucket"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        read.insert(base.unwrap_or(&name).to_owned());
    }
    assert!(read.len() >= 16, "{read:?}");
    let unknown: Vec<_> = read.difference(&exported).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The words of the alerts are those that the capture server counts captures by.
#[test]
fn alerts_name_only_outcomes_that_captures_have() {
    let sources = ["capture/verdict.rs", "limits/queue.rs", "http/problem.rs"].map(|file| {
        let path = format!("{}/../capture-server/src/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    });
    let rule = planned(MONITORED, &Targets::new())
        .prometheus_rule
        .unwrap()
        .body
        .to_string();
    let mut words = 0;
    for list in rule.split("reason=~\\\"").skip(1) {
        for word in list.split("\\\"").next().unwrap().split('|') {
            let quoted = format!("\"{word}\"");
            assert!(sources.iter().any(|source| source.contains(&quoted)), "{word}");
            words += 1;
        }
    }
    assert_eq!(words, 8, "{rule}");
}

/// Every example is a service that the operator can plan, and holds no field that it does not know.
#[test]
fn every_example_is_planned() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut planned_services = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n") {
            let value: Value = serde_saphyr::from_str(document).unwrap();
            if value["kind"] != "ScreenshotService" {
                continue;
            }
            let spec: ScreenshotServiceSpec = serde_json::from_value(value["spec"].clone()).unwrap();
            let known = serde_json::to_value(&spec).unwrap();
            assert!(
                within(&value["spec"], &known),
                "{}: {} is not {known}",
                path.display(),
                value["spec"]
            );
            planned(&serde_json::to_string(&spec).unwrap(), &Targets::new());
            planned_services += 1;
        }
    }
    assert!(planned_services >= 7, "{planned_services}");
}

/// Whether everything that `part` says stands in `whole` as well.
fn within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|other| within(value, other))),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(value, other)| within(value, other))
        }
        (part, whole) => part == whole,
    }
}
