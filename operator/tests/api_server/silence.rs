//! Connections that stay open and carry nothing any more: nothing fails, and nothing is heard.

use std::time::Duration;

use screenshot_operator::cache::health::Health;
use screenshot_operator::cache::listening::Bounds;
use screenshot_operator::http::trouble;

use crate::proxy::Proxy;
use crate::support::{Operator, PATIENCE, Stage, until, whole_seconds};

const BOUNDS: Bounds = Bounds {
    watch_seconds: 2,
    answer: Duration::from_secs(1),
    stalled: Duration::from_secs(60),
    discovery: Duration::from_secs(300),
};

#[tokio::test]
async fn a_watch_that_is_not_heard_any_more_is_told_by_readiness_and_is_begun_anew() {
    let stage = Stage::new("silent").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::adjusted(proxy.config(), stage.scope(), whole_seconds, |context| {
        context.health = Health::within(BOUNDS);
    });
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    // Each watch ends and begins several times, and nothing of that is a trouble.
    let quiet = BOUNDS.silence() + Duration::from_secs(1);
    let seen = tokio::time::timeout(quiet, async {
        loop {
            if let Some(why) = trouble(&operator.context) {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(seen.is_err(), "not ready although the API server answers: {seen:?}");
    proxy.silent();
    until("readiness names the silent watches", quiet, || async {
        trouble(&operator.context).is_some_and(|why| {
            ["ScreenshotService", "Pod", "Secret"]
                .iter()
                .all(|kind| why.contains(&format!("the watch of {kind} in namespace {}", stage.namespace)))
                && why.contains("Silent")
        })
    })
    .await;
    // What was asked meanwhile is never answered: only who gives up and asks anew hears again.
    proxy.back();
    until("ready again", PATIENCE, || async {
        trouble(&operator.context).is_none()
    })
    .await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    operator.stop().await;
}
