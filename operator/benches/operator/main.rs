//! The operator's figures: the release binary beside a real API server (control plane only). `make bench-operator`.
//!
//! Needs `SHOT_TEST_KUBECONFIG` of a throw-away, empty API server; the first argument is where the rows go as JSON.
//! `SHOT_BENCH_SERVICES` is how many services there are at the end (5000 unless set; 1000 leaves out the last rows).
//! Services have no replicas: nothing here runs pods.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // A program for developers.

mod canary;
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
use screenshot_operator::cache::watches::WATCH_SECONDS;
use screenshot_operator::cluster::ClusterSettings;
use screenshot_operator::context::Settings;
use screenshot_operator::plan::{OperatorPods, Surroundings, Targets, plan};
use screenshot_operator::validate::{identity, validate};
use serde_json::json;

use process::Process;
use rows::Rows;

const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];
/// Calls to which an answer ends: all but watches.
const ENDING: [&str; 6] = ["get", "list", "create", "update", "patch", "delete"];
/// How many services are made at a time.
const HANDS: usize = 16;
/// Children of a service at rest.
const CHILDREN: f64 = 13.0;
/// Services that the idle rows look at.
const FEW: usize = 5;
/// How long nothing is done for those rows.
const IDLE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let mut rows = Rows::default();
    let total: usize = std::env::var("SHOT_BENCH_SERVICES").map_or(5000, |n| n.parse().expect("a number"));
    // `cargo bench` adds an argument of its own.
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let file = PathBuf::from(file.expect("the file for the rows"));
    plan_alone(&mut rows);
    canary::alone(&mut rows).await;
    let bench = Bench::new().await;
    bench.empty(&mut rows).await;
    bench.thousand(&mut rows).await;
    bench.restart(&mut rows).await;
    if total > 1000 {
        bench.many(&mut rows, total).await;
    }
    rows.write(&file);
    println!("{} missed -> {}", rows.missed(), file.display());
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
    // Its own processor time: what others do on the machine is not its cost.
    let rounds: Vec<f64> = (0..20)
        .map(|_| {
            let start = process::spent_by_this_thread();
            for _ in 0..500 {
                std::hint::black_box(plan(std::hint::black_box(&wanted), &around, now));
            }
            process::spent_by_this_thread().saturating_sub(start).as_secs_f64() * 1e6 / 500.0
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
        operator.leads().await;
        operator.quiet(Duration::from_secs(2)).await;
        let (mut calls, mut with_events) = (Vec::new(), Vec::new());
        for n in 0..FEW {
            let (before, events) = (operator.calls(&ENDING).await, operator.events().await);
            self.make(&format!("one-{n}"), 1).await;
            operator.settled(n + 1).await;
            operator.quiet(Duration::from_secs(2)).await;
            let (made, told) = (operator.calls(&ENDING).await - before, operator.events().await - events);
            calls.push(made - told);
            with_events.push(made);
        }
        rows.at_most(
            "calls to create one service, without events",
            "calls",
            CHILDREN + 1.0,
            &calls,
        );
        rows.at_most(
            "calls to create one service, with its events",
            "calls",
            CHILDREN + 3.0,
            &with_events,
        );
        self.idle(rows, &operator).await;
        operator.stop();
    }

    /// What a minute costs in which nothing happens. Watches are begun anew every few minutes, all at one time, which a
    /// short look would miss or count whole: they are reckoned by their number.
    async fn idle(&self, rows: &mut Rows, operator: &Process) {
        let watches = operator.watches().await;
        let (reads, writes, renewed) = (
            operator.calls(&["get", "list"]).await,
            operator.calls(&WRITES).await,
            operator.calls(&["watch"]).await,
        );
        tokio::time::sleep(IDLE).await;
        let reads = operator.calls(&["get", "list"]).await - reads;
        let writes = operator.calls(&WRITES).await - writes;
        let renewed = (operator.calls(&["watch"]).await - renewed - watches).max(0.0);
        let minutes = IDLE.as_secs_f64() / 60.0;
        let renewals = watches * 60.0 / f64::from(WATCH_SECONDS);
        rows.at_most(
            "reads per idle minute, without the Lease's",
            "calls/min",
            3.0,
            &[(reads + renewed) / minutes + renewals],
        );
        let services = f64::from(u32::try_from(FEW).expect("few"));
        rows.at_most(
            "writes per service and idle hour",
            "calls/h",
            0.0,
            &[writes / services / minutes * 60.0],
        );
    }

    async fn thousand(&self, rows: &mut Rows) {
        let operator = Process::start().await;
        operator.leads().await;
        let start = Instant::now();
        self.make("many", 1000).await;
        operator.settled(FEW + 1000).await;
        let rate = 1000.0 / start.elapsed().as_secs_f64();
        rows.at_least("creations of 1000 services", "services/s", 30.0, &[rate]);
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
                assert!(
                    start.elapsed() < Duration::from_secs(30),
                    "{name} was edited to no effect"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        times[(times.len() * 95).div_ceil(100) - 1]
    }

    async fn restart(&self, rows: &mut Rows) {
        let (mut starts, mut calls, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        let children = CHILDREN * f64::from(u32::try_from(FEW + 1000).expect("few"));
        for _ in 0..2 {
            let operator = Process::start().await;
            starts.push(operator.ready_after.as_secs_f64());
            let before = operator.calls(&ENDING).await;
            operator.leads().await;
            operator.quiet(Duration::from_secs(3)).await;
            calls.push((operator.calls(&ENDING).await - before) / children);
            memory.push(operator.rss());
            operator.stop();
        }
        rows.at_most("start to ready, 1000 services", "s", 2.0, &starts);
        rows.at_most("calls per child after a restart, nothing changed", "calls", 1.0, &calls);
        rows.at_most("resident memory, 1000 services after a restart", "MiB", 45.0, &memory);
    }

    async fn many(&self, rows: &mut Rows, total: usize) {
        let operator = Process::start().await;
        operator.leads().await;
        let start = Instant::now();
        self.make("most", total - 1000 - FEW).await;
        operator.settled(total).await;
        let rate = f64::from(u32::try_from(total - 1000 - FEW).expect("few")) / start.elapsed().as_secs_f64();
        rows.at_least(
            &format!("creations up to {total} services"),
            "services/s",
            30.0,
            &[rate],
        );
        operator.quiet(Duration::from_secs(3)).await;
        let figure = format!("resident memory, {total} services just made");
        rows.at_most(&figure, "MiB", 150.0, &[operator.rss()]);
        operator.stop();
        let operator = Process::start().await;
        let figure = format!("start to ready, {total} services");
        rows.at_most(&figure, "s", 10.0, &[operator.ready_after.as_secs_f64()]);
        operator.leads().await;
        operator.quiet(Duration::from_secs(3)).await;
        let figure = format!("resident memory, {total} services after a restart");
        rows.at_most(&figure, "MiB", 150.0, &[operator.rss()]);
        operator.stop();
    }
}
