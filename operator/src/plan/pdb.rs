//! The PodDisruptionBudget: one pod at a time, and a broken pod never holds up the draining of a node.
//!
//! `maxUnavailable: 1` is right for every number of pods: with one pod it lets the node be drained, where
//! `minAvailable: 1` would block it for ever; the Deployment starts the successor elsewhere.

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
