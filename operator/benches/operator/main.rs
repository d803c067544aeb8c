//! The operator's figures: the release binary beside a real API server (control plane only). `make bench-operator`.
//!
//! Needs `SHOT_TEST_KUBECONFIG` of a throw-away, empty API server. `SHOT_BENCH_SERVICES` is how many services there are at
//! the end (1000 unless set; 5000 takes some minutes). Services have no replicas: nothing here runs pods.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // A program for developers.

mod process;
mod rows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use screenshot_api::ScreenshotService;
use screenshot_operator::cluster::ClusterSettings;
use screenshot_operator::context::Settings;
use screenshot_operator::plan::{OperatorPods, Surroundings, Targets, plan};
use screenshot_operator::validate::{identity, validate};
use serde_json::json;

use process::Process;
use rows::Rows;

const READS: [&str; 3] = ["get", "list", "watch"];
const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];
/// How many services are made at a time.
const HANDS: usize = 16;

#[tokio::main]
async fn main() {
    let mut rows = Rows::default();
    let total: usize = std::env::var("SHOT_BENCH_SERVICES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1000);
    let bench = Bench::new().await;
    plan_alone(&mut rows);
    bench.empty(&mut rows).await;
    bench.thousand(&mut rows).await;
    bench.restart(&mut rows).await;
    if total >= 5000 {
        bench.five_thousand(&mut rows).await;
    }
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    rows.write(&PathBuf::from(target).join("bench/operator.json"));
    println!("{} missed", rows.missed());
}

fn plan_alone(rows: &mut Rows) {
    let service: ScreenshotService = serde_json::from_value(json!({
        "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
        "metadata": {"name": "shots", "namespace": "web", "uid": "7a1e1bb1-0000-4000-8000-000000000000", "generation": 1},
        "spec": {"network": {"egress": {"exceptions": [
            {"host": "web.shop.svc", "ports": [80], "reason": "r", "expires": "2099-01-01T00:00:00Z"},
        ]}}},
    }))
    .unwrap();
    let settings = Settings {
        capture_image: Some("localhost/capture-server:dev".into()),
        operator_namespace: "o".into(),
        operator_name: "o".into(),
        cluster: ClusterSettings::default(),
    };
    let operator = OperatorPods {
        namespace: "o".into(),
        name: "o".into(),
    };
    let wanted = validate(identity(&service).unwrap(), &service, &settings).unwrap();
    let around = Surroundings {
        targets: &Targets::new(),
        operator: &operator,
        served: &std::collections::BTreeSet::new(),
        deployment: None,
    };
    let now = Timestamp::now();
    let rounds: Vec<f64> = (0..20)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..500 {
                std::hint::black_box(plan(std::hint::black_box(&wanted), &around, now));
            }
            start.elapsed().as_secs_f64() * 1e6 / 500.0
        })
        .collect();
    rows.at_most("plan() alone", "us", 100.0, &rounds);
}

struct Bench {
    client: Client,
}

impl Bench {
    async fn new() -> Self {
        let path = std::env::var("SHOT_TEST_KUBECONFIG").expect("SHOT_TEST_KUBECONFIG");
        let kubeconfig = Kubeconfig::read_from(path).expect("kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("config");
        let client = Client::try_from(config).expect("client");
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let crd = screenshot_api::schema::crd().expect("crd");
        let params = PatchParams::apply("bench").force();
        crds.patch(screenshot_api::CRD_NAME, &params, &Patch::Apply(crd))
            .await
            .expect("CRD");
        let api: Api<ScreenshotService> = Api::all(client.clone());
        while api.list(&ListParams::default().limit(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { client }
    }

    async fn make(&self, namespace: &str, count: usize) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let _ = namespaces.create(&PostParams::default(), &object).await;
        let api: Api<ScreenshotService> = Api::namespaced(self.client.clone(), namespace);
        stream::iter(0..count)
            .for_each_concurrent(HANDS, |n| {
                let api = api.clone();
                async move {
                    let object: ScreenshotService = serde_json::from_value(json!({
                        "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
                        "metadata": {"name": format!("shots-{n}")}, "spec": {"replicas": 0},
                    }))
                    .unwrap();
                    api.create(&PostParams::default(), &object).await.expect("created");
                }
            })
            .await;
    }

    /// Waits until all of a namespace's services have what they need but pods, which are not asked for.
    async fn all_ready(&self, namespace: &str, count: usize) {
        let api: Api<ScreenshotService> = Api::namespaced(self.client.clone(), namespace);
        loop {
            let list = api.list(&ListParams::default()).await.expect("list");
            let ready = |service: &&ScreenshotService| {
                let conditions = service.status.iter().flat_map(|status| &status.conditions);
                conditions
                    .into_iter()
                    .any(|c| c.type_ == "CredentialsReady" && c.status == "True")
            };
            if list.items.iter().filter(ready).count() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn empty(&self, rows: &mut Rows) {
        let (mut starts, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let operator = Process::start().await;
            starts.push(operator.ready_after.as_secs_f64());
            tokio::time::sleep(Duration::from_secs(1)).await;
            memory.push(operator.rss());
            operator.stop();
        }
        rows.at_most("start to ready, 0 services", "s", 0.3, &starts);
        rows.at_most("resident memory, idle", "MiB", 15.0, &memory);
        let operator = Process::start().await;
        let all = [READS.as_slice(), WRITES.as_slice()].concat();
        // Leading, and every watch begun.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut calls = Vec::new();
        for n in 0..5 {
            let before = operator.calls(&all).await - operator.count("api_calls_total", &["Event"]).await;
            let name = format!("one-{n}");
            self.make(&name, 1).await;
            self.all_ready(&name, 1).await;
            operator.quiet(Duration::from_secs(2)).await;
            calls.push(operator.calls(&all).await - operator.count("api_calls_total", &["Event"]).await - before);
        }
        rows.at_most("calls to create one service, but for events", "calls", 14.0, &calls);
        let (reads, writes) = (operator.calls(&READS).await, operator.calls(&WRITES).await);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let (reads, writes) = (
            operator.calls(&READS).await - reads,
            operator.calls(&WRITES).await - writes,
        );
        rows.at_most(
            "reads per idle minute, without the Lease",
            "calls/min",
            3.0,
            &[reads / 2.0],
        );
        rows.at_most(
            "writes per service per idle hour",
            "calls/h",
            0.0,
            &[writes / 5.0 * 30.0],
        );
        operator.stop();
    }

    async fn thousand(&self, rows: &mut Rows) {
        let operator = Process::start().await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let start = Instant::now();
        self.make("many", 1000).await;
        self.all_ready("many", 1000).await;
        rows.at_least(
            "creations of 1000 services",
            "services/s",
            30.0,
            &[1000.0 / start.elapsed().as_secs_f64()],
        );
        operator.quiet(Duration::from_secs(3)).await;
        rows.at_most(
            "resident memory, 1000 services just made",
            "MiB",
            45.0,
            &[operator.rss()],
        );
        let edits = self.edits(100).await;
        rows.at_most("spec edit to Deployment patch, 95th percentile", "s", 1.5, &[edits]);
        operator.stop();
    }

    /// The 95th percentile of the time from an edit of the spec to the edited Deployment, in seconds.
    async fn edits(&self, count: usize) -> f64 {
        let services: Api<ScreenshotService> = Api::namespaced(self.client.clone(), "many");
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "many");
        let mut times = Vec::new();
        for n in 0..count {
            let (name, image) = (format!("shots-{n}"), format!("localhost/capture-server:{n}"));
            let edit = Patch::Merge(json!({"spec": {"image": image}}));
            let start = Instant::now();
            services
                .patch(&name, &PatchParams::default(), &edit)
                .await
                .expect("edit");
            loop {
                let deployment = deployments.get(&name).await.expect("deployment");
                let spec = deployment.spec.and_then(|spec| spec.template.spec).expect("spec");
                if spec
                    .containers
                    .iter()
                    .all(|container| container.image.as_ref() == Some(&image))
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        times[times.len() * 95 / 100]
    }

    async fn restart(&self, rows: &mut Rows) {
        let (mut starts, mut calls, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let operator = Process::start().await;
            starts.push(operator.ready_after.as_secs_f64());
            let before = operator.calls(&["get", "create", "update", "patch", "delete"]).await;
            operator.quiet(Duration::from_secs(4)).await;
            let after = operator.calls(&["get", "create", "update", "patch", "delete"]).await;
            // 1005 services with 13 children each.
            calls.push((after - before) / (1005.0 * 13.0));
            memory.push(operator.rss());
            operator.stop();
        }
        rows.at_most("start to ready, 1000 services", "s", 2.0, &starts);
        rows.at_most(
            "calls per child after a restart with nothing changed",
            "calls",
            1.0,
            &calls,
        );
        rows.at_most("resident memory, 1000 services after a restart", "MiB", 45.0, &memory);
    }

    async fn five_thousand(&self, rows: &mut Rows) {
        let operator = Process::start().await;
        self.make("most", 4000).await;
        self.all_ready("most", 4000).await;
        operator.quiet(Duration::from_secs(3)).await;
        rows.at_most(
            "resident memory, 5000 services just made",
            "MiB",
            150.0,
            &[operator.rss()],
        );
        operator.stop();
        let operator = Process::start().await;
        rows.at_most(
            "start to ready, 5000 services",
            "s",
            10.0,
            &[operator.ready_after.as_secs_f64()],
        );
        operator.quiet(Duration::from_secs(4)).await;
        rows.at_most(
            "resident memory, 5000 services after a restart",
            "MiB",
            150.0,
            &[operator.rss()],
        );
        operator.stop();
    }
}
