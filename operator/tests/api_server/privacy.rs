//! What travels from the API server to the operator.

use std::collections::BTreeSet;
use std::time::Duration;

use screenshot_operator::plan::Kind;

use crate::proxy::Proxy;
use crate::support::{Operator, Stage};

/// Of these the operator looks at the content.
const WHOLE: [&str; 4] = ["screenshotservices", "pods", "deployments", "horizontalpodautoscalers"];

/// What a path lists or watches, if it names no single object.
fn collection(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/namespaces/")?;
    let (_, resource) = rest.split_once('/')?;
    (!resource.contains('/')).then_some(resource)
}

/// A list of Secrets with their data would put every token of the cluster into one answer.
#[tokio::test]
async fn secrets_and_children_that_tell_nothing_are_listed_and_watched_as_metadata_alone() {
    let stage = Stage::new("private").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(Duration::from_secs(10)).await;
    let operator = operator.leading();
    stage.resting("shots").await;
    stage.settled("shots").await;
    operator.stop().await;
    let heard = proxy.heard();
    let asked = heard
        .iter()
        .filter_map(|(path, accept)| Some((collection(path)?, accept)));
    let (mut metadata, mut whole) = (BTreeSet::new(), BTreeSet::new());
    for (resource, accept) in asked {
        let part = accept.contains("as=PartialObjectMetadata");
        if part { &mut metadata } else { &mut whole }.insert(resource);
    }
    assert_eq!(whole, WHOLE.into(), "{heard:#?}");
    let required = Kind::ALL.into_iter().filter(|kind| !kind.optional());
    let rest: BTreeSet<&str> = required
        .map(|kind| kind.group_resource().1)
        .filter(|resource| !WHOLE.contains(resource))
        .collect();
    assert!(rest.contains("secrets") && rest.is_subset(&metadata), "{heard:#?}");
}
