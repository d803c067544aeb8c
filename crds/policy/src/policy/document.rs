//! `policy.json` as it stands on disk.
//!
//! In: what the operator or a person wrote. Out: typed rules, every one of them present: a field that is left out is
//! refused like one that is unknown, so that nobody has to know a default to read a policy.
//! It decides nothing; `EffectivePolicy` does.

use serde::{Deserialize, Serialize};

use super::limits::CaptureLimits;
use crate::address::Nat64Prefix;
use crate::cidr::Cidr;
use crate::domain::DomainRule;
use crate::egress::{EgressException, UpstreamProxy};
use crate::host::HostName;
use crate::tls::TlsHost;
use crate::unit::{ObjectName, Port, UnitError};

/// The only version of the document.
pub const VERSION: u32 = 1;
/// The longest document in bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;
/// At most this many exceptions stand in a policy.
pub const MAX_EXCEPTIONS: usize = 32;
/// At most this many ports are open to every global address.
pub const MAX_PORTS: usize = 16;
/// At most this many rules stand in one list of names.
pub const MAX_DOMAINS: usize = 256;
/// At most this many ranges stand in one list of addresses.
pub const MAX_CIDRS: usize = 128;
/// Ports that a page may reach without an exception.
pub const DEFAULT_PORTS: [Port; 2] = [Port::HTTP, Port::HTTPS];

/// What is asked of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum SandboxMode {
    /// No verified jail, no readiness.
    #[default]
    Required,
    /// Runs without user namespaces where the node refuses them. Explicit and shown as a warning.
    Degraded,
}

/// What follows when the cluster does not enforce its NetworkPolicies, as a pod that reached the canary knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Enforcement {
    /// The pod takes no captures until it is out of reach again.
    #[default]
    Required,
    /// It is told, and the proxy alone stands between a page and the cluster.
    Advisory,
}

/// How long a browser lives. Different clients never share one, whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Isolation {
    /// A client's captures share a browser, each in a fresh context of its own, until anything goes wrong in it or it
    /// grows old.
    #[default]
    PerClient,
    /// A browser serves one capture and is killed.
    PerCapture,
}

/// Whose policy it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceRef {
    /// Namespace of the ScreenshotService.
    pub namespace: ObjectName,
    /// Its name.
    pub name: ObjectName,
}

/// Names that a page may ask for: `example.com`, or `*.example.com` for every name below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainLists {
    /// If there are any, only these, and no literal address.
    #[cfg_attr(test, schemars(length(max = 256)))]
    pub allow: Vec<DomainRule>,
    /// Never these, whatever else allows them.
    #[cfg_attr(test, schemars(length(max = 256)))]
    pub deny: Vec<DomainRule>,
}

/// Addresses that a page may reach. Special addresses stay closed whatever stands here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CidrLists {
    /// If there are any, only these.
    #[cfg_attr(test, schemars(length(max = 128)))]
    pub allow: Vec<Cidr>,
    /// Never these, whatever else allows them.
    #[cfg_attr(test, schemars(length(max = 128)))]
    pub deny: Vec<Cidr>,
}

/// What is the cluster's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRules {
    /// The domain of its Services, such as `cluster.local`.
    pub domain: HostName,
    /// Ranges of its Services, pods, nodes and load balancers: closed without an exception, also when public.
    #[cfg_attr(test, schemars(length(max = 128)))]
    pub cidrs: Vec<Cidr>,
}

/// What is asked of certificates beyond what the browser asks of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsRules {
    /// Hosts that are known by their keys.
    #[cfg_attr(test, schemars(length(max = 32)))]
    pub hosts: Vec<TlsHost>,
}

impl TlsRules {
    fn is_silent(&self) -> bool {
        self.hosts.is_empty()
    }
}

/// What a page may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRules {
    /// Ports open to every global address.
    #[cfg_attr(test, schemars(length(max = 16)))]
    pub ports: Vec<Port>,
    /// Names.
    pub domains: DomainLists,
    /// Addresses.
    pub cidrs: CidrLists,
    /// What is the cluster's own.
    pub cluster: ClusterRules,
    /// Prefixes that the cluster's network translates to IPv4; what lies in one is judged as the IPv4 address behind it.
    #[cfg_attr(test, schemars(length(max = 4)))]
    pub nat64_prefixes: Vec<Nat64Prefix>,
    /// Named exceptions, the only way to private addresses.
    #[cfg_attr(test, schemars(length(max = 32)))]
    pub exceptions: Vec<EgressException>,
    /// Where public connections go first; exceptions do not.
    #[cfg_attr(test, schemars(with = "UpstreamProxy"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Certificates. Not written where nothing is said of them: a policy without is the same text as ever.
    #[serde(default, skip_serializing_if = "TlsRules::is_silent")]
    pub tls: TlsRules,
    /// See [`Enforcement`].
    pub enforcement: Enforcement,
}

/// What is asked of the jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SandboxRules {
    /// See [`SandboxMode`].
    pub mode: SandboxMode,
    /// See [`Isolation`].
    pub isolation: Isolation,
}

/// The document as it stands in `policy.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDocument {
    /// [`VERSION`].
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    pub version: u32,
    /// Whose policy it is.
    pub service: ServiceRef,
    /// What a page may reach.
    pub egress: EgressRules,
    /// What is asked of the jail.
    pub sandbox: SandboxRules,
    /// Bounds of one capture.
    pub capture: CaptureLimits,
}

impl PolicyDocument {
    /// The document of a service that asks for nothing: every default is the safe one.
    ///
    /// # Errors
    /// If one of the two is not an object's name.
    pub fn secure_default(namespace: &str, name: &str) -> Result<Self, UnitError> {
        let service = ServiceRef {
            namespace: namespace.parse()?,
            name: name.parse()?,
        };
        Ok(Self {
            version: VERSION,
            service,
            egress: EgressRules {
                ports: DEFAULT_PORTS.to_vec(),
                domains: DomainLists::default(),
                cidrs: CidrLists::default(),
                cluster: ClusterRules {
                    domain: HostName::cluster_local(),
                    cidrs: Vec::new(),
                },
                nat64_prefixes: Vec::new(),
                exceptions: Vec::new(),
                upstream_proxy: None,
                tls: TlsRules::default(),
                enforcement: Enforcement::Required,
            },
            sandbox: SandboxRules {
                mode: SandboxMode::Required,
                isolation: Isolation::PerClient,
            },
            capture: CaptureLimits::DEFAULT,
        })
    }
}
