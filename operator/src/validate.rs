//! From the resource to a checked description of what is wanted.
//!
//! In: a `ScreenshotService` and the operator's settings. Out: [`Validated`], or [`Invalid`] with what to change.
//! Pure. The schema refused most mistakes already; here is what it cannot see: the policy's own rules (through
//! `EffectivePolicy::resolve`, as the server will) and what the operator must supply. Children of a service that became
//! invalid are left as they are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use screenshot_api::{EgressExceptionSpec, Resources, Rotation, SandboxMode, ScreenshotService};
use screenshot_policy::egress::EgressException;
use screenshot_policy::policy::{self, Ceiling, EffectivePolicy, PolicyDocument};

use crate::context::Settings;
use crate::error::Error;
use crate::names::Names;

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

/// What is wanted, checked.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Whose it is.
    pub identity: Identity,
    /// Image of the capture pods.
    pub image: String,
    /// Number of pods, 0 while suspended.
    pub replicas: i32,
    /// Whether the service rests.
    pub suspended: bool,
    /// Another value than before replaces the pods.
    pub restart_nonce: Option<String>,
    /// Requests and limits as written; defaults are filled in by the plan.
    pub resources: Resources,
    /// Whose token it is.
    pub client: String,
    /// When the token is replaced.
    pub rotation: Rotation,
    /// The policy that pods will enforce.
    pub policy: EffectivePolicy,
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
        message: &'static str,
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
    let mut document = PolicyDocument::secure_default(&identity.namespace, identity.names.main());
    document.sandbox.mode = match spec.sandbox.mode {
        SandboxMode::Required => policy::SandboxMode::Required,
        SandboxMode::Degraded => policy::SandboxMode::Degraded,
    };
    document.egress.exceptions = spec
        .network
        .egress
        .exceptions
        .iter()
        .enumerate()
        .map(exception)
        .collect::<Result<_, _>>()?;
    let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document)?;
    Ok(Validated {
        identity,
        image,
        replicas: if spec.suspend { 0 } else { spec.replicas },
        suspended: spec.suspend,
        restart_nonce: spec.restart_nonce.clone(),
        resources: spec.resources.clone(),
        client: spec.auth.client_name.clone(),
        rotation: spec.auth.rotation.clone(),
        policy,
    })
}

fn exception((index, spec): (usize, &EgressExceptionSpec)) -> Result<EgressException, Invalid> {
    let invalid = |field, message| Invalid::Exception { index, field, message };
    let ports = spec
        .ports
        .iter()
        .map(|port| u16::try_from(*port).map_err(|_| invalid("ports", "must be between 1 and 65535")))
        .collect::<Result<_, _>>()?;
    let cidr = spec
        .cidr
        .as_ref()
        .map(|text| {
            text.parse()
                .map_err(|_| invalid("cidr", "must be an address range in CIDR notation"))
        })
        .transpose()?;
    Ok(EgressException {
        host: spec.host.clone(),
        ports,
        cidr,
        reason: spec.reason.clone(),
        expires: spec.expires.0,
    })
}
