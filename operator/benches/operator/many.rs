//! Figures with a thousand services and more: creations, memory, edits, restarts.

use std::time::{Duration, Instant};

use bench_rows::Rows;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use screenshot_api::ScreenshotService;
use serde_json::json;

use crate::few::ENDING;
use crate::process::Process;
use crate::{CHILDREN, bare, services};

pub async fn thousand(client: &Client, rows: &mut Rows) {
    let bare = bare::rate(client).await;
    rows.shown("a bare client: the same objects", "services/s", &[bare]);
    let before = services::count(client).await;
    let operator = Process::start().await;
    operator.leads().await;
    let start = Instant::now();
    services::make(client, "many", 1000).await;
    operator.settled(before + 1000).await;
    let rate = 1000.0 / start.elapsed().as_secs_f64();
    rows.at_least("creations of 1000 services", "services/s", 30.0, &[rate]);
    rows.shown("creations of 1000 services to a bare client's", "", &[rate / bare]);
    operator.quiet(Duration::from_secs(3)).await;
    rows.at_most(
        "resident memory, 1000 services just made",
        "MiB",
        45.0,
        &[operator.rss()],
    );
    let edits = edits(client, 100).await;
    rows.at_most("spec edit to Deployment patch, 95th percentile", "s", 1.5, &[edits]);
    operator.stop();
}

/// The 95th percentile of the time from an edit of the spec to the edited Deployment, in seconds.
async fn edits(client: &Client, count: usize) -> f64 {
    let services: Api<ScreenshotService> = Api::namespaced(client.clone(), "many");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "many");
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

pub async fn restart(client: &Client, rows: &mut Rows) {
    let (mut starts, mut calls, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let children = CHILDREN * f64::from(u32::try_from(services::count(client).await).expect("few"));
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

pub async fn many(client: &Client, rows: &mut Rows, total: usize) {
    let operator = Process::start().await;
    operator.leads().await;
    let missing = total.saturating_sub(services::count(client).await);
    let start = Instant::now();
    services::make(client, "most", missing).await;
    operator.settled(total).await;
    let rate = f64::from(u32::try_from(missing).expect("few")) / start.elapsed().as_secs_f64();
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
