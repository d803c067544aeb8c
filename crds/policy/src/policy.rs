//! The policy: what a service may do, as one versioned document with one digest.
//!
//! In: the bytes of `policy.json` or the operator's request. Out: an [`EffectivePolicy`], whose one constructor
//! [`EffectivePolicy::resolve`] never yields more than the ceiling: the operator calls it to plan, the server calls
//! it again on the file it loads, so an edited file can only be stricter. Unknown fields are refused: a server that
//! does not understand its policy is not ready, never lenient.

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::egress::{EgressException, ExceptionError};

/// The only version of the document.
pub const VERSION: u32 = 1;
/// At most this many exceptions stand in a policy.
pub const MAX_EXCEPTIONS: usize = 32;
/// Ports that a page may reach without an exception.
pub const DEFAULT_PORTS: [u16; 2] = [80, 443];

/// What is asked of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SandboxMode {
    /// No verified jail, no readiness.
    #[default]
    Required,
    /// Runs without user namespaces where the node refuses them. Explicit and shown as a warning.
    Degraded,
}

/// How long a browser lives. Different clients never share one, whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceRef {
    /// Namespace of the ScreenshotService.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a page may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRules {
    /// Ports open to every global address.
    pub ports: Vec<u16>,
    /// Named exceptions, the only way to private addresses and other ports.
    pub exceptions: Vec<EgressException>,
}

/// What is asked of the jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SandboxRules {
    /// See [`SandboxMode`].
    pub mode: SandboxMode,
    /// See [`Isolation`].
    pub isolation: Isolation,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: default $default:literal, ceiling $ceiling:literal;)*) => {
        /// Bounds of one capture and of the server's work in hand. Each is at least 1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct CaptureLimits { $($(#[$doc])* pub $name: u64,)* }

        impl CaptureLimits {
            /// What a service gets that asks for nothing.
            pub const DEFAULT: Self = Self { $($name: $default,)* };
            /// What no service gets more of.
            pub const CEILING: Self = Self { $($name: $ceiling,)* };

            fn capped(self, ceiling: &Self) -> Self {
                Self { $($name: self.$name.clamp(1, ceiling.$name),)* }
            }

            /// Whether no limit exceeds the other's.
            pub fn within(&self, other: &Self) -> bool {
                true $(&& self.$name <= other.$name)*
            }
        }
    };
}

limits! {
    /// Milliseconds from the request's arrival to its answer.
    deadline_ms: default 30_000, ceiling 120_000;
    /// Viewport width in CSS pixels.
    max_width: default 4_096, ceiling 16_384;
    /// Viewport height in CSS pixels.
    max_height: default 8_192, ceiling 16_384;
    /// Height of a full-page picture in CSS pixels; what lies below is an error, never cut off.
    max_full_page_height: default 16_384, ceiling 32_768;
    /// Pixels of the picture.
    max_pixels: default 33_554_432, ceiling 67_108_864;
    /// Bytes of a request's body.
    max_body_bytes: default 2_097_152, ceiling 8_388_608;
    /// Bytes of the picture.
    max_output_bytes: default 67_108_864, ceiling 134_217_728;
    /// Requests that a page may make.
    max_requests: default 500, ceiling 5_000;
    /// Different hosts that a page may name.
    max_hosts: default 100, ceiling 500;
    /// Open connections of a page at one time.
    max_sockets: default 64, ceiling 256;
    /// Bytes from and to the network.
    max_wire_bytes: default 52_428_800, ceiling 524_288_000;
    /// Captures at one time.
    concurrency: default 2, ceiling 64;
    /// Captures that wait for their turn.
    queue: default 64, ceiling 4_096;
}

/// The document as it stands in `policy.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDocument {
    /// [`VERSION`].
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
    pub fn secure_default(namespace: &str, name: &str) -> Self {
        Self {
            version: VERSION,
            service: ServiceRef {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            egress: EgressRules {
                ports: DEFAULT_PORTS.to_vec(),
                exceptions: Vec::new(),
            },
            sandbox: SandboxRules {
                mode: SandboxMode::Required,
                isolation: Isolation::PerClient,
            },
            capture: CaptureLimits::DEFAULT,
        }
    }
}

/// The most that any policy may grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// Bounds of one capture.
    pub capture: CaptureLimits,
    /// Ports that may be open to every global address.
    pub ports: Vec<u16>,
    /// Whether [`SandboxMode::Degraded`] may be asked for.
    pub degraded_sandbox: bool,
}

impl Ceiling {
    /// The ceiling that operator and server are built with.
    pub fn compiled() -> Self {
        Self {
            capture: CaptureLimits::CEILING,
            ports: DEFAULT_PORTS.to_vec(),
            degraded_sandbox: true,
        }
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON of this shape.
    #[error("policy is not valid: {rule} at line {line}, column {column}")]
    Syntax {
        /// What is wrong, without the offending value.
        rule: &'static str,
        /// 1-based line of the first offence.
        line: usize,
        /// 1-based column.
        column: usize,
    },
    /// Another version.
    #[error("policy version {0} is not supported, expected {VERSION}")]
    Version(u64),
    /// More than [`MAX_EXCEPTIONS`].
    #[error("policy has more than {MAX_EXCEPTIONS} egress exceptions")]
    TooManyExceptions,
    /// An exception breaks a rule.
    #[error("egress exception {index}: {error}")]
    Exception {
        /// 0-based position.
        index: usize,
        /// The rule.
        error: ExceptionError,
    },
    /// The digest is not the one expected.
    #[error("policy digest differs from the one of the pod template")]
    Digest,
}

impl PolicyError {
    /// The bounded word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "policy_syntax",
            Self::Version(_) => "policy_version",
            Self::TooManyExceptions | Self::Exception { .. } => "policy_exception",
            Self::Digest => "policy_digest",
        }
    }
}

/// A policy that is in force. Its fields are private: it only comes out of [`EffectivePolicy::resolve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectivePolicy {
    document: PolicyDocument,
    digest: String,
}

impl EffectivePolicy {
    /// The one constructor: what is asked for, bounded by the ceiling.
    pub fn resolve(ceiling: &Ceiling, requested: PolicyDocument) -> Result<Self, PolicyError> {
        if requested.version != VERSION {
            return Err(PolicyError::Version(u64::from(requested.version)));
        }
        if requested.egress.exceptions.len() > MAX_EXCEPTIONS {
            return Err(PolicyError::TooManyExceptions);
        }
        for (index, exception) in requested.egress.exceptions.iter().enumerate() {
            exception
                .check()
                .map_err(|error| PolicyError::Exception { index, error })?;
        }
        let mut document = requested;
        document.capture = document.capture.capped(&ceiling.capture);
        document.egress.ports.retain(|port| ceiling.ports.contains(port));
        document.egress.ports.sort_unstable();
        document.egress.ports.dedup();
        if !ceiling.degraded_sandbox {
            document.sandbox.mode = SandboxMode::Required;
        }
        let digest = canonical::digest(canonical::json(&document).as_bytes());
        Ok(Self { document, digest })
    }

    /// Loads a policy file under the compiled-in ceiling.
    pub fn load(bytes: &[u8]) -> Result<Self, PolicyError> {
        // The version first: a newer document must be named as such, whatever else in it is unknown.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let syntax = |error: &serde_json::Error| PolicyError::Syntax {
            rule: match error.classify() {
                serde_json::error::Category::Data => "unknown, missing or mistyped field",
                _ => "not JSON",
            },
            line: error.line(),
            column: error.column(),
        };
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(|error| syntax(&error))?;
        if versioned.version != u64::from(VERSION) {
            return Err(PolicyError::Version(versioned.version));
        }
        let document = serde_json::from_slice(bytes).map_err(|error| syntax(&error))?;
        Self::resolve(&Ceiling::compiled(), document)
    }

    /// Loads a policy file and insists on its digest.
    pub fn load_expecting(bytes: &[u8], digest: &str) -> Result<Self, PolicyError> {
        let policy = Self::load(bytes)?;
        if policy.digest == digest {
            Ok(policy)
        } else {
            Err(PolicyError::Digest)
        }
    }

    /// `sha256:` digest of the canonical text.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The canonical text: what the ConfigMap holds.
    pub fn canonical_json(&self) -> String {
        canonical::json(&self.document)
    }

    /// Bounds of one capture.
    pub fn limits(&self) -> &CaptureLimits {
        &self.document.capture
    }

    /// What is asked of the sandbox.
    pub fn sandbox_mode(&self) -> SandboxMode {
        self.document.sandbox.mode
    }

    /// How long a browser lives.
    pub fn isolation(&self) -> Isolation {
        self.document.sandbox.isolation
    }

    /// Ports open to every global address.
    pub fn egress_ports(&self) -> &[u16] {
        &self.document.egress.ports
    }

    /// Named exceptions, expired ones included.
    pub fn exceptions(&self) -> &[EgressException] {
        &self.document.egress.exceptions
    }

    /// Whose policy it is.
    pub fn service(&self) -> &ServiceRef {
        &self.document.service
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document() -> PolicyDocument {
        PolicyDocument::secure_default("web", "shots")
    }

    #[test]
    fn the_canonical_text_loads_to_the_same_policy() {
        let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document()).unwrap();
        assert_eq!(
            EffectivePolicy::load(policy.canonical_json().as_bytes()),
            Ok(policy.clone())
        );
        assert_eq!(
            EffectivePolicy::load_expecting(policy.canonical_json().as_bytes(), policy.digest()),
            Ok(policy)
        );
    }

    #[test]
    fn another_digest_is_refused() {
        let text = EffectivePolicy::resolve(&Ceiling::compiled(), document())
            .unwrap()
            .canonical_json();
        assert_eq!(
            EffectivePolicy::load_expecting(text.as_bytes(), "sha256:00"),
            Err(PolicyError::Digest)
        );
    }

    #[test]
    fn an_unknown_field_or_version_is_refused() {
        let text = EffectivePolicy::resolve(&Ceiling::compiled(), document())
            .unwrap()
            .canonical_json();
        let extra = text.replacen("\"version\":1", "\"version\":1,\"allowAll\":true", 1);
        assert_eq!(
            EffectivePolicy::load(extra.as_bytes()).unwrap_err().reason(),
            "policy_syntax"
        );
        let newer = text.replacen("\"version\":1", "\"version\":2,\"news\":[]", 1);
        assert_eq!(EffectivePolicy::load(newer.as_bytes()), Err(PolicyError::Version(2)));
        assert_eq!(EffectivePolicy::load(b"").unwrap_err().reason(), "policy_syntax");
    }

    fn limits() -> impl Strategy<Value = CaptureLimits> {
        prop::array::uniform13(any::<u64>()).prop_map(|v| CaptureLimits {
            deadline_ms: v[0],
            max_width: v[1],
            max_height: v[2],
            max_full_page_height: v[3],
            max_pixels: v[4],
            max_body_bytes: v[5],
            max_output_bytes: v[6],
            max_requests: v[7],
            max_hosts: v[8],
            max_sockets: v[9],
            max_wire_bytes: v[10],
            concurrency: v[11],
            queue: v[12],
        })
    }

    proptest! {
        #[test]
        fn resolve_never_exceeds_the_ceiling(
            asked in limits(),
            top in limits().prop_map(|limits| limits.capped(&CaptureLimits::CEILING)),
            ports in prop::collection::vec(any::<u16>(), 0..8),
            allowed in prop::collection::vec(any::<u16>(), 0..8),
            degraded: bool,
        ) {
            let ceiling = Ceiling { capture: top, ports: allowed.clone(), degraded_sandbox: degraded };
            let mut requested = document();
            requested.capture = asked;
            requested.egress.ports = ports.clone();
            requested.sandbox.mode = SandboxMode::Degraded;
            let policy = EffectivePolicy::resolve(&ceiling, requested).unwrap();
            prop_assert!(policy.limits().within(&top));
            prop_assert!(policy.egress_ports().iter().all(|port| allowed.contains(port) && ports.contains(port)));
            prop_assert!(degraded || policy.sandbox_mode() == SandboxMode::Required);
        }
    }

    #[test]
    fn the_default_lies_within_the_ceiling() {
        assert!(CaptureLimits::DEFAULT.within(&CaptureLimits::CEILING));
    }
}
