//! The operator's figures: the release binary beside a real API server (control plane only). `make bench-operator`.
//!
//! Needs `SHOT_TEST_KUBECONFIG` of a throw-away, empty API server. Parts run in the order in which they are listed below,
//! each on what those before it left; `--only` takes some of them and leaves the other rows of the file as they were.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // A program for developers.

mod bare;
mod canary;
mod few;
mod many;
mod process;
mod sample;
mod services;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bench_rows::Rows;
use clap::{Parser, ValueEnum};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use screenshot_api::ScreenshotService;
use serde_json::Value;

/// Children of a service at rest.
const CHILDREN: f64 = 13.0;
/// Services of the first rows.
const FEW: usize = 5;

#[derive(Parser)]
struct Args {
    /// Where the rows go as JSON.
    #[arg(long)]
    out: PathBuf,
    /// What criterion found out about `plan()`.
    #[arg(long)]
    plan: PathBuf,
    /// Only these parts, in their order.
    #[arg(long)]
    only: Vec<Part>,
    /// How many services there are at the end.
    #[arg(long, default_value_t = 5000)]
    services: usize,
    /// `cargo bench` adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `plan()` alone.
    Plan,
    /// The canary alone.
    Canary,
    /// No services, five services, an idle minute.
    Few,
    /// Creations by the operator beside those by a client that does nothing else.
    Thousand,
    /// After a restart with them.
    Restart,
    /// As many as `--services` says.
    Many,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let mut rows = Rows::default();
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    if wanted(Part::Plan) {
        rows.at_most("plan() alone", "us", 100.0, &[estimated(&args.plan)]);
    }
    if wanted(Part::Canary) {
        canary::alone(&mut rows).await;
    }
    let client = client().await;
    if wanted(Part::Few) {
        few::empty(&client, &mut rows).await;
    }
    if wanted(Part::Thousand) {
        many::thousand(&client, &mut rows).await;
    }
    if wanted(Part::Restart) {
        many::restart(&client, &mut rows).await;
    }
    if wanted(Part::Many) && args.services > 1000 {
        many::many(&client, &mut rows, args.services).await;
    }
    if !args.only.is_empty() {
        rows.keep_earlier(&args.out);
    }
    rows.write(&args.out);
    println!("{} missed -> {}", rows.missed(), args.out.display());
}

/// The median in microseconds out of criterion's estimates.
fn estimated(file: &Path) -> f64 {
    let text = std::fs::read(file).expect("criterion's estimates: run the benchmark `plan` first");
    let estimates: Value = serde_json::from_slice(&text).expect("JSON");
    estimates["median"]["point_estimate"].as_f64().expect("nanoseconds") / 1000.0
}

/// A client, when the API server knows our resource.
async fn client() -> Client {
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
    client
}
