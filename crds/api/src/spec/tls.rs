//! What the certificates of named hosts must be.
//!
//! In: what the user writes. Out: bounded entries, each with its pins. An entry without pins says nothing, and one that no
//! authority has to vouch for is an exception, with a reason and an end like every other.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What certificates must be beyond what every certificate must: valid now, for the host, and vouched for by a public
/// authority.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressTls {
    /// Hosts that are known by their keys, at most 32. Pages reach them as they reach any other: an entry opens no address
    /// and no port. Their connections are ended and begun anew in the capture server, which speaks HTTP/1.1 and TLS 1.2 or
    /// newer; those to all other hosts are not touched. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["host"]
    ))]
    pub hosts: Vec<TlsHostSpec>,
}

/// A host that is known by its keys.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.trust) || self.trust != 'PinnedKey' || (has(self.reason) && has(self.expires))",
        "message": "`reason` and `expires` must be set with `trust: PinnedKey`, which is an exception",
        "reason": "FieldValueRequired",
        "fieldPath": ".expires"
    },
    {
        "rule": "(has(self.trust) && self.trust == 'PinnedKey') || !(has(self.reason) || has(self.expires))",
        "message": "`reason` and `expires` must be left out without `trust: PinnedKey`",
        "reason": "FieldValueForbidden",
        "fieldPath": ".expires"
    }
]))]
pub struct TlsHostSpec {
    /// Host as it stands in a page's URL: a lower-case name without trailing dot, an IPv4 address, or an IPv6 address
    /// in square brackets. It stands for itself alone, on every port. Required.
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*|\[[0-9a-f:.]+\])$"
        )
    )]
    pub host: String,
    /// Who vouches for the certificate. `PublicAuthorities`: they do, as for every host, and a pinned key must be in the path
    /// that they vouch for. `PinnedKey`: the certificate's own key must be pinned, and nothing else is asked of it; it may
    /// be self-signed, of a private authority, or expired. Default: `PublicAuthorities`.
    #[serde(default)]
    pub trust: TlsTrust,
    /// Keys that it may have, 1 to 8: the SHA-256 of a certificate's SubjectPublicKeyInfo in base64, as in RFC 7469. Pin the
    /// next key as well, before the host changes to it. Required.
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 44, max = 44), regex(pattern = r"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub spki_pins: Vec<String>,
    /// Why no authority vouches for it, for whoever reviews it: 1 to 256 characters. Must be set with `PinnedKey`, and
    /// only then. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub reason: Option<String>,
    /// Instant, RFC 3339, from which on public authorities must vouch for it as well. Must be set with `PinnedKey`, and
    /// only then. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// Who vouches for a certificate.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum TlsTrust {
    /// Public authorities, and a pin.
    #[default]
    PublicAuthorities,
    /// A pin alone.
    PinnedKey,
}
