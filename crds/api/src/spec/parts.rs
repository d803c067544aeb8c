//! Pieces of schema that several topics share: maps of labels and annotations, selectors, names, address ranges.
//!
//! In: nothing. Out: schemas with every bound that a structural schema can express. Keys of maps have no schema in
//! Kubernetes; what they must be stands in CEL where it is cheap, the rest the operator checks.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Most entries of a map of labels, annotations or a selector.
pub const MAX_ENTRIES: usize = 16;
/// Longest value of an annotation, in characters.
pub const MAX_ANNOTATION: usize = 1024;

/// Which pods, or which namespaces.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels that all must be there, at most 16. Default: none, which selects everything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub match_labels: BTreeMap<String, String>,
}

/// Pods from which connections are let in, in the manner of a NetworkPolicy: with both selectors, pods that fit in
/// namespaces that fit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.podSelector) || has(self.namespaceSelector)",
    "message": "must set `podSelector`, `namespaceSelector` or both",
    "reason": "FieldValueRequired"
}]))]
pub struct Peer {
    /// Namespaces of the pods. Default: the service's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The pods. Default: every pod of the namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
}

/// Name of a Secret in the service's namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret. Required.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// Labels and annotations beside those of the operator.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Labels to add, at most 16. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "own_labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to add, at most 16, each up to 1024 characters. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "own_annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// Labels that select.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_ENTRIES,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
        }
    })
}

/// Labels that are added: not those with which the operator finds its own objects, nor those with which tools track theirs.
pub fn own_labels(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = labels(generator);
    schema.insert(
        "x-kubernetes-validations".into(),
        serde_json::json!([{
            "rule": "self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('screenshot-operator.io/'))",
            "message": "must not use keys under 'app.kubernetes.io/' or 'screenshot-operator.io/', which the operator sets",
            "reason": "FieldValueForbidden"
        }]),
    );
    schema
}

/// Annotations that are added.
pub fn own_annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_ENTRIES,
        "additionalProperties": {"type": "string", "maxLength": MAX_ANNOTATION},
        "x-kubernetes-validations": [{
            "rule": "self.all(key, !key.startsWith('screenshot-operator.io/'))",
            "message": "must not use keys under 'screenshot-operator.io/', which the operator sets",
            "reason": "FieldValueForbidden"
        }]
    })
}

/// Address ranges, as many as fit into a list of peers.
pub fn cidrs(_: &mut SchemaGenerator) -> Schema {
    ranges(32)
}

/// Address ranges, at most so many.
pub fn ranges(most: usize) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": most,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 43,
            "x-kubernetes-validations": [{
                "rule": "isCIDR(self) && cidr(self) == cidr(self).masked()",
                "message": "must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
                "reason": "FieldValueInvalid"
            }]
        }
    })
}
