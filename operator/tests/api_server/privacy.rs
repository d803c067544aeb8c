//! What travels from the API server to the operator.

use std::collections::BTreeSet;

use screenshot_operator::plan::Kind;
use screenshot_operator::trigger::controller::Scope;

use crate::proxy::Proxy;
use crate::support::{Operator, PATIENCE, Stage};

/// Of these the operator looks at the content.
const WHOLE: [&str; 4] = ["screenshotservices", "pods", "deployments", "horizontalpodautoscalers"];

/// What a path lists or watches, in one namespace or in all of them, if it names no single object.
fn collection(path: &str) -> Option<&str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (["api", _version, rest @ ..] | ["apis", _, _version, rest @ ..]) = parts.as_slice() else {
        return None;
    };
    match rest {
        [resource] | ["namespaces", _, resource] => Some(resource),
        _ => None,
    }
}

#[test]
fn a_list_is_told_from_an_object_in_one_namespace_and_in_all() {
    for (path, resource) in [
        ("/api/v1/secrets", Some("secrets")),
        ("/api/v1/namespaces/a/secrets", Some("secrets")),
        ("/apis/apps/v1/deployments", Some("deployments")),
        ("/apis/apps/v1/namespaces/a/deployments", Some("deployments")),
        ("/api/v1/namespaces/a/secrets/b", None),
        ("/apis/apps/v1", None),
        ("/api", None),
    ] {
        assert_eq!(collection(path), resource, "{path}");
    }
}

/// What was listed or watched as metadata, and what with its content.
fn asked(heard: &[(String, String)]) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut metadata, mut whole) = (BTreeSet::new(), BTreeSet::new());
    for (path, accept) in heard {
        if let Some(resource) = collection(path) {
            let part = accept.contains("as=PartialObjectMetadata");
            if part { &mut metadata } else { &mut whole }.insert(resource);
        }
    }
    (metadata, whole)
}

/// A list of Secrets with their data would put every token of the cluster into one answer.
#[tokio::test]
async fn secrets_and_children_that_tell_nothing_are_listed_and_watched_as_metadata_alone() {
    let stage = Stage::new("private").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    stage.resting("shots").await;
    stage.settled("shots").await;
    operator.stop().await;
    let heard = proxy.heard();
    let (metadata, whole) = asked(&heard);
    assert_eq!(whole, WHOLE.into(), "{heard:#?}");
    let required = Kind::ALL.into_iter().filter(|kind| !kind.optional());
    let rest: BTreeSet<&str> = required
        .map(|kind| kind.group_resource().1)
        .filter(|resource| !WHOLE.contains(resource))
        .collect();
    assert!(rest.contains("secrets") && rest.is_subset(&metadata), "{heard:#?}");
}

/// An operator of all namespaces asks at other paths. It leads nothing here: it would look after the services of other tests.
#[tokio::test]
async fn an_operator_of_the_whole_cluster_lists_no_secret_with_its_data_either() {
    let stage = Stage::new("private-all").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), Scope::of([]));
    operator.ready(PATIENCE).await;
    operator.stop().await;
    let heard = proxy.heard();
    assert!(heard.iter().any(|(path, _)| path == "/api/v1/secrets"), "{heard:#?}");
    let (metadata, whole) = asked(&heard);
    let addresses = ["nodes", "servicecidrs", "endpointslices", "services"];
    assert_eq!(whole, WHOLE.into_iter().chain(addresses).collect(), "{heard:#?}");
    assert!(metadata.contains("secrets"), "{heard:#?}");
}
