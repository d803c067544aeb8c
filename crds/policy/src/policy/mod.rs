//! The policy: what a service may do, as one versioned document with one digest.
//!
//! In: the bytes of `policy.json` or the operator's request. Out: an [`EffectivePolicy`], whose one constructor
//! [`EffectivePolicy::resolve`] never yields more than the ceiling: the operator calls it to plan, the server calls
//! it again on the file it loads, so an edited file can only be stricter. Unknown fields are refused: a server that
//! does not understand its policy is not ready, never lenient.

mod document;
mod error;
mod limits;

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Deserialize;

use crate::canonical;
use crate::cluster::ClusterRanges;
use crate::egress::{EgressException, Resolution};
use crate::tls;
use crate::unit::Port;

pub use document::{
    CidrLists, ClusterRules, DEFAULT_PORTS, DomainLists, EgressRules, Enforcement, Isolation, MAX_CIDRS, MAX_DOCUMENT,
    MAX_DOMAINS, MAX_EXCEPTIONS, MAX_PORTS, PolicyDocument, SandboxMode, SandboxRules, ServiceRef, TlsRules, VERSION,
};
pub(crate) use error::rule;
pub use error::{List, PolicyError};
pub use limits::CaptureLimits;

/// The most that any policy may grant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each permits one thing, whatever the others do"
)]
pub struct Ceiling {
    /// Bounds of one capture.
    pub capture: CaptureLimits,
    /// Ports that may be open to every global address.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Whether [`SandboxMode::Degraded`] may be asked for.
    pub degraded_sandbox: bool,
    /// Whether [`Enforcement::Advisory`] may be asked for.
    pub advisory_egress: bool,
    /// Whether [`Resolution::Remote`] may be asked for.
    pub remote_resolution: bool,
    /// Whether [`Trust::PinnedKey`](tls::Trust::PinnedKey) may be asked for.
    pub pinned_keys: bool,
}

impl Ceiling {
    /// The ceiling that operator and server are built with. Ports below 1024 other than the web's two belong to other
    /// protocols, which no page shall be able to speak to the whole world.
    pub fn compiled() -> Self {
        Self {
            capture: CaptureLimits::CEILING,
            ports: vec![80..=80, 443..=443, 1024..=u16::MAX],
            degraded_sandbox: true,
            advisory_egress: true,
            remote_resolution: true,
            pinned_keys: true,
        }
    }

    fn opens(&self, port: Port) -> bool {
        self.ports.iter().any(|range| range.contains(&port.get()))
    }
}

/// A policy that is in force. Its fields are private: it only comes out of [`EffectivePolicy::resolve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectivePolicy {
    document: PolicyDocument,
    digest: String,
    cluster: Arc<ClusterRanges>,
}

impl EffectivePolicy {
    /// The one constructor: what is asked for, bounded by the ceiling. Resolving the outcome again changes nothing.
    pub fn resolve(ceiling: &Ceiling, requested: PolicyDocument) -> Result<Self, PolicyError> {
        check(&requested)?;
        let mut document = requested;
        document.capture = document.capture.capped(&ceiling.capture);
        let egress = &mut document.egress;
        egress.ports.retain(|port| ceiling.opens(*port));
        // Lists are sets: their order and repetitions must not change the digest.
        in_order(&mut egress.ports);
        for list in [&mut egress.domains.allow, &mut egress.domains.deny] {
            in_order(list);
        }
        for list in [
            &mut egress.cidrs.allow,
            &mut egress.cidrs.deny,
            &mut egress.cluster.cidrs,
        ] {
            in_order(list);
        }
        in_order(&mut egress.nat64_prefixes);
        for exception in &mut egress.exceptions {
            in_order(&mut exception.ports);
        }
        for entry in &mut egress.tls.hosts {
            in_order(&mut entry.spki_pins);
            if !ceiling.pinned_keys {
                entry.without_exception();
            }
        }
        in_order(&mut egress.tls.hosts);
        if !ceiling.degraded_sandbox {
            document.sandbox.mode = SandboxMode::Required;
        }
        if !ceiling.advisory_egress {
            document.egress.enforcement = Enforcement::Required;
        }
        if let Some(upstream) = &mut document.egress.upstream_proxy
            && !ceiling.remote_resolution
        {
            upstream.resolve = Resolution::Local;
        }
        let digest = canonical::digest(canonical::json(&document).as_bytes());
        Ok(Self {
            document,
            digest,
            cluster: Arc::default(),
        })
    }

    /// Loads a policy file under the compiled-in ceiling.
    pub fn load(bytes: &[u8]) -> Result<Self, PolicyError> {
        // The version first: a newer document must be named as such, whatever else in it is unknown.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        if bytes.len() > MAX_DOCUMENT {
            return Err(PolicyError::TooLarge);
        }
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(|error| PolicyError::syntax(&error))?;
        if versioned.version != u64::from(VERSION) {
            return Err(PolicyError::Version(versioned.version));
        }
        let document = serde_json::from_slice(bytes).map_err(|error| PolicyError::syntax(&error))?;
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

    /// The same policy in a cluster that has these ranges of its own: they are closed without an exception. Its document
    /// and digest stay.
    #[must_use]
    pub fn in_cluster(self, ranges: ClusterRanges) -> Self {
        Self {
            cluster: Arc::new(ranges),
            ..self
        }
    }

    /// The ranges that the cluster was found to have of its own.
    pub fn cluster_ranges(&self) -> &ClusterRanges {
        &self.cluster
    }

    /// `sha256:` digest of the canonical text.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The canonical text: what the ConfigMap holds.
    pub fn canonical_json(&self) -> String {
        canonical::json(&self.document)
    }

    /// The document in force.
    pub fn document(&self) -> &PolicyDocument {
        &self.document
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

    /// What a page may reach.
    pub fn egress(&self) -> &EgressRules {
        &self.document.egress
    }

    /// Ports open to every global address.
    pub fn egress_ports(&self) -> &[Port] {
        &self.document.egress.ports
    }

    /// Named exceptions, expired ones included.
    pub fn exceptions(&self) -> &[EgressException] {
        &self.document.egress.exceptions
    }

    /// What follows when the cluster does not enforce its NetworkPolicies.
    pub fn enforcement(&self) -> Enforcement {
        self.document.egress.enforcement
    }

    /// Whose policy it is.
    pub fn service(&self) -> &ServiceRef {
        &self.document.service
    }
}

/// What no single value can show: the version, lengths of lists, exceptions that could never act or always act.
fn check(document: &PolicyDocument) -> Result<(), PolicyError> {
    if document.version != VERSION {
        return Err(PolicyError::Version(u64::from(document.version)));
    }
    let egress = &document.egress;
    for (list, length) in [
        (List::Ports, egress.ports.len()),
        (List::Domains, egress.domains.allow.len()),
        (List::Domains, egress.domains.deny.len()),
        (List::Cidrs, egress.cidrs.allow.len()),
        (List::Cidrs, egress.cidrs.deny.len()),
        (List::Cidrs, egress.cluster.cidrs.len()),
        (List::Nat64Prefixes, egress.nat64_prefixes.len()),
        (List::Exceptions, egress.exceptions.len()),
        (List::TlsHosts, egress.tls.hosts.len()),
    ] {
        if length > list.bound() {
            return Err(PolicyError::TooMany(list));
        }
    }
    for (at, prefix) in egress.nat64_prefixes.iter().enumerate() {
        let earlier = egress.nat64_prefixes.iter().take(at);
        if earlier
            .filter(|other| *other != prefix)
            .any(|other| other.overlaps(*prefix))
        {
            return Err(PolicyError::Nat64Overlap);
        }
    }
    for (index, exception) in egress.exceptions.iter().enumerate() {
        exception
            .check(&egress.nat64_prefixes)
            .map_err(|error| PolicyError::Exception { index, error })?;
    }
    if let Some(upstream) = &egress.upstream_proxy {
        upstream.check(egress)?;
    }
    tls::check_all(&egress.tls.hosts).map_err(|(index, error)| PolicyError::TlsHost { index, error })
}

fn in_order<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

#[cfg(test)]
mod tests;
