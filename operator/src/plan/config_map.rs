//! The ConfigMap with `policy.json`, the canonical text whose digest stands on the pod template, and beside it the cluster's
//! own public ranges, if there are any: pods load those again and again, so no template names them.

use screenshot_policy::layout;

use super::{Child, Kind, object};
use crate::validate::Validated;

pub(super) fn build(wanted: &Validated) -> Child {
    let mut data = object([(layout::POLICY_FILE, wanted.policy.canonical_json().into())]);
    let ranges = wanted.policy.cluster_ranges();
    if !ranges.is_empty() {
        data[layout::CLUSTER_RANGES_FILE] = ranges.canonical_json().into();
    }
    let content = object([("data", data)]);
    Child::new(
        &wanted.identity,
        Kind::ConfigMap,
        &wanted.identity.names.policy(),
        content,
    )
}
