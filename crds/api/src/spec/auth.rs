//! Who may ask for captures, and how the token is renewed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may ask for captures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Name of the client that the token belongs to, as it appears in metrics and logs. Default: `default`.
    #[serde(default = "default_client")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub client_name: String,
    /// When and how the token is replaced. Default: every 30 days, the old one working for another 24 hours.
    #[serde(default)]
    pub rotation: Rotation,
}

/// When and how the token is replaced. Captures do not fail during a rotation as long as clients read their Secret
/// again within the overlap.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.overlapHours < self.periodDays * 24",
    "message": "`overlapHours` must be less than `periodDays` times 24",
    "reason": "FieldValueInvalid",
    "fieldPath": ".overlapHours"
}]))]
pub struct Rotation {
    /// Days after which a token is replaced, 1 to 365. Default: 30.
    #[serde(default = "default_period_days")]
    #[schemars(range(min = 1, max = 365))]
    pub period_days: i32,
    /// Hours for which the replaced token still works, 0 to 720, less than the period. Default: 24.
    #[serde(default = "default_overlap_hours")]
    #[schemars(range(min = 0, max = 720))]
    pub overlap_hours: i32,
    /// Any new value here replaces the token at once; `status.auth.lastHandledNonce` answers when it is done.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._:+-]+$"))]
    pub nonce: Option<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            client_name: default_client(),
            rotation: Rotation::default(),
        }
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            period_days: default_period_days(),
            overlap_hours: default_overlap_hours(),
            nonce: None,
        }
    }
}

fn default_client() -> String {
    "default".to_owned()
}

fn default_period_days() -> i32 {
    30
}

fn default_overlap_hours() -> i32 {
    24
}
