//! The PodDisruptionBudget: one pod at a time, and a broken pod never holds up the draining of a node.

use serde_json::json;

use super::{Child, Kind};
use crate::validate::Identity;

pub(super) fn build(identity: &Identity) -> Child {
    let content = json!({"spec": {
        "maxUnavailable": 1,
        "selector": {"matchLabels": identity.names.selector()},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }});
    Child::new(identity, Kind::PodDisruptionBudget, identity.names.main(), content)
}
