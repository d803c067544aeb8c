//! Lists of names and of address ranges that pages may or may not reach.
//!
//! In: what the user writes. Out: bounded lists of entries that the API server has read as names and ranges. What an
//! entry cannot say here, the operator refuses: an allowed entry that holds nothing public would be a hole that is none.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use screenshot_policy::policy::{MAX_CIDRS, MAX_DOMAINS};
use serde::{Deserialize, Serialize};

use super::parts;

/// Names that pages may ask for. A name is written as it stands in a URL, in lower case: `example.com` is that host
/// alone, `*.example.com` every host below it and not `example.com` itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainLists {
    /// If there are any, pages may ask for these only, and for no literal address; at most 256. An entry opens nothing that
    /// is closed otherwise: ports, addresses and certificates are checked as ever, and a private name needs an entry in
    /// `exceptions`, which holds beside this list. Default: any public name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "domains")]
    pub allow: Vec<String>,
    /// Pages may never ask for these, also when an alias of an allowed name leads there, also when an exception names them;
    /// at most 256. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "domains")]
    pub deny: Vec<String>,
}

/// Address ranges that pages may reach, whatever name led there.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CidrLists {
    /// If there are any, pages may reach these only, in CIDR notation, at most 128. An entry opens nothing that is closed
    /// otherwise: the special ranges in it stay closed, and a private range needs an entry in `exceptions`, which holds
    /// beside this list. Default: every public address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "cidrs")]
    pub allow: Vec<String>,
    /// Pages may never reach these, also when an exception names them, in CIDR notation, at most 128. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "cidrs")]
    pub deny: Vec<String>,
}

fn cidrs(_: &mut SchemaGenerator) -> Schema {
    parts::ranges(MAX_CIDRS)
}

/// Labels may have underscores, as real names do; the last one must be no number, or it would be an address.
fn domains(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_DOMAINS,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^([*][.])?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?([.][a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$') && !self.matches('(^|[.])([0-9]+|0x[0-9a-f]*)$')",
                "message": "must be a host name in lower case such as 'example.com', or '*.example.com' for every name below it; an address has its place in `cidrs`",
                "reason": "FieldValueInvalid"
            }]
        }
    })
}
