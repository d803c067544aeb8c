//! Names of children that are taken already.

use kube::api::{DynamicObject, PostParams};
use screenshot_operator::names::MANAGER;
use screenshot_operator::plan::{Child, Kind};
use serde_json::json;

use crate::drift::essence;
use crate::support::{Operator, Stage};
use crate::whole;

/// An object with the name of a child, that somebody else made: as planned, but for owner, labels and one of theirs.
fn theirs(child: &Child) -> DynamicObject {
    let mut theirs: DynamicObject = serde_json::from_value(child.body.clone()).unwrap();
    theirs.metadata.namespace = None;
    theirs.metadata.owner_references = None;
    theirs.metadata.labels = Some([("whose".to_owned(), "theirs".to_owned())].into());
    theirs
}

#[tokio::test]
async fn an_object_of_somebody_else_with_a_childs_name_is_left_alone_whatever_its_kind() {
    let scratch = Stage::new("foreign").await;
    scratch.define_optional_kinds().await;
    let with_ingress = whole::planned(&scratch, "shots", whole::spec()).await;
    let with_route = whole::planned(&scratch, "routed", whole::routed()).await;
    for kind in Kind::ALL {
        let stage = Stage::new("foreign").await;
        let (service, spec, children) = match kind {
            Kind::HttpRoute => ("routed", whole::routed(), &with_route),
            _ => ("shots", whole::spec(), &with_ingress),
        };
        let theirs = match children.iter().find(|child| child.kind == kind) {
            Some(child) => theirs(child),
            None => serde_json::from_value(json!({
                "apiVersion": "v1", "kind": kind.name(), "metadata": {"name": "shots-keyset"}, "data": {"theirs": "eWVz"},
            }))
            .unwrap(),
        };
        let (api, name) = (stage.children(kind), theirs.metadata.name.clone().unwrap());
        let theirs = api.create(&PostParams::default(), &theirs).await.unwrap();
        let service = stage.create(service, spec).await.unwrap();
        let operator = Operator::watching(&stage).await;
        let error = operator.pass(&service).await.expect_err("refused");
        assert_eq!(error.reason(), "NameTaken", "{kind:?}");
        let stalled = stage.condition(&service.metadata.name.unwrap(), "Stalled").await;
        let (status, reason, message) = stalled.expect("Stalled");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "NameTaken"));
        assert!(message.contains(kind.name()), "{message}");
        let after = api.get(&name).await.unwrap();
        assert_eq!(essence(&after), essence(&theirs));
        let written = after.metadata.managed_fields.unwrap();
        assert!(
            written.iter().all(|entry| entry.manager.as_deref() != Some(MANAGER)),
            "{kind:?} {name} was written"
        );
        operator.stop().await;
    }
}
