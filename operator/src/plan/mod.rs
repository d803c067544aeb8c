//! Everything that a service consists of, as a value.
//!
//! In: what is wanted, what surrounds it ([`Surroundings`]), the time. Out: a [`Plan`] with one field per kind of child.
//! Pure: no reads, no clock, no randomness. Secrets with keys are not here, as they depend on state: see `secrets` for
//! their shape and `rotation` for their turn. A child is the JSON that server-side apply sends, whole.

mod autoscaler;
mod config_map;
mod dashboard;
mod deployment;
mod exposure;
mod kind;
mod monitoring;
mod network;
mod pdb;
mod placement;
mod resources;
pub mod secrets;
mod service;
mod service_account;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use screenshot_policy::policy::EffectivePolicy;
use screenshot_policy::tls::TlsHost;
use serde_json::{Value, json};

use crate::names::Names;
use crate::validate::{Identity, Validated};
use crate::views::DeploymentView;

pub use exposure::url;
pub use kind::Kind;
pub use network::{PortTarget, ServiceTarget, Targets};

/// What the plan must know of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The Services named by exceptions.
    pub targets: &'a Targets,
    /// How the operator's own pods are found.
    pub operator: &'a OperatorPods,
    /// The optional kinds that the API server serves.
    pub served: &'a BTreeSet<Kind>,
    /// The Deployment, if it exists.
    pub deployment: Option<&'a DeploymentView>,
}

/// One child: what server-side apply sends.
#[derive(Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The whole object. Of a Secret it holds secrets, hence no `Debug`.
    pub body: Value,
    /// The field that is planned only because somebody changed it: that it differs shows a hand, although the plan was
    /// another one before.
    pub takes_back: Option<&'static str>,
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
            takes_back: None,
        }
    }

    fn annotated<K: AsRef<str>>(self, annotations: &BTreeMap<K, String>) -> Self {
        self.merged("annotations", annotations)
    }

    fn labelled(self, labels: &BTreeMap<String, String>) -> Self {
        self.merged("labels", labels)
    }

    /// Adds entries to a map of the metadata; what is there already stays.
    fn merged<K: AsRef<str>>(mut self, map: &str, entries: &BTreeMap<K, String>) -> Self {
        if let Some(metadata) = self.body.get_mut("metadata")
            && !entries.is_empty()
        {
            add(metadata, map, entries);
        }
        self
    }
}

/// An object of values that are moved into it. `json!` copies them, once for each level that they are put into.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// Adds entries to the map `key` of an object; what is there already stays.
fn add<K: AsRef<str>>(object: &mut Value, key: &str, entries: &BTreeMap<K, String>) {
    if object.get(key).is_none() {
        object[key] = json!({});
    }
    if let Some(map) = object.get_mut(key).and_then(Value::as_object_mut) {
        for (entry, value) in entries {
            map.entry(entry.as_ref()).or_insert_with(|| json!(value));
        }
    }
}

/// Everything that a service consists of, but the Secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Identity of the pods, without any right.
    pub service_account: Child,
    /// Deny by default, then one for each purpose.
    pub network_policies: Vec<Child>,
    /// The policy document.
    pub config_map: Child,
    /// Where clients connect.
    pub service: Child,
    /// How many pods may be missing at a time.
    pub pdb: Child,
    /// The pods.
    pub deployment: Child,
    /// What lets their number follow the load.
    pub autoscaler: Option<Child>,
    /// The way in from outside, as an Ingress.
    pub ingress: Option<Child>,
    /// The way in from outside, as a route of a Gateway.
    pub http_route: Option<Child>,
    /// How metrics are scraped.
    pub pod_monitor: Option<Child>,
    /// Alerts.
    pub prometheus_rule: Option<Child>,
    /// The dashboard, in a ConfigMap.
    pub dashboard: Option<Child>,
    /// Optional kinds that the spec asks for and the API server does not serve.
    pub unserved: BTreeSet<Kind>,
    /// Exceptions, or the upstream proxy, by host, that open nothing: their Service does not exist or does not have the port.
    pub unresolved: BTreeSet<String>,
    /// When the next exception ends and the plan changes by itself.
    pub changes_at: Option<Timestamp>,
}

/// Plans a service.
pub fn plan(wanted: &Validated, around: &Surroundings<'_>, now: Timestamp) -> Plan {
    let (network_policies, unresolved) = network::build(wanted, around, now);
    let mut unserved = BTreeSet::new();
    let mut served = |child: Option<Child>| {
        let child = child?;
        if around.served.contains(&child.kind) {
            return Some(dressed(child, wanted));
        }
        unserved.insert(child.kind);
        None
    };
    Plan {
        http_route: served(exposure::http_route(wanted)),
        pod_monitor: served(monitoring::pod_monitor(wanted)),
        prometheus_rule: served(monitoring::prometheus_rule(wanted)),
        service_account: dressed(service_account::build(&wanted.identity), wanted),
        network_policies: network_policies
            .into_iter()
            .map(|child| dressed(child, wanted))
            .collect(),
        config_map: dressed(config_map::build(wanted), wanted),
        service: dressed(service::build(&wanted.identity), wanted),
        pdb: dressed(pdb::build(&wanted.identity), wanted),
        deployment: dressed(deployment::build(wanted, around.deployment), wanted),
        autoscaler: autoscaler::build(wanted).map(|child| dressed(child, wanted)),
        ingress: exposure::ingress(wanted).map(|child| dressed(child, wanted)),
        dashboard: dashboard::build(wanted).map(|child| dressed(child, wanted)),
        unserved,
        unresolved,
        changes_at: ends(&wanted.policy).filter(|end| *end > now).min(),
    }
}

/// When exceptions end: then the status says something else, and of those for destinations NetworkPolicies do.
fn ends(policy: &EffectivePolicy) -> impl Iterator<Item = Timestamp> {
    let destinations = policy.exceptions().iter().map(|exception| exception.expires);
    let certificates = policy.tls_hosts().iter().filter_map(TlsHost::exception_end);
    destinations.chain(certificates)
}

/// What the spec adds to the metadata of every object.
fn dressed(child: Child, wanted: &Validated) -> Child {
    let own = &wanted.object_metadata;
    child.labelled(&own.labels).annotated(&own.annotations)
}

impl Plan {
    /// What is applied before the Secrets and what after them. Taken apart without `..`, so that no child is forgotten.
    fn parts(&self) -> (Vec<&Child>, Vec<&Child>) {
        let Self {
            service_account,
            network_policies,
            config_map,
            service,
            pdb,
            deployment,
            autoscaler,
            ingress,
            http_route,
            pod_monitor,
            prometheus_rule,
            dashboard,
            unserved: _,
            unresolved: _,
            changes_at: _,
        } = self;
        let before = std::iter::once(service_account)
            .chain(network_policies)
            .chain([config_map]);
        let optional = [autoscaler, ingress, http_route, pod_monitor, prometheus_rule, dashboard];
        let after = [service, pdb, deployment]
            .into_iter()
            .chain(optional.into_iter().flatten());
        (before.collect(), after.collect())
    }

    /// What is applied before the Secrets, in order: network rules before anything that can start a pod.
    pub fn before_secrets(&self) -> impl Iterator<Item = &Child> {
        self.parts().0.into_iter()
    }

    /// What is applied after the Secrets, in order.
    pub fn after_secrets(&self) -> impl Iterator<Item = &Child> {
        self.parts().1.into_iter()
    }

    /// Whether a child of this kind and name belongs to the service. Secrets are judged by name alone.
    pub fn holds(&self, names: &Names, kind: Kind, name: &str) -> bool {
        if kind == Kind::Secret {
            return [names.keyset(), names.internal(), names.token(), names.pending()]
                .iter()
                .any(|ours| ours == name);
        }
        let (before, after) = self.parts();
        before
            .into_iter()
            .chain(after)
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
