//! Objects as a real API server writes them → what is made of them.

use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn a_deployment(more: &Value) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "shots", "generation": 3, "managedFields": [
            {"manager": "screenshot-operator", "operation": "Apply", "apiVersion": "apps/v1",
             "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}}},
            {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
             "fieldsV1": {"f:status": {"f:replicas": {}}}},
        ]},
        "spec": {"replicas": 4, "selector": {}, "template": {}},
        "status": {"observedGeneration": 3, "replicas": 4, "updatedReplicas": 4, "readyReplicas": 3},
    });
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_deployment_is_cut_down_to_numbers_and_troubles() {
    let expected = DeploymentView {
        current: true,
        desired: 4,
        held_replicas: Some(4),
        replicas: 4,
        updated: 4,
        ready: 3,
        stuck: false,
        paused: false,
        failure: None,
    };
    assert_eq!(deployment(&a_deployment(&json!({}))), expected);
    let spec = json!({"replicas": 4, "selector": {}, "template": {}, "paused": true});
    let paused = DeploymentView {
        paused: true,
        ..expected
    };
    assert_eq!(deployment(&a_deployment(&json!({"spec": spec}))), paused);
    let status = json!({"observedGeneration": 2, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota",
         "lastTransitionTime": "2026-06-01T00:00:00Z"},
    ]});
    let said = Said {
        reason: "FailedCreate".into(),
        message: "exceeded quota".into(),
        since: Some(time("2026-06-01T00:00:00Z")),
    };
    let expected = DeploymentView {
        desired: 4,
        held_replicas: Some(4),
        stuck: true,
        failure: Some(said),
        ..DeploymentView::default()
    };
    assert_eq!(deployment(&a_deployment(&json!({"status": status}))), expected);
}

#[test]
fn replicas_are_held_only_while_the_operators_own_apply_owns_them() {
    for (entry, held) in [
        (
            json!({"manager": "screenshot-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}),
            true,
        ),
        (
            json!({"manager": "screenshot-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}),
            false,
        ),
        (
            json!({"manager": "screenshot-operator", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}),
            false,
        ),
        (
            json!({"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale",
                   "fieldsV1": {"f:spec": {"f:replicas": {}}}}),
            false,
        ),
    ] {
        let metadata = json!({"managedFields": [entry]});
        let view = deployment(&a_deployment(&json!({"metadata": metadata})));
        assert_eq!(view.held_replicas.is_some(), held, "{metadata}");
    }
}

#[test]
fn an_autoscaler_that_cannot_act_is_not_active_whatever_it_measures() {
    let look = |conditions: Value| {
        let object = json!({"status": {"conditions": conditions, "desiredReplicas": 1}});
        autoscaler(&serde_json::from_value(object).unwrap())
    };
    let measured = json!({"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "m"});
    let unable = json!({"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": "no"});
    let blind = json!({"type": "ScalingActive", "status": "False", "reason": "FailedGetContainerResourceMetric"});
    assert_eq!(look(json!([])), AutoscalerView::default());
    assert_eq!(look(json!([measured])).active, Some(true));
    assert_eq!(look(json!([measured, unable])).said.reason, "FailedGetScale");
    let view = look(json!([blind]));
    assert_eq!(
        (view.active, view.said.reason.as_str()),
        (Some(false), "FailedGetContainerResourceMetric")
    );
}

fn a_pod(status: &Value) -> PodState {
    pod(&serde_json::from_value(
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": []}, "status": status}),
    )
    .unwrap())
}

#[test]
fn a_pod_is_cut_down_to_where_it_is_and_what_stops_it() {
    let running = json!({"phase": "Running", "podIP": "10.1.2.3", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "server", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "browser", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]});
    let expected = PodState {
        name: "p".into(),
        node: Some("n1".into()),
        ip: Some("10.1.2.3".parse().unwrap()),
        ready: true,
        started: true,
        ..PodState::default()
    };
    assert_eq!(a_pod(&running), expected);
    let waiting = |reason: &str| {
        let state = json!({"waiting": {"reason": reason, "message": "m"}});
        let container =
            json!({"name": "server", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        a_pod(&json!({"phase": "Pending", "containerStatuses": [container]}))
            .waiting
            .map(|said| said.reason)
    };
    assert_eq!(waiting("ImagePullBackOff"), Some("ImagePullBackOff".into()));
    assert_eq!(waiting("ContainerCreating"), None);
    assert_eq!(waiting("PodInitializing"), None);
    assert!(a_pod(&json!({"phase": "Failed"})).leaving);
    let unplaced = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes", "lastTransitionTime": "2026-06-01T00:00:00Z"}]});
    let said = a_pod(&unplaced).unschedulable.unwrap();
    assert_eq!(
        (said.reason.as_str(), said.since),
        ("Unschedulable", Some(time("2026-06-01T00:00:00Z")))
    );
}

#[test]
fn a_pod_is_in_creation_from_its_node_on_until_the_first_container_was_begun() {
    let scheduled = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-06-01T00:00:00Z"}]);
    let with = |phase: &str, states: &[Value]| {
        let containers = states.iter().map(|state| {
            json!({"name": "server", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
        });
        let containers: Vec<Value> = containers.collect();
        a_pod(&json!({"phase": phase, "conditions": scheduled, "containerStatuses": containers})).creating
    };
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let since = Some(time("2026-06-01T00:00:00Z"));
    assert_eq!(with("Pending", &[]), since);
    assert_eq!(
        with("Pending", &[waiting("ContainerCreating"), waiting("PodInitializing")]),
        since
    );
    for begun in [
        waiting("ErrImagePull"),
        json!({"running": {}}),
        json!({"terminated": {"exitCode": 1}}),
    ] {
        assert_eq!(with("Pending", &[waiting("ContainerCreating"), begun]), None);
    }
    assert_eq!(with("Running", &[]), None);
    let nowhere = json!({"metadata": {"name": "p"}, "spec": {"containers": []},
        "status": {"phase": "Pending", "conditions": scheduled}});
    assert_eq!(pod(&serde_json::from_value(nowhere).unwrap()).creating, None);
}
