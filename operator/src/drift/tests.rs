use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::*;

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
fn the_manager_of_a_field_is_named_and_never_ourselves() {
    let entries: Vec<ManagedFieldsEntry> = serde_json::from_value(json!([
        {"manager": "screenshot-operator", "operation": "Apply", "time": "2026-01-03T00:00:00Z",
         "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T00:00:00Z",
         "fieldsV1": {"f:spec": {"f:egress": {}, "f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"server\"}": {".": {}, "f:image": {}}}}}}}},
        {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
         "time": "2026-01-04T00:00:00Z", "fieldsV1": {"f:status": {"f:replicas": {}}}},
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
    assert_eq!(managers.latest(), Some("kubectl-edit"));
}
