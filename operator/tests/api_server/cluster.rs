//! The cluster's own public addresses: read from its objects, closed for every service, without replacing a pod.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use screenshot_operator::cache::health::Health;
use screenshot_operator::cache::listening::Bounds;
use screenshot_operator::cluster::Source;
use screenshot_operator::plan::Kind;
use screenshot_operator::rbac::cluster_rules;
use screenshot_operator::trigger::controller::Scope;
use serde_json::{Value, json};

use crate::proxy::Proxy;
use crate::roles::restricted;
use crate::support::{Operator, PATIENCE, Stage, config, until, whole_seconds};

fn objects(client: &Client, group: &str, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = kube::api::ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn make(api: &Api<DynamicObject>, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn text(stage: &Stage, kind: Kind, name: &str, pointer: &str) -> String {
    let object = stage.children(kind).get(name).await.unwrap();
    let whole = serde_json::to_value(&object).unwrap();
    whole.pointer(pointer).cloned().unwrap_or_default().to_string()
}

#[tokio::test]
async fn public_addresses_of_nodes_load_balancers_and_service_ranges_are_closed_without_a_new_pod() {
    let stage = Stage::new("own-ranges").await;
    let operator = Operator::reading_addresses(config().await, stage.scope());
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    stage.create("shots", json!({"replicas": 0})).await.unwrap();
    stage.settled("shots").await;
    let template = async || text(&stage, Kind::Deployment, "shots", "/spec/template").await;
    let egress = async || text(&stage, Kind::NetworkPolicy, "shots-egress", "/spec/egress").await;
    let ranges = async || text(&stage, Kind::ConfigMap, "shots-policy", "/data/cluster-ranges.json").await;
    let before = template().await;
    assert!(!egress().await.contains("20.7."), "nothing is public yet");

    let name = format!("n-{}", stage.namespace);
    let nodes = objects(&stage.client, "", "v1", "Node", None);
    make(
        &nodes,
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": "20.71.4.0/24"}}),
    )
    .await;
    let addresses = json!({"status": {"addresses": [{"type": "ExternalIP", "address": "20.72.0.9"}]}});
    nodes
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(addresses))
        .await
        .unwrap();
    let services = objects(&stage.client, "", "v1", "Service", Some(&stage.namespace));
    make(
        &services,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "lb"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "externalIPs": ["20.74.0.1"]}}),
    )
    .await;
    let balancer = json!({"status": {"loadBalancer": {"ingress": [{"ip": "20.73.0.5"}]}}});
    services
        .patch_status("lb", &PatchParams::default(), &Patch::Merge(balancer))
        .await
        .unwrap();
    let cidrs = objects(&stage.client, "networking.k8s.io", "v1", "ServiceCIDR", None);
    make(
        &cidrs,
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": ["20.75.0.0/24"]}}),
    )
    .await;
    let all = [
        "20.71.4.0/24",
        "20.72.0.9/32",
        "20.73.0.5/32",
        "20.74.0.1/32",
        "20.75.0.0/24",
    ];
    until("all of them are closed in both halves", PATIENCE, || async {
        let (egress, ranges) = (egress().await, ranges().await);
        all.iter().all(|range| egress.contains(range) && ranges.contains(range))
    })
    .await;
    assert_eq!(template().await, before, "no pod is replaced for it");
    let known = stage.condition("shots", "ClusterAddressesKnown").await.unwrap();
    assert_eq!((known.0.as_str(), known.1.as_str()), ("True", "AddressesRead"));

    // One that goes is opened again only after a while.
    nodes.delete(&name, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(egress().await.contains("20.72.0.9/32"));
    operator.stop().await;
    cidrs.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn an_operator_that_may_not_read_them_says_so_and_works() {
    let stage = Stage::new("own-unread").await;
    // The rights of the table and no more, for all namespaces: without those over the cluster.
    let operator = Operator::reading_addresses(restricted(&stage, |_| {}).await, stage.scope());
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    stage.create("shots", json!({"replicas": 0})).await.unwrap();
    stage.settled("shots").await;
    let (status, reason, message) = stage.condition("shots", "ClusterAddressesKnown").await.unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "AddressesNotReadable"));
    assert_eq!(
        message,
        "the operator may not read Node, ServiceCIDR, EndpointSlice: public addresses of the cluster itself are closed to pages \
         only where it read them before, or its --extra-denied-cidr names them"
    );
    operator.stop().await;
}

/// The rules are enough, and each of them is needed: with all of them everything is read.
#[tokio::test]
async fn the_rules_over_the_cluster_are_what_reading_it_takes() {
    let stage = Stage::new("own-rules").await;
    let with = |rules: &mut Value| {
        let own = cluster_rules().unwrap();
        rules.as_array_mut().unwrap().extend(own.as_array().unwrap().clone());
    };
    let operator = Operator::reading_addresses(restricted(&stage, with).await, stage.scope());
    operator.ready(PATIENCE).await;
    let view = operator.context.cluster.view(std::time::Instant::now()).unwrap();
    assert_eq!(view.unread, []);
    operator.stop().await;
}

/// As before Kubernetes 1.33.
#[tokio::test]
async fn ranges_of_services_that_are_not_served_stop_nothing_and_are_looked_for_now_and_then() {
    let stage = Stage::new("own-absent").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let path = "networking.k8s.io/v1/servicecidrs";
    proxy.hide(path);
    // It reads everything and makes no passes: the services of other tests are not touched.
    let operator = Operator::adjusted(proxy.config(), Scope::Cluster, whole_seconds, |context| {
        context.health = Health::within(Bounds {
            discovery: Duration::from_secs(20),
            ..Bounds::default()
        });
    });
    let unread = || operator.context.cluster.view(Instant::now()).map(|view| view.unread);
    until("everything else is read", PATIENCE, || async {
        unread().is_ok_and(|unread| unread == [Source::ServiceCidrs])
    })
    .await;
    let asked = || proxy.heard().iter().filter(|(heard, _)| heard.ends_with(path)).count();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(asked(), 1, "it is asked for again and again");
    proxy.show();
    until("the kind has come", PATIENCE, || async {
        unread().is_ok_and(|unread| unread.is_empty())
    })
    .await;
    operator.stop().await;
}
