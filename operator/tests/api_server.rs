//! The operator against a real API server (control plane only: no node, so no pod ever runs).
//!
//! Needs `SHOT_TEST_KUBECONFIG`, the path of a kubeconfig with cluster-admin on a throw-away API server, for example of
//! `tests/cluster/cluster.sh up --control-plane-only`. Without it the tests fail and say so.
//! Each test makes a namespace of its own and leaves it for the cluster to be thrown away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // All of this file is test code.

#[path = "api_server/manifests.rs"]
mod manifests;
#[path = "api_server/troubles.rs"]
mod troubles;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::Reporter;
use kube::{Api, Client, Config};
use screenshot_api::ScreenshotService;
use screenshot_operator::context::{Context, Settings};
use screenshot_operator::names::{CONTROLLER, Names};
use screenshot_operator::plan::Kind;
use screenshot_operator::reconcile::reconcile;
use screenshot_operator::trigger::controller::{self, Scope};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const KUBECONFIG: &str = "SHOT_TEST_KUBECONFIG";

async fn client() -> Client {
    let path = std::env::var(KUBECONFIG).unwrap_or_else(|_| {
        panic!(
            "{KUBECONFIG} is not set: start a control plane with tests/cluster/cluster.sh up --control-plane-only and \
             give its kubeconfig"
        )
    });
    let kubeconfig = Kubeconfig::read_from(path).expect("kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("config");
    let client = Client::try_from(config).expect("client");
    install_crd(&client).await;
    client
}

async fn install_crd(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = screenshot_api::schema::crd().expect("crd");
    api.patch(
        screenshot_api::CRD_NAME,
        &PatchParams::apply("test").force(),
        &Patch::Apply(crd),
    )
    .await
    .expect("CRD");
    for _ in 0..100 {
        let crd = api.get(screenshot_api::CRD_NAME).await.expect("CRD");
        let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the CRD is not established");
}

fn whole_seconds() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("now")
}

fn context(client: &Client) -> Arc<Context> {
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: Some("test".into()),
    };
    Arc::new(Context::new(
        client.clone(),
        Settings {
            capture_image: Some("localhost/capture-server:dev".into()),
            operator_namespace: "screenshot-operator".into(),
            operator_name: "screenshot-operator".into(),
        },
        reporter,
        whole_seconds,
    ))
}

struct Stage {
    client: Client,
    namespace: String,
}

impl Stage {
    async fn new(client: Client, prefix: &str) -> Self {
        let api: Api<Namespace> = Api::all(client.clone());
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}})).expect("namespace");
        let made = api.create(&PostParams::default(), &namespace).await.expect("namespace");
        Self {
            client,
            namespace: made.metadata.name.expect("name"),
        }
    }

    fn services(&self) -> Api<ScreenshotService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create(&self, name: &str, spec: Value) -> Result<ScreenshotService, kube::Error> {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
            "metadata": {"name": name}, "spec": spec,
        }))
        .expect("object");
        let resource = kube::api::ApiResource::erase::<ScreenshotService>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        api.create(&PostParams::default(), &object).await?;
        self.services().get(name).await
    }

    fn children(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.api_resource())
    }

    /// resourceVersions of all children, in a fixed order.
    async fn versions(&self, name: &str) -> Vec<String> {
        let mut versions = Vec::new();
        for (kind, child) in inventory(name) {
            let found = self
                .children(kind)
                .get(&child)
                .await
                .unwrap_or_else(|e| panic!("{kind:?} {child}: {e}"));
            versions.push(found.metadata.resource_version.expect("version"));
        }
        versions
    }
}

/// Every child of a service at rest.
fn inventory(name: &str) -> Vec<(Kind, String)> {
    let names = Names::new(name);
    vec![
        (Kind::ServiceAccount, name.to_owned()),
        (Kind::NetworkPolicy, names.default_deny()),
        (Kind::NetworkPolicy, names.dns()),
        (Kind::NetworkPolicy, names.operator()),
        (Kind::NetworkPolicy, names.clients()),
        (Kind::NetworkPolicy, names.egress()),
        (Kind::ConfigMap, names.policy()),
        (Kind::Secret, names.keyset()),
        (Kind::Secret, names.internal()),
        (Kind::Secret, names.token()),
        (Kind::Service, name.to_owned()),
        (Kind::PodDisruptionBudget, name.to_owned()),
        (Kind::Deployment, name.to_owned()),
    ]
}

#[tokio::test]
async fn one_pass_makes_every_child_and_a_second_one_changes_and_writes_nothing() {
    let client = client().await;
    let stage = Stage::new(client, "pass").await;
    // Without pods nothing can be attested, and nothing is: only a service without replicas comes to rest here.
    let service = stage.create("shots", json!({"replicas": 0})).await.expect("created");
    let context = context(&stage.client);
    reconcile(&context, &service).await.expect("first pass");
    let before = stage.versions("shots").await;
    let pending: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
    assert!(
        pending.get_opt("shots-pending").await.expect("get").is_none(),
        "the pending Secret is left over"
    );

    let fresh = stage.services().get("shots").await.expect("service");
    assert_eq!(fresh.status.as_ref().map(|status| status.observed_generation), Some(1));
    let writes = context.metrics.text();
    reconcile(&context, &fresh).await.expect("second pass");
    let count = |text: &str| {
        text.lines()
            .filter(|l| l.contains("writes_total{"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let kinds = |text: &str| {
        count(text)
            .into_iter()
            .filter(|l| !l.contains("ScreenshotService"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&context.metrics.text()),
        kinds(&writes),
        "an idle pass wrote to a child"
    );
    assert_eq!(stage.versions("shots").await, before);

    // An operator that was restarted remembers nothing: it applies again, and the server sees no difference.
    reconcile(&self::context(&stage.client), &fresh)
        .await
        .expect("pass after a restart");
    assert_eq!(stage.versions("shots").await, before);
}

#[tokio::test]
async fn an_idle_service_is_not_patched() {
    let client = client().await;
    let stage = Stage::new(client, "idle").await;
    let service = stage.create("shots", json!({"replicas": 0})).await.expect("created");
    let context = context(&stage.client);
    reconcile(&context, &service).await.expect("pass");
    // The Deployment's controller writes its status once; after that nothing moves.
    let mut versions = Vec::new();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let fresh = stage.services().get("shots").await.expect("service");
        versions.push(fresh.metadata.resource_version.clone());
        reconcile(&context, &fresh).await.expect("pass");
    }
    assert_eq!(versions[4], versions[5], "{versions:?}");
}

#[tokio::test]
async fn a_deleted_child_is_back_within_two_seconds() {
    let client = client().await;
    let stage = Stage::new(client, "heal").await;
    let stop = CancellationToken::new();
    let scope = Scope::Namespace(stage.namespace.clone());
    let (shared, token) = (context(&stage.client), stop.clone());
    let running = tokio::spawn(async move { controller::run(shared, &scope, token).await });
    stage.create("shots", json!({"replicas": 0})).await.expect("created");
    for (kind, child) in inventory("shots") {
        uid(&stage, kind, &child, None, Duration::from_secs(10)).await;
    }
    for (kind, child) in inventory("shots") {
        let old = uid(&stage, kind, &child, None, Duration::from_secs(5)).await;
        stage
            .children(kind)
            .delete(&child, &DeleteParams::background())
            .await
            .expect("delete");
        let took = Instant::now();
        uid(&stage, kind, &child, Some(&old), Duration::from_secs(2)).await;
        eprintln!("{} {child}: back after {:?}", kind.name(), took.elapsed());
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .expect("stops in time")
        .expect("ends well");
}

#[tokio::test]
async fn an_edited_child_is_mended() {
    let client = client().await;
    let stage = Stage::new(client, "mend").await;
    let service = stage.create("shots", json!({"replicas": 0})).await.expect("created");
    let context = context(&stage.client);
    reconcile(&context, &service).await.expect("pass");
    let edits = [
        (
            Kind::NetworkPolicy,
            "shots-default-deny",
            json!({"spec": {"policyTypes": ["Ingress"]}}),
        ),
        (Kind::NetworkPolicy, "shots-clients", json!({"spec": {"ingress": [{}]}})),
        (Kind::NetworkPolicy, "shots-egress", json!({"spec": {"egress": [{}]}})),
        (Kind::Deployment, "shots", json!({"spec": {"replicas": 3}})),
        (
            Kind::Deployment,
            "shots",
            json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}}),
        ),
        (Kind::ConfigMap, "shots-policy", json!({"data": {"policy.json": "{}"}})),
    ];
    for (kind, name, edit) in edits {
        let api = stage.children(kind);
        let before = api.get(name).await.unwrap();
        api.patch(name, &PatchParams::default(), &Patch::Merge(&edit))
            .await
            .expect("edit");
        reconcile(&context, &service).await.expect("pass");
        let after = api.get(name).await.unwrap();
        let (labels, old) = (after.metadata.labels, before.metadata.labels);
        assert_eq!(labels, old, "{edit}");
        for field in ["data", "spec"] {
            assert_eq!(after.data[field], before.data[field], "{edit}");
        }
    }
}

/// Waits for a child that is not the one given; returns its uid.
async fn uid(stage: &Stage, kind: Kind, name: &str, not: Option<&str>, limit: Duration) -> String {
    let start = Instant::now();
    while start.elapsed() < limit {
        let found = stage.children(kind).get_opt(name).await.expect("get");
        let alive = found.filter(|child| child.metadata.deletion_timestamp.is_none());
        match alive.and_then(|child| child.metadata.uid) {
            Some(uid) if Some(uid.as_str()) != not => return uid,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("{kind:?} {name} is not there after {limit:?}");
}

#[tokio::test]
async fn the_token_of_the_client_secret_is_accepted_by_the_keyset() {
    let client = client().await;
    let stage = Stage::new(client, "token").await;
    let service = stage.create("shots", json!({"replicas": 0})).await.expect("created");
    reconcile(&context(&stage.client), &service).await.expect("pass");
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let data = |secret: Secret, key: &str| String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap();
    let token = data(secrets.get("shots-token").await.unwrap(), "token");
    let keyset = data(secrets.get("shots-keyset").await.unwrap(), "keyset.json");
    let keyset = screenshot_policy::keyset::Keyset::parse(keyset.as_bytes()).unwrap();
    assert!(keyset.verify(&token, whole_seconds()).is_ok());
    let other = screenshot_policy::token::Token::generate(&keyset.keys[0].kid, [7; 32]);
    assert!(keyset.verify(other.text(), whole_seconds()).is_err());
    let status = serde_json::to_string(&stage.services().get("shots").await.unwrap().status).unwrap();
    assert!(!status.contains(&token));
}

#[tokio::test]
async fn an_object_of_somebody_else_with_a_childs_name_is_left_alone() {
    let client = client().await;
    let stage = Stage::new(client, "foreign").await;
    let theirs: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shots-policy"}, "data": {"theirs": "yes"},
    }))
    .unwrap();
    stage
        .children(Kind::ConfigMap)
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    let service = stage.create("shots", json!({"replicas": 0})).await.expect("created");
    let error = reconcile(&context(&stage.client), &service).await.expect_err("refused");
    assert_eq!(error.reason(), "NameTaken");
    let status = stage.services().get("shots").await.unwrap().status.unwrap();
    assert!(
        status
            .conditions
            .iter()
            .any(|c| c.type_ == "Stalled" && c.reason == "NameTaken"),
        "{status:?}"
    );
    let kept = stage.children(Kind::ConfigMap).get("shots-policy").await.unwrap();
    assert_eq!(kept.data["data"], json!({"theirs": "yes"}));
}
