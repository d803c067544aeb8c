//! Kinds that a cluster may lack come and go while the operator runs.

use std::time::Duration;

use screenshot_operator::cache::health::Health;
use screenshot_operator::cache::listening::Bounds;
use screenshot_operator::http::trouble;
use screenshot_operator::plan::Kind;
use serde_json::json;

use crate::proxy::Proxy;
use crate::support::{Operator, PATIENCE, Stage, until, whole_seconds};

const GROUP: &str = "monitoring.coreos.com";
const SOON: Duration = Duration::from_secs(8);

async fn says(stage: &Stage, status: &str, reason: &str, names: &[&str]) {
    until(&format!("the condition says {reason}"), SOON, || async {
        let told = stage.condition("shots", "MonitoringInPlace").await;
        told.is_some_and(|(is, why, text)| {
            is == status && why == reason && names.iter().all(|name| text.contains(name))
        })
    })
    .await;
}

#[tokio::test]
async fn a_kind_that_comes_is_used_and_one_that_goes_is_told_by_the_condition_and_stops_nothing() {
    let stage = Stage::new("optional").await;
    stage.define_optional_kinds().await;
    let proxy = Proxy::start(stage.client.clone()).await;
    proxy.hide(GROUP);
    let operator = Operator::adjusted(proxy.config(), stage.scope(), whole_seconds, |context| {
        context.health = Health::within(Bounds {
            discovery: Duration::from_secs(1),
            ..Bounds::default()
        });
    });
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    let spec = json!({"replicas": 0, "monitoring": {"podMonitor": {"enabled": true}}});
    stage.create("shots", spec).await.unwrap();
    stage.settled("shots").await;
    says(&stage, "False", "MonitoringCRDMissing", &["PodMonitor"]).await;
    let monitors = stage.children(Kind::PodMonitor);
    assert!(monitors.get_opt("shots").await.unwrap().is_none());

    proxy.show();
    until("the kind has come, and the child is made", SOON, || async {
        monitors.get_opt("shots").await.unwrap().is_some()
    })
    .await;
    says(&stage, "True", "MonitoringInPlace", &[]).await;
    assert_eq!(
        operator
            .context
            .health
            .by_kind(std::time::Instant::now())
            .get("PodMonitor"),
        Some(&true)
    );

    // A watch that was begun before goes on: only who asks again knows.
    proxy.hide(GROUP);
    says(&stage, "False", "MonitoringCRDMissing", &["PodMonitor"]).await;
    stage.settled("shots").await;
    assert_eq!(
        trouble(&operator.context),
        None,
        "a kind that is gone is no trouble of the operator's"
    );
    assert_eq!(
        operator
            .context
            .health
            .by_kind(std::time::Instant::now())
            .get("PodMonitor"),
        None
    );
    // What the change itself asked for is over by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let passes = operator.passes();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(operator.passes(), passes, "{}", operator.context.metrics.counters());
    assert_eq!(
        operator.passes(),
        operator.count("reconciles_total", &["\"ok\""]),
        "a pass failed: {}",
        operator.context.metrics.counters()
    );

    proxy.show();
    says(&stage, "True", "MonitoringInPlace", &[]).await;
    operator.stop().await;
}
