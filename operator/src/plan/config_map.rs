//! The ConfigMap with `policy.json`, the canonical text whose digest stands on the pod template, and beside it the cluster's
//! own public ranges, if there are any: pods load those again and again, so no template names them.

use screenshot_policy::layout;
use serde_json::json;

use super::{Child, Kind};
use crate::validate::Validated;

pub(super) fn build(wanted: &Validated) -> Child {
    let mut content = json!({"data": {layout::POLICY_FILE: wanted.policy.canonical_json()}});
    let ranges = wanted.policy.cluster_ranges();
    if !ranges.is_empty() {
        content["data"][layout::CLUSTER_RANGES_FILE] = json!(ranges.canonical_json());
    }
    Child::new(
        &wanted.identity,
        Kind::ConfigMap,
        &wanted.identity.names.policy(),
        content,
    )
}
