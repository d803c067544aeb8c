use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::*;
use crate::names::MANAGER;

fn paths(planned: &Value, live: &Value) -> Vec<String> {
    let mut paths: Vec<String> = differences(planned, live).iter().map(|d| d.path.to_string()).collect();
    paths.sort();
    paths
}

#[test]
fn what_we_did_not_plan_is_no_difference_but_what_we_planned_is() {
    let planned = json!({
        "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "1"}},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "server", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {"limits": {"cpu": "1000m"}}},
        ]}}},
    });
    let mut live = planned.clone();
    live["metadata"]["labels"]["foreign"] = json!("yes");
    live["metadata"]["uid"] = json!("u");
    live["spec"]["progressDeadlineSeconds"] = json!(600);
    live["status"] = json!({"replicas": 1});
    let container = &mut live["spec"]["template"]["spec"]["containers"];
    container[0]["terminationMessagePath"] = json!("/dev/termination-log");
    container[0]["resources"]["limits"]["cpu"] = json!("1");
    container.as_array_mut().unwrap().insert(0, json!({"name": "sidecar"}));
    assert_eq!(paths(&planned, &live), [""; 0]);

    live["spec"]["replicas"] = json!(3);
    live["metadata"]["labels"].as_object_mut().unwrap().remove("x");
    live["spec"]["template"]["spec"]["containers"][1]["image"] = json!("other");
    live["spec"]["template"]["spec"]["containers"][1]["ports"] = json!([]);
    assert_eq!(
        paths(&planned, &live),
        [
            "metadata.labels.x",
            "spec.replicas",
            "spec.template.spec.containers[server].image",
            "spec.template.spec.containers[server].ports",
        ]
    );
}

#[test]
fn in_a_network_policy_every_addition_is_a_difference_and_the_mending_takes_it_away() {
    let planned = json!({
        "kind": "NetworkPolicy", "metadata": {"labels": {}},
        "spec": {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress", "Egress"]},
    });
    let mut live = planned.clone();
    live["metadata"]["labels"]["foreign"] = json!("yes");
    live["spec"]["ingress"] = json!([]);
    assert_eq!(paths(&planned, &live), [""; 0]);
    live["spec"]["egress"] = json!([{}]);
    let found = differences(&planned, &live);
    assert_eq!(
        found.iter().map(|d| d.path.to_string()).collect::<Vec<_>>(),
        ["spec.egress"]
    );
    let mut expected = planned.clone();
    expected["spec"]["egress"] = json!([]);
    assert_eq!(mending(&planned, &found), expected);

    let rule = json!({"kind": "NetworkPolicy", "spec": {"egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}});
    let mut wider = rule.clone();
    wider["spec"]["egress"][0]["ports"][0]["endPort"] = json!(60000);
    assert_eq!(paths(&rule, &wider), ["spec.egress"]);
    let mut narrower = planned.clone();
    narrower["spec"]["podSelector"]["matchLabels"]["c"] = json!("d");
    assert_eq!(paths(&planned, &narrower), ["spec.podSelector.matchLabels.c"]);
}

#[test]
fn what_is_replaced_as_a_whole_is_compared_as_a_whole() {
    let pods = "/spec/template/spec";
    let (container, spread) = (
        format!("{pods}/containers/0"),
        format!("{pods}/topologySpreadConstraints/0"),
    );
    let planned = json!({
        "metadata": {"name": "a", "ownerReferences": [{"uid": "u", "name": "n"}]},
        "spec": {
            "selector": {"app": "a"},
            "parentRefs": [{"name": "public"}],
            "rules": [{"matches": [{"path": {"value": "/"}}], "backendRefs": [{"name": "a", "port": 80}]}],
            "podMetricsEndpoints": [{"port": "metrics", "relabelings": [{"action": "replace"}]}],
            "metrics": [{"containerResource": {"target": {"averageUtilization": 60}}}],
            "groups": [{"name": "g", "rules": [{"alert": "a"}]}],
            "template": {"spec": {
                "nodeSelector": {"pool": "a"},
                "tolerations": [{"key": "k"}],
                "topologySpreadConstraints": [
                    {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}},
                ],
                "containers": [{"name": "server", "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}]}],
            }},
        },
    });
    for (place, field, found) in [
        ("/spec/parentRefs/0", "port", Some("spec.parentRefs")),
        ("/spec/rules/0", "filters", Some("spec.rules")),
        ("/spec/rules/0/matches/0", "headers", Some("spec.rules")),
        ("/spec/rules/0/backendRefs/0", "filters", Some("spec.rules")),
        (
            "/spec/podMetricsEndpoints/0",
            "honorLabels",
            Some("spec.podMetricsEndpoints"),
        ),
        (
            "/spec/podMetricsEndpoints/0/relabelings/0",
            "regex",
            Some("spec.podMetricsEndpoints"),
        ),
        (
            "/spec/metrics/0/containerResource/target",
            "value",
            Some("spec.metrics"),
        ),
        ("/spec/groups/0/rules/0", "for", Some("spec.groups[g].rules")),
        (
            format!("{pods}/tolerations/0").as_str(),
            "effect",
            Some("spec.template.spec.tolerations"),
        ),
        (
            format!("{pods}/nodeSelector").as_str(),
            "more",
            Some("spec.template.spec.nodeSelector.more"),
        ),
        ("/spec/selector", "more", Some("spec.selector.more")),
        (
            format!("{spread}/labelSelector/matchLabels").as_str(),
            "more",
            Some("spec.template.spec.topologySpreadConstraints[zone].labelSelector.matchLabels.more"),
        ),
        (
            format!("{container}/env/0/valueFrom/fieldRef").as_str(),
            "apiVersion",
            Some("spec.template.spec.containers[server].env[POD].valueFrom.fieldRef.apiVersion"),
        ),
        (
            "/metadata/ownerReferences/0",
            "blockOwnerDeletion",
            Some("metadata.ownerReferences[u].blockOwnerDeletion"),
        ),
        // What is merged, field by field or by its key, may have more by others.
        ("/spec/groups/0", "interval", None),
        (spread.as_str(), "minDomains", None),
        (container.as_str(), "terminationMessagePath", None),
        (format!("{container}/env/0/valueFrom").as_str(), "other", None),
        (pods, "dnsPolicy", None),
    ] {
        let mut live = planned.clone();
        live.pointer_mut(place).unwrap()[field] = json!("more");
        assert_eq!(paths(&planned, &live), Vec::from_iter(found), "{place} {field}");
        assert_eq!(
            mending(&planned, &differences(&planned, &live)),
            planned,
            "{place} {field}"
        );
    }
}

#[test]
fn the_manager_of_a_field_is_named_and_never_ourselves() {
    let entries: Vec<ManagedFieldsEntry> = serde_json::from_value(json!([
        {"manager": "screenshot-operator", "operation": "Apply", "time": "2026-01-03T00:00:00Z",
         "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T00:00:00Z",
         "fieldsV1": {"f:spec": {"f:egress": {}, "f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"server\"}": {".": {}, "f:image": {}}}}}}}},
        {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
         "time": "2026-01-04T00:00:00Z", "fieldsV1": {"f:status": {"f:replicas": {}}}},
        {"manager": "an-autoscaler", "operation": "Update", "subresource": "scale",
         "time": "2026-01-05T00:00:00Z", "fieldsV1": {"f:spec": {"f:size": {}}}},
    ]))
    .unwrap();
    let managers = Managers::of(&entries);
    let field = |names: &[&str]| Path(names.iter().map(|name| Step::Field((*name).to_owned())).collect());
    assert_eq!(managers.of_field(&field(&["spec", "egress"])), Some("kubectl-edit"));
    assert_eq!(
        managers.of_field(&field(&["spec", "egress", "deeper"])),
        Some("kubectl-edit")
    );
    assert_eq!(managers.of_field(&field(&["spec", "replicas"])), None);
    assert_eq!(managers.of_field(&field(&["spec", "ingress"])), None);
    let image = field(&["spec", "template", "spec", "containers"])
        .then(Step::Element(json!({"name": "server"}).as_object().unwrap().clone()))
        .field("image");
    assert_eq!(managers.of_field(&image), Some("kubectl-edit"));
    // For a field that is gone: the autoscaler wrote later, and takes none away.
    assert_eq!(managers.latest(), Some("kubectl-edit"));
    assert_eq!(managers.of_field(&field(&["spec", "size"])), Some("an-autoscaler"));
    // As `kubectl scale` leaves it.
    let scaled = json!({"manager": "kubectl", "operation": "Update", "subresource": "scale",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}});
    let scaled: [ManagedFieldsEntry; 1] = [serde_json::from_value(scaled).unwrap()];
    assert_eq!(
        Managers::of(&scaled).of_field(&field(&["spec", "replicas"])),
        Some("kubectl")
    );
}

fn applied(by: &str, operation: &str, fields: &Value) -> ManagedFieldsEntry {
    let entry = json!({"manager": by, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields});
    serde_json::from_value(entry).unwrap()
}

#[test]
fn what_our_last_apply_held_and_the_plan_lacks_is_missed_in_every_notation() {
    let planned = json!({
        "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "1"}, "ownerReferences": [{"uid": "u"}], "finalizers": ["f"]},
        "data": {"policy.json": "{}"},
        "spec": {"template": {"spec": {
            "nodeSelector": {"pool": "a"},
            "containers": [{"name": "server", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
        }}},
    });
    let held = json!({
        "f:metadata": {"f:labels": {".": {}, "f:x": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}, "f:finalizers": {"v:\"f\"": {}}},
        "f:data": {"f:policy.json": {}},
        "f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}, "f:containers": {"k:{\"name\":\"server\"}": {
            ".": {}, "f:name": {}, "f:image": {},
            "f:ports": {"i:0": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
        }}}}},
    });
    let outgrown = |entry: ManagedFieldsEntry| Managers::of(&[entry]).outgrown(&planned);
    let ours = |fields: &Value| applied(MANAGER, "Apply", fields);
    assert!(!outgrown(ours(&held)), "the plan has all of it");
    let container = r#"/f:spec/f:template/f:spec/f:containers/k:{"name":"server"}"#;
    for (place, more) in [
        ("/f:metadata", "f:annotations"),
        ("/f:metadata/f:labels", "f:team"),
        ("/f:metadata/f:ownerReferences", "k:{\"uid\":\"other\"}"),
        ("/f:metadata/f:finalizers", "v:\"other\""),
        ("/f:data", "f:cluster-ranges.json"),
        ("/f:spec", "f:replicas"),
        ("/f:spec/f:template/f:spec", "f:tolerations"),
        ("/f:spec/f:template/f:spec/f:containers", "k:{\"name\":\"old\"}"),
        (container, "f:args"),
        (format!("{container}/f:ports").as_str(), "i:1"),
        (
            format!("{container}/f:ports").as_str(),
            "k:{\"containerPort\":81,\"protocol\":\"TCP\"}",
        ),
        (
            format!("{container}/f:ports").as_str(),
            "k:{\"containerPort\":80,\"protocol\":\"UDP\"}",
        ),
    ] {
        let mut fields = held.clone();
        fields.pointer_mut(place).unwrap()[more] = json!({});
        assert!(outgrown(ours(&fields)), "{place} {more}");
        for other in [applied("vandal", "Apply", &fields), applied(MANAGER, "Update", &fields)] {
            assert!(!outgrown(other), "{place} {more}: not what we applied");
        }
        let status = ManagedFieldsEntry {
            subresource: Some("status".into()),
            ..ours(&fields)
        };
        assert!(!outgrown(status), "{place} {more}: of the status");
    }
}
