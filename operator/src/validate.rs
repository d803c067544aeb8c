//! From the resource to a checked description of what is wanted.
//!
//! In: a `ScreenshotService` and the operator's settings. Out: [`Validated`], or [`Invalid`] with what to change.
//! Pure. The schema refused most mistakes already; here is what it cannot see: the policy's own rules (through
//! `EffectivePolicy::resolve`, as the server will) and what the operator must supply. Children of a service that became
//! invalid are left as they are.

mod egress;
mod keys;
mod upstream;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use screenshot_api::{
    Autoscaling, Exposure, Ingress, Isolation, Metadata, Monitoring, PullPolicy, Resources, Rotation, SandboxMode,
    Scheduling, ScreenshotService, ScreenshotServiceSpec, SecretReference,
};
use screenshot_policy::policy::{self, Ceiling, EffectivePolicy, PolicyDocument};

use crate::cache::Key;
use crate::cluster::View;
use crate::context::Settings;
use crate::error::Error;
use crate::names::Names;

pub use upstream::Mounts;

/// What identifies a service and its children.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Namespace of the service and all its children.
    pub namespace: String,
    /// Names of the children.
    pub names: Names,
    /// The owner that every child carries.
    pub owner: OwnerReference,
    /// `metadata.generation`.
    pub generation: i64,
}

impl Identity {
    /// Namespace and name of the service.
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, self.names.main())
    }
}

/// How many pods run.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    /// So many; 0 while suspended.
    Fixed(i32),
    /// As many as the load asks for.
    Auto(Autoscaling),
}

impl Scale {
    /// Fewest pods that there should be.
    pub fn least(&self) -> i32 {
        match self {
            Self::Fixed(replicas) => *replicas,
            Self::Auto(bounds) => bounds.min_replicas,
        }
    }
}

/// What is wanted, checked.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Whose it is.
    pub identity: Identity,
    /// Image of the capture pods.
    pub image: String,
    /// When nodes fetch it.
    pub pull_policy: PullPolicy,
    /// Secrets for its registry.
    pub pull_secrets: Vec<SecretReference>,
    /// Number of pods.
    pub scale: Scale,
    /// Whether the service rests.
    pub suspended: bool,
    /// Another value than before replaces the pods.
    pub restart_nonce: Option<String>,
    /// Requests and limits as written; defaults are filled in by the plan.
    pub resources: Resources,
    /// Where pods may run.
    pub scheduling: Scheduling,
    /// Labels and annotations of the pods.
    pub pod_metadata: Metadata,
    /// Labels and annotations of everything else.
    pub object_metadata: Metadata,
    /// Who may connect.
    pub ingress: Ingress,
    /// The way in from outside.
    pub exposure: Option<Exposure>,
    /// Seccomp profile of the browser container, where one is required.
    pub seccomp_profile: String,
    /// Whether pods share the node's user namespace; `None` leaves it to the cluster.
    pub host_users: Option<bool>,
    /// Their RuntimeClass.
    pub runtime_class: Option<String>,
    /// What is made for monitoring.
    pub monitoring: Monitoring,
    /// Whose token it is.
    pub client: String,
    /// When the token is replaced.
    pub rotation: Rotation,
    /// What pods mount for the upstream proxy.
    pub upstream: Mounts,
    /// The policy that pods will enforce.
    pub policy: EffectivePolicy,
    /// What the cluster has of its own; the policy has its ranges already.
    pub cluster: View,
}

impl Validated {
    /// The same in the cluster as it was found.
    #[must_use]
    pub fn in_cluster(self, view: View) -> Self {
        Self {
            policy: self.policy.in_cluster(view.ranges.clone()),
            cluster: view,
            ..self
        }
    }
}

/// Why a spec cannot be acted upon. A person has to change something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No image in the spec and none given to the operator.
    #[error("spec.image is not set and the operator was installed without a default image (--capture-image)")]
    NoImage,
    /// An exception cannot be read.
    #[error("spec.network.egress.exceptions[{index}].{field}: {message}")]
    Exception {
        /// 0-based position.
        index: usize,
        /// Which field.
        field: &'static str,
        /// What it must be.
        message: String,
    },
    /// The upstream proxy cannot be read.
    #[error("spec.network.egress.upstreamProxy.{field}: {message}")]
    Upstream {
        /// Which field.
        field: &'static str,
        /// What it must be.
        message: String,
    },
    /// An entry about a host's keys cannot be read.
    #[error("spec.network.egress.tls.hosts[{index}].{field}: {message}")]
    TlsHost {
        /// 0-based position.
        index: usize,
        /// Which field.
        field: &'static str,
        /// What it must be.
        message: String,
    },
    /// An entry of a list of names or ranges cannot be read, or is one that could never act.
    #[error("spec.network.egress.{list}[{index}]: {message}")]
    Listed {
        /// Which list.
        list: &'static str,
        /// 0-based position.
        index: usize,
        /// What it must be.
        message: String,
    },
    /// The key of a label or annotation is none.
    #[error("spec.{field}: a key {rule}")]
    Key {
        /// Which map.
        field: String,
        /// What its keys must be.
        rule: &'static str,
    },
    /// An address range cannot be read.
    #[error(
        "spec.network.ingress.cidrs[{index}]: must be an IPv4 or IPv6 range; an IPv4 range must not be written as IPv6"
    )]
    Cidr {
        /// 0-based position.
        index: usize,
    },
    /// The policy's own rules refuse it.
    #[error("spec.network.egress: {0}")]
    Policy(#[from] policy::PolicyError),
}

impl Invalid {
    /// One word out of a bounded set, for the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoImage => "ImageMissing",
            Self::Exception { .. } => "InvalidException",
            Self::Upstream { .. } => "InvalidUpstreamProxy",
            Self::TlsHost { .. } => "InvalidTlsHost",
            Self::Listed { .. } => "InvalidEntry",
            Self::Key { .. } => "InvalidKey",
            Self::Cidr { .. } => "InvalidRange",
            Self::Policy(_) => "InvalidPolicy",
        }
    }
}

/// Who the service is.
///
/// # Errors
/// [`Error::NoIdentity`] for an object that never was in an API server.
pub fn identity(service: &ScreenshotService) -> Result<Identity, Error> {
    let meta = &service.metadata;
    let namespace = meta.namespace.clone().ok_or(Error::NoIdentity)?;
    let name = meta.name.clone().ok_or(Error::NoIdentity)?;
    let owner = service.controller_owner_ref(&()).ok_or(Error::NoIdentity)?;
    Ok(Identity {
        namespace,
        names: Names::new(name),
        owner,
        generation: meta.generation.unwrap_or(0),
    })
}

/// Checks what the schema cannot.
///
/// # Errors
/// The first thing that a person has to change.
pub fn validate(identity: Identity, service: &ScreenshotService, settings: &Settings) -> Result<Validated, Invalid> {
    let spec = &service.spec;
    let image = spec
        .image
        .clone()
        .or_else(|| settings.capture_image.clone())
        .ok_or(Invalid::NoImage)?;
    keys::check(spec)?;
    ranges(&spec.network.ingress)?;
    let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document(&identity, spec, settings)?)?;
    egress::acts(&policy, &spec.network.egress)?;
    let suspended = spec.suspend;
    let scale = match &spec.autoscaling {
        _ if suspended => Scale::Fixed(0),
        Some(bounds) => Scale::Auto(bounds.clone()),
        None => Scale::Fixed(spec.replicas),
    };
    Ok(Validated {
        identity,
        image,
        pull_policy: spec.image_pull_policy,
        pull_secrets: spec.image_pull_secrets.clone(),
        scale,
        suspended,
        restart_nonce: spec.restart_nonce.clone(),
        resources: spec.resources.clone(),
        scheduling: spec.scheduling.clone(),
        pod_metadata: spec.pod_metadata.clone(),
        object_metadata: spec.object_metadata.clone(),
        ingress: spec.network.ingress.clone(),
        exposure: spec.network.exposure.clone(),
        seccomp_profile: spec.sandbox.seccomp_profile.clone(),
        host_users: spec.sandbox.host_users,
        runtime_class: spec.sandbox.runtime_class_name.clone(),
        monitoring: spec.monitoring.clone(),
        client: spec.auth.client_name.clone(),
        rotation: spec.auth.rotation.clone(),
        upstream: Mounts::of(&spec.network.egress),
        policy,
        cluster: View::default(),
    })
}

/// What is asked of the policy; `resolve` decides what is granted.
fn document(identity: &Identity, spec: &ScreenshotServiceSpec, settings: &Settings) -> Result<PolicyDocument, Invalid> {
    let mut document = PolicyDocument::secure_default(&identity.namespace, identity.names.main())
        .map_err(policy::PolicyError::from)?;
    document.sandbox.mode = match spec.sandbox.mode {
        SandboxMode::Required => policy::SandboxMode::Required,
        SandboxMode::Degraded => policy::SandboxMode::Degraded,
    };
    document.sandbox.isolation = match spec.sandbox.isolation {
        Isolation::PerClient => policy::Isolation::PerClient,
        Isolation::PerCapture => policy::Isolation::PerCapture,
    };
    settings.cluster.fill(&mut document.egress);
    egress::fill(&mut document.egress, &spec.network.egress)?;
    Ok(document)
}

fn ranges(ingress: &Ingress) -> Result<(), Invalid> {
    for (index, text) in ingress.cidrs.iter().enumerate() {
        let mapped = text.parse::<IpNet>().map(|net| match net {
            IpNet::V4(_) => false,
            IpNet::V6(net) => net.addr().to_ipv4_mapped().is_some(),
        });
        if mapped != Ok(false) {
            return Err(Invalid::Cidr { index });
        }
    }
    Ok(())
}
