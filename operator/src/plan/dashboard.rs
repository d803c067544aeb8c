//! The dashboard: a ConfigMap with one Grafana document, found by the label that Grafana's sidecar looks for.
//!
//! The same metrics and labels as the alerts. The data source is a variable, so that the document fits every Grafana.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::monitoring::{FAULTS, OVERLOAD, matchers};
use super::{Child, Kind};
use crate::validate::Validated;

/// Width of Grafana's grid, in cells; two panels stand side by side.
const GRID_WIDTH: usize = 24;
const PANEL_HEIGHT: usize = 8;

pub(super) fn build(wanted: &Validated) -> Option<Child> {
    let dashboard = &wanted.monitoring.dashboard;
    if !dashboard.enabled {
        return None;
    }
    let name = wanted.identity.names.dashboard();
    // The sidecar makes a file of that name, in one directory for all ConfigMaps of the cluster.
    let file = format!("{}_{name}.json", wanted.identity.namespace);
    let content = json!({"data": {file: format!("{:#}", document(wanted))}});
    let found = BTreeMap::from([("grafana_dashboard".to_owned(), "1".to_owned())]);
    let child = Child::new(&wanted.identity, Kind::ConfigMap, &name, content);
    Some(child.labelled(&found).labelled(&dashboard.labels))
}

fn document(wanted: &Validated) -> Value {
    let id = &wanted.identity;
    let panels: Vec<Value> = queries(&matchers(wanted))
        .into_iter()
        .enumerate()
        .map(|(index, panel)| place(index, &panel))
        .collect();
    json!({
        "uid": id.owner.uid.replace('-', "").chars().take(40).collect::<String>(),
        "title": format!("Screenshots: {}/{}", id.namespace, id.names.main()),
        "tags": ["screenshot-operator"],
        "schemaVersion": 39,
        "editable": false,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]},
        "panels": panels,
    })
}

struct Panel {
    title: &'static str,
    unit: &'static str,
    /// Expression and legend of each line.
    lines: Vec<(String, &'static str)>,
}

fn queries(of: &str) -> Vec<Panel> {
    let one = |title, unit, query: String, legend| Panel {
        title,
        unit,
        lines: vec![(query, legend)],
    };
    let quantile = |q: &str| {
        format!("histogram_quantile({q}, sum by (le) (rate(screenshot_server_capture_seconds_bucket{{{of}}}[5m])))")
    };
    let share = |reasons: &str| {
        format!(
            "sum(rate(screenshot_server_captures_total{{{of},reason=~\"{reasons}\"}}[5m])) / sum(rate(screenshot_server_captures_total{{{of}}}[5m]))"
        )
    };
    vec![
        one(
            "Captures by outcome",
            "reqps",
            format!("sum by (reason) (rate(screenshot_server_captures_total{{{of}}}[5m]))"),
            "{{reason}}",
        ),
        Panel {
            title: "Time of a capture",
            unit: "s",
            lines: vec![
                (quantile("0.5"), "half are faster"),
                (quantile("0.95"), "95 % are faster"),
            ],
        },
        Panel {
            title: "Failed for the service's own reasons, and refused for lack of room",
            unit: "percentunit",
            lines: vec![(share(FAULTS), "failed"), (share(OVERLOAD), "refused")],
        },
        Panel {
            title: "Captures in hand and waiting",
            unit: "short",
            lines: vec![
                (format!("sum(screenshot_server_captures_in_flight{{{of}}})"), "in hand"),
                (format!("sum(screenshot_server_captures_waiting{{{of}}})"), "waiting"),
            ],
        },
        one(
            "What pages asked for, by the proxy's answer",
            "reqps",
            format!("sum by (reason) (rate(screenshot_server_egress_decisions_total{{{of}}}[5m]))"),
            "{{reason}}",
        ),
        Panel {
            title: "Pods that take captures, and those whose browsers are confined",
            unit: "short",
            lines: vec![
                (format!("sum(screenshot_server_ready{{{of}}})"), "ready"),
                (format!("sum(screenshot_server_sandbox_verified{{{of}}})"), "confined"),
            ],
        },
        one(
            "Revision of the keyset, by pod",
            "short",
            format!("max by (pod) (screenshot_server_keyset_revision{{{of}}})"),
            "{{pod}}",
        ),
        one(
            "Passes of the operator, by outcome",
            "ops",
            "sum by (outcome) (rate(screenshot_operator_reconciles_total[5m]))".to_owned(),
            "{{outcome}}",
        ),
    ]
}

fn place(index: usize, panel: &Panel) -> Value {
    let width = GRID_WIDTH / 2;
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let targets: Vec<Value> = panel
        .lines
        .iter()
        .zip('A'..)
        .map(|((query, legend), letter)| {
            json!({"refId": letter, "datasource": source, "expr": query, "legendFormat": legend})
        })
        .collect();
    json!({
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"h": PANEL_HEIGHT, "w": width, "x": (index % 2) * width, "y": (index / 2) * PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}
