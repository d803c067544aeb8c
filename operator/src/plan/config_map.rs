//! The ConfigMap with `policy.json`: the canonical text whose digest stands on the pod template.

use screenshot_policy::layout;
use serde_json::json;

use super::{Child, Kind};
use crate::validate::Validated;

pub(super) fn build(wanted: &Validated) -> Child {
    let content = json!({"data": {layout::POLICY_FILE: wanted.policy.canonical_json()}});
    Child::new(
        &wanted.identity,
        Kind::ConfigMap,
        &wanted.identity.names.policy(),
        content,
    )
}
