//! Everything that a service consists of, as a value.
//!
//! In: what is wanted, what other objects say ([`Targets`]), the time. Out: a [`Plan`] with one field per child.
//! Pure: no reads, no clock, no randomness. Secrets with keys are not here, as they depend on state: see `secrets` for
//! their shape and `rotation` for their turn. A child is the JSON that server-side apply sends, whole.

mod config_map;
mod deployment;
mod kind;
mod network_policies;
mod pdb;
pub mod secrets;
mod service;
mod service_account;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::names::Names;
use crate::validate::{Identity, Validated};

pub use kind::Kind;
pub use network_policies::{PortTarget, ServiceTarget, Targets};

/// One child: what server-side apply sends.
#[derive(Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The whole object. Of a Secret it holds secrets, hence no `Debug`.
    pub body: Value,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({} {})", self.kind.name(), self.name)
    }
}

impl Child {
    /// An object with the metadata that every child has: our labels, the owner, and nothing of the resource's own.
    fn new(identity: &Identity, kind: Kind, name: &str, content: Value) -> Self {
        let mut body = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.name(),
            "metadata": {
                "name": name,
                "namespace": identity.namespace,
                "labels": identity.names.labels(),
                "ownerReferences": [identity.owner],
            }
        });
        if let (Some(body), Value::Object(content)) = (body.as_object_mut(), content) {
            body.extend(content);
        }
        Self {
            kind,
            name: name.to_owned(),
            body,
        }
    }

    fn annotated(mut self, annotations: &BTreeMap<&str, String>) -> Self {
        if let Some(metadata) = self.body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".into(), json!(annotations));
        }
        self
    }
}

/// Everything that a service consists of, but the Secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Identity of the pods, without any right.
    pub service_account: Child,
    /// Deny by default, what may come in, what may go out.
    pub network_policies: [Child; 3],
    /// The policy document.
    pub config_map: Child,
    /// Where clients connect.
    pub service: Child,
    /// How many pods may be missing at a time.
    pub pdb: Child,
    /// The pods.
    pub deployment: Child,
    /// Exceptions, by host, that open nothing: their Service does not exist or does not have the port.
    pub unresolved: BTreeSet<String>,
    /// When the next exception ends and the plan changes by itself.
    pub changes_at: Option<Timestamp>,
}

/// Plans a service.
pub fn plan(wanted: &Validated, targets: &Targets, operator: &OperatorPods, now: Timestamp) -> Plan {
    let (network_policies, unresolved) = network_policies::build(wanted, targets, operator, now);
    Plan {
        service_account: service_account::build(&wanted.identity),
        network_policies,
        config_map: config_map::build(wanted),
        service: service::build(&wanted.identity),
        pdb: pdb::build(&wanted.identity),
        deployment: deployment::build(wanted),
        unresolved,
        changes_at: wanted
            .policy
            .exceptions()
            .iter()
            .map(|e| e.expires)
            .filter(|end| *end > now)
            .min(),
    }
}

impl Plan {
    /// What is applied before the Secrets.
    pub fn before_secrets(&self) -> impl Iterator<Item = &Child> {
        let Self {
            service_account,
            network_policies,
            config_map,
            service: _,
            pdb: _,
            deployment: _,
            ..
        } = self;
        std::iter::once(service_account)
            .chain(network_policies)
            .chain([config_map])
    }

    /// What is applied after the Secrets.
    pub fn after_secrets(&self) -> impl Iterator<Item = &Child> {
        let Self {
            service_account: _,
            network_policies: _,
            config_map: _,
            service,
            pdb,
            deployment,
            ..
        } = self;
        [service, pdb, deployment].into_iter()
    }

    /// Whether a child of this kind and name belongs to the service. Secrets are judged by name alone.
    pub fn holds(&self, names: &Names, kind: Kind, name: &str) -> bool {
        if kind == Kind::Secret {
            return [names.keyset(), names.internal(), names.token(), names.pending()]
                .iter()
                .any(|ours| ours == name);
        }
        self.before_secrets()
            .chain(self.after_secrets())
            .any(|child| child.kind == kind && child.name == name)
    }
}

/// How the operator's own pods are found by a network rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPods {
    /// Their namespace.
    pub namespace: String,
    /// Value of their label `app.kubernetes.io/name`.
    pub name: String,
}
