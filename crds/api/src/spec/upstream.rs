//! The forward proxy that is the only way out of some clusters.
//!
//! In: what the user writes. Out: a URL without credentials, the names of the Secret and the ConfigMap that pods mount, and who
//! resolves names. Nothing secret can be written here: the API server refuses it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Forward proxy through which every connection of a page to the public internet goes. Exceptions do not: they are places
/// inside, which are reached straight.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.caBundleConfigMapName) || self.url.startsWith('https://')",
    "message": "`caBundleConfigMapName` must not be set unless `url` begins with 'https://'",
    "reason": "FieldValueInvalid",
    "fieldPath": ".caBundleConfigMapName"
}]))]
pub struct UpstreamProxySpec {
    /// Where it is: `http://` (HTTP CONNECT), `https://` (the same over TLS) or `socks5://`, a lower-case host or address, and a
    /// port. An external name without `cidr` must have public addresses. Required.
    #[schemars(length(min = 1, max = 300), extend("x-kubernetes-validations" = [
        {
            "rule": "!self.contains('@')",
            "message": "must not hold a user name or a password: put them into a Secret and name it in `credentialsSecretName`",
            "reason": "FieldValueInvalid"
        },
        {
            "rule": r"self.contains('@') || self.matches('^(http|https|socks5)://([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*|\\[[0-9a-f:]+\\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])/?$')",
            "message": "must be 'http://', 'https://' or 'socks5://', a lower-case host and a port, such as 'http://proxy.example.com:3128'",
            "reason": "FieldValueInvalid"
        }
    ]))]
    pub url: String,
    /// Secret of type `kubernetes.io/basic-auth` in the service's namespace: its `username` and `password`, 1 to 255 bytes each,
    /// are given to the proxy. A changed Secret counts within two minutes, without new pods. Default: none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub credentials_secret_name: Option<String>,
    /// ConfigMap in the service's namespace whose `ca.crt` holds, in PEM, the authorities that the certificate of an `https://`
    /// proxy must be from, instead of the public ones. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub ca_bundle_config_map_name: Option<String>,
    /// Who turns a page's host name into an address. `Local`: the capture pod, which checks the address and hands that on.
    /// `Remote`: the proxy, which is handed the name; then no address of a named host is checked here, and the status says
    /// so. `cidrs` cannot be set with it. Default: `Local`.
    #[serde(default)]
    pub resolve: Resolution,
    /// Addresses the proxy's host may resolve to, in CIDR notation; needed for a name with private addresses. Default: the host
    /// itself if it is an address, the pods behind it if it is a Service, else any public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 43), regex(pattern = r"^[0-9a-f:.]+/[0-9]{1,3}$"), extend("x-kubernetes-validations" = [{
        "rule": "isCIDR(self) && cidr(self) == cidr(self).masked()",
        "message": "must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
        "reason": "FieldValueInvalid"
    }]))]
    pub cidr: Option<String>,
}

/// Who resolves the names that pages ask for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum Resolution {
    /// The capture pod.
    #[default]
    Local,
    /// The upstream proxy.
    Remote,
}
