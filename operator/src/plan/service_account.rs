//! The pods' ServiceAccount: a name without any right and without a token.

use serde_json::json;

use super::{Child, Kind};
use crate::validate::Identity;

pub(super) fn build(identity: &Identity) -> Child {
    let content = json!({"automountServiceAccountToken": false});
    Child::new(identity, Kind::ServiceAccount, identity.names.main(), content)
}
