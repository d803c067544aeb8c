//! What stops capture pods, with the real texts of the API server's admission: the status names what a person can change.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use screenshot_operator::plan::Kind;
use serde_json::{Value, json};

use crate::children::ours;
use crate::proxy::Proxy;
use crate::support::{Operator, PATIENCE, Stage};

/// A capture pod that its node does not begin, and what the kubelet says of it: no node is there, so both are objects only.
pub async fn refused_by_its_node(stage: &Stage, node: &str, text: &str) {
    let api: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let deployment = stage.children(Kind::Deployment).get("shots").await.expect("Deployment");
    let labels = &deployment.data["spec"]["template"]["metadata"]["labels"];
    let pod = json!({"metadata": {"name": "shots-refused", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "server", "image": "none"}]}});
    let pod = serde_json::from_value(pod).expect("pod");
    let pod = api.create(&PostParams::default(), &pod).await.expect("pod");
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = Patch::Merge(json!({"status": {"phase": "Pending", "conditions": [scheduled]}}));
    api.patch_status("shots-refused", &PatchParams::default(), &status)
        .await
        .expect("status");
    // Of the kind that the kubelet makes, of another pod as well.
    for (event, uid, text) in [
        ("refused", pod.metadata.uid.as_deref(), text),
        ("other", Some("other"), "no"),
    ] {
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": event},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": stage.namespace, "name": "shots-refused", "uid": uid},
            "type": "Warning", "reason": "FailedCreatePodSandBox", "message": text, "source": {"component": "kubelet"},
            "lastTimestamp": "2026-01-01T00:00:05Z", "count": 3});
        create(stage, "v1", "Event", "events", event).await;
    }
}

/// Waits until the service is stalled for that reason, doing passes as the controller would.
async fn stalls(stage: &Stage, name: &str, reason: &str, quoted: &str) {
    let operator = Operator::watching(stage).await;
    let start = Instant::now();
    let mut last = None;
    while start.elapsed() < Duration::from_secs(30) {
        let service = stage.services().get(name).await.expect("service");
        operator.pass(&service).await.expect("pass");
        let status = stage
            .services()
            .get(name)
            .await
            .expect("service")
            .status
            .expect("status");
        let find = |kind: &str| status.conditions.iter().find(|c| c.type_ == kind).cloned();
        if let Some(stalled) = find("Stalled").filter(|stalled| stalled.reason == reason) {
            assert!(stalled.message.contains(quoted), "{}", stalled.message);
            assert_eq!(
                find("Ready").map(|c| (c.status, c.reason)),
                Some(("False".into(), reason.into()))
            );
            assert_eq!(find("Available").map(|c| c.reason), Some(reason.into()));
            assert!(find("Reconciling").is_none());
            return;
        }
        last = Some(status.conditions);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("not stalled by {reason}: {last:#?}");
}

#[tokio::test]
async fn a_priority_class_that_does_not_exist_stalls_by_name() {
    let stage = Stage::new("priority").await;
    let spec = json!({"replicas": 1, "scheduling": {"priorityClassName": "captures"}});
    stage.create("shots", spec).await.expect("created");
    stalls(&stage, "shots", "PriorityClassMissing", "captures").await;
}

#[tokio::test]
async fn a_runtime_class_that_does_not_exist_stalls_by_name() {
    let stage = Stage::new("runtime").await;
    let spec = json!({"replicas": 1, "sandbox": {"runtimeClassName": "nowhere"}});
    stage.create("shots", spec).await.expect("created");
    stalls(&stage, "shots", "RuntimeClassMissing", "nowhere").await;
}

#[tokio::test]
async fn a_full_quota_stalls_and_is_quoted() {
    let stage = Stage::new("quota").await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"pods": "0"}}});
    create(&stage, "v1", "ResourceQuota", "resourcequotas", quota).await;
    // The quota acts once its controller has counted.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.create("shots", json!({"replicas": 1})).await.expect("created");
    stalls(&stage, "shots", "QuotaExceeded", "exceeded quota: small").await;
}

#[tokio::test]
async fn a_limit_that_capture_pods_exceed_stalls_and_is_quoted() {
    let stage = Stage::new("limits").await;
    let limits = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "8Mi"}}]}});
    create(&stage, "v1", "LimitRange", "limitranges", limits).await;
    stage.create("shots", json!({"replicas": 1})).await.expect("created");
    stalls(
        &stage,
        "shots",
        "AdmissionRefused",
        "maximum memory usage per Container is 8Mi",
    )
    .await;
}

#[tokio::test]
async fn a_pod_that_its_node_does_not_begin_stalls_with_what_the_kubelet_told_of_it_alone() {
    let stage = Stage::new("userns").await;
    let spec = json!({"replicas": 1, "sandbox": {"hostUsers": false}});
    let service = stage.create("shots", spec).await.expect("created");
    let first = Operator::watching(&stage).await;
    first.pass(&service).await.expect("pass");
    assert_eq!(
        first.count("api_calls_total", &["list", "Event"]),
        0,
        "events are read without need"
    );
    let note = r#"Failed to create pod sandbox: RuntimeClass handler "" does not support user namespaces"#;
    refused_by_its_node(&stage, "old-node", note).await;
    let expected = format!("node old-node cannot do `spec.sandbox.hostUsers: false`: {note}");
    stalls(&stage, "shots", "UserNamespacesUnsupported", &expected).await;
}

async fn create(stage: &Stage, version: &str, kind: &str, plural: &str, object: Value) {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource =
        kube::core::ApiResource::from_gvk_with_plural(&kube::core::GroupVersionKind::gvk(group, version, kind), plural);
    let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
    let object = serde_json::from_value(object).expect("object");
    api.create(&PostParams::default(), &object).await.expect("created");
}

/// With the definitions that the Gateway API and the Prometheus operator ship.
#[tokio::test]
async fn what_the_cluster_lacks_is_said_and_is_made_as_soon_as_it_is_known() {
    let stage = Stage::new("lacking").await;
    stage.define_optional_kinds().await;
    let proxy = Proxy::start(stage.client.clone()).await;
    proxy.hide("gateway.networking.k8s.io");
    proxy.hide("monitoring.coreos.com");
    let spec = json!({"replicas": 1,
        "monitoring": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true}},
        "network": {"exposure": {"httpRoute": {"parentRefs": [{"name": "public", "sectionName": "https"}], "hostnames": ["shots.example.com"]}}}});
    let service = stage.create("shots", spec).await.expect("created");
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(PATIENCE).await;
    operator.pass(&service).await.expect("a missing kind is no error");
    let says = async |kind: &str| {
        let status = stage
            .services()
            .get("shots")
            .await
            .expect("service")
            .status
            .expect("status");
        let found = status.conditions.into_iter().find(|c| c.type_ == kind);
        found.map(|c| (c.status, c.reason))
    };
    let is = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    assert_eq!(says("MonitoringInPlace").await, is("False", "MonitoringCRDMissing"));
    assert_eq!(says("Exposed").await, is("False", "GatewayCRDMissing"));
    assert_eq!(says("Stalled").await, is("True", "GatewayCRDMissing"));
    stage
        .children(Kind::Deployment)
        .get("shots")
        .await
        .expect("the Deployment is made");
    stage
        .children(Kind::ConfigMap)
        .get("shots-dashboard")
        .await
        .expect("the dashboard is made");

    Operator::watching(&stage).await.pass(&service).await.expect("pass");
    assert_eq!(says("MonitoringInPlace").await, is("True", "MonitoringInPlace"));
    assert_eq!(says("Exposed").await, is("True", "RouteInPlace"));
    let mut versions = Vec::new();
    for kind in [Kind::HttpRoute, Kind::PodMonitor, Kind::PrometheusRule] {
        let made = stage.children(kind).get("shots").await.expect("made");
        versions.push((kind, made.metadata.resource_version));
    }
    Operator::watching(&stage).await.pass(&service).await.expect("pass");
    for (kind, version) in versions {
        let same = stage.children(kind).get("shots").await.expect("there");
        assert_eq!(same.metadata.resource_version, version, "{kind:?}");
    }
}

#[tokio::test]
async fn everything_that_can_be_asked_for_is_made_and_a_second_pass_changes_nothing() {
    let stage = Stage::new("all").await;
    let spec = json!({
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
        "imagePullSecrets": [{"name": "registry"}],
        "scheduling": {"nodeSelector": {"pool": "none"}, "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5, "effect": "NoExecute"}],
            "topologySpread": "Required"},
        "sandbox": {"hostUsers": false},
        "podMetadata": {"labels": {"team": "web"}, "annotations": {"example.com/a": "b"}},
        "objectMetadata": {"labels": {"team": "web"}, "annotations": {"example.com/owner": "web"}},
        "monitoring": {"from": [{"namespaceSelector": {}}], "dashboard": {"enabled": true}},
        "network": {
            "ingress": {"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}], "cidrs": ["10.0.0.0/8", "fd00::/8"]},
            "egress": {"ports": [443]},
            "exposure": {"ingress": {"className": "nginx", "host": "shots.example.com", "tlsSecretName": "tls", "annotations": {"a": "b"}}},
        },
    });
    let service = stage.create("shots", spec).await.expect("created");
    let first = Operator::watching(&stage).await;
    first.pass(&service).await.expect("pass");
    let versions = async || {
        let mut versions = Vec::new();
        for (kind, name) in [
            (Kind::HorizontalPodAutoscaler, "shots"),
            (Kind::Ingress, "shots"),
            (Kind::Deployment, "shots"),
            (Kind::PodDisruptionBudget, "shots"),
            (Kind::Service, "shots"),
            (Kind::ConfigMap, "shots-dashboard"),
            (Kind::NetworkPolicy, "shots-clients"),
            (Kind::NetworkPolicy, "shots-dns"),
            (Kind::NetworkPolicy, "shots-monitoring"),
            (Kind::NetworkPolicy, "shots-egress"),
        ] {
            let found = stage
                .children(kind)
                .get(name)
                .await
                .unwrap_or_else(|e| panic!("{kind:?} {name}: {e}"));
            // Their controllers write the status when they will, which is no generation. The autoscaler counts none: what
            // we hold of it, and since when.
            let held = json!([found.data["spec"], ours(&found)]).to_string();
            let meta = found.metadata;
            let version = match kind {
                Kind::HorizontalPodAutoscaler => Some(held),
                _ => meta.generation.map(|n| n.to_string()).or(meta.resource_version),
            };
            versions.push((kind, name, version));
        }
        versions
    };
    let before = versions().await;
    Operator::watching(&stage)
        .await
        .pass(&service)
        .await
        .expect("pass after a restart");
    assert_eq!(versions().await, before);
    let deployment = stage.children(Kind::Deployment).get("shots").await.expect("Deployment");
    assert_eq!(deployment.data["spec"]["replicas"], 2, "starts at the fewest");
    let status = stage
        .services()
        .get("shots")
        .await
        .expect("service")
        .status
        .expect("status");
    assert_eq!(status.url.as_deref(), Some("https://shots.example.com"));
}
