//! The only reads of a pass.
//!
//! In: whose service it is. Out: [`Observed`], a plain value that everything after decides from.
//! Children are listed as metadata only; of Secrets, only the service's own four are read, by name; of other Services,
//! only those that an exception names. Must not write anything.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::ListParams;
use screenshot_policy::attest::{AttestReport, InternalKey};
use screenshot_policy::egress::EgressException;
use screenshot_policy::host::Host;

use crate::apply::{api, call};
use crate::attest::Unattested;
use crate::context::{Context, random};
use crate::credentials::{self, Credentials};
use crate::error::Error;
use crate::plan::{Kind, PortTarget, ServiceTarget, Targets};
use crate::validate::Identity;
use crate::views::{self, AutoscalerView, DeploymentView, PodState, Said};

/// Metadata of one existing child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildMeta {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Changes when anything changes that we write. Where the kind counts generations, that is generation and labels, so
    /// that the status written by the kind's controller does not look like a change; else it is the resourceVersion.
    pub mark: String,
    /// The uid of its controller.
    pub owner: Option<String>,
}

impl ChildMeta {
    /// The part of an object's metadata that matters here.
    pub fn of(meta: &ObjectMeta) -> Self {
        let controller = meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true));
        let version = meta.resource_version.clone().unwrap_or_default();
        let mark = meta
            .generation
            .map(|generation| format!("{generation} {:?}", meta.labels));
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            mark: mark.unwrap_or_else(|| version.clone()),
            version,
            owner: controller.map(|owner| owner.uid.clone()),
        }
    }
}

/// What exists with our labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Children(BTreeMap<(Kind, String), ChildMeta>);

impl Children {
    /// The child of that kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&ChildMeta> {
        self.0.get(&(kind, name.to_owned()))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &ChildMeta)> {
        self.0.iter().map(|((kind, _), child)| (*kind, child))
    }
}

/// One capture pod and what it attested.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// The node that it was given to.
    pub node: Option<String>,
    /// Whether its containers passed their readiness probes.
    pub ready: bool,
    /// Whether its server container runs, so that it may hold an old keyset.
    pub started: bool,
    /// Why the first container that cannot start cannot, if any.
    pub waiting: Option<Said>,
    /// Why no node was found for it, while none is.
    pub unschedulable: Option<Said>,
    /// What it attested.
    pub attested: Result<AttestReport, Unattested>,
}

/// All that a pass knows of the cluster.
pub struct Observed {
    /// Metadata of the children.
    pub children: Children,
    /// The optional kinds that the API server serves.
    pub served: BTreeSet<Kind>,
    /// The four Secrets.
    pub credentials: Credentials,
    /// Services named by exceptions.
    pub targets: Targets,
    /// The Deployment, if it exists.
    pub deployment: Option<DeploymentView>,
    /// The autoscaler, if it exists.
    pub autoscaler: Option<AutoscalerView>,
    /// The pods that are not on their way out.
    pub pods: Vec<PodView>,
}

/// Reads everything that a pass needs.
///
/// # Errors
/// What the API server reports. A pod that does not answer is not an error but an observation.
pub async fn observe(
    context: &Context,
    identity: &Identity,
    exceptions: &[EgressException],
) -> Result<Observed, Error> {
    let (children, served) = children(context, identity).await?;
    let credentials = secrets(context, identity).await?;
    let targets = targets(context, exceptions).await?;
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), &identity.namespace);
    let deployment = call("get", "Deployment", deployments.get_opt(identity.names.main())).await?;
    let autoscaler = autoscaler(context, identity, &children).await?;
    let pods = pods(context, identity, credentials.internal.as_ref().map(|(key, _)| key)).await?;
    Ok(Observed {
        children,
        served,
        credentials,
        targets,
        deployment: deployment.as_ref().map(views::deployment),
        autoscaler,
        pods,
    })
}

async fn children(context: &Context, identity: &Identity) -> Result<(Children, BTreeSet<Kind>), Error> {
    let params = ListParams::default().labels(&identity.names.selector_text());
    let (mut found, mut served) = (BTreeMap::new(), BTreeSet::new());
    for kind in Kind::ALL {
        let list = match call("list", kind.name(), api(context, identity, kind).list_metadata(&params)).await {
            Err(error) if kind.optional() && error.is_not_found() => continue,
            list => list?,
        };
        if kind.optional() {
            served.insert(kind);
        }
        for item in list.items {
            let child = ChildMeta::of(&item.metadata);
            found.insert((kind, child.name.clone()), child);
        }
    }
    Ok((Children(found), served))
}

async fn secrets(context: &Context, identity: &Identity) -> Result<Credentials, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &identity.namespace);
    let names = &identity.names;
    let mut found = Vec::with_capacity(4);
    for name in [names.internal(), names.keyset(), names.token(), names.pending()] {
        let secret = call("get", "Secret", api.get_opt(&name)).await?;
        let foreign = |secret: &Secret| ChildMeta::of(&secret.metadata).owner.as_deref() != Some(&identity.owner.uid);
        if secret.as_ref().is_some_and(foreign) {
            return Err(Error::NotOurs { kind: "Secret", name });
        }
        found.push(secret);
    }
    let stored: Vec<Option<credentials::Stored>> = found
        .iter()
        .map(|secret| secret.as_ref().map(credentials::Stored::of))
        .collect();
    let nth = |n: usize| stored.get(n).and_then(Option::as_ref);
    Ok(Credentials::read(nth(0), nth(1), nth(2), nth(3)))
}

async fn targets(context: &Context, exceptions: &[EgressException]) -> Result<Targets, Error> {
    let mut targets = Targets::new();
    for exception in exceptions {
        let Ok(host) = exception.host.parse::<Host>() else {
            continue;
        };
        let Some((name, namespace)) = host.in_cluster_service() else {
            continue;
        };
        let api: Api<Service> = Api::namespaced(context.client.clone(), namespace);
        if let Some(service) = call("get", "Service", api.get_opt(name)).await? {
            targets.insert((namespace.to_owned(), name.to_owned()), target(&service));
        }
    }
    Ok(targets)
}

fn target(service: &Service) -> ServiceTarget {
    let Some(spec) = &service.spec else {
        return ServiceTarget::default();
    };
    let tcp = spec
        .ports
        .iter()
        .flatten()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let ports = tcp.filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        let target = match &port.target_port {
            None => PortTarget::Number(number),
            Some(IntOrString::Int(target)) => PortTarget::Number(u16::try_from(*target).ok()?),
            Some(IntOrString::String(name)) => PortTarget::Name(name.clone()),
        };
        Some((number, target))
    });
    ServiceTarget {
        selector: spec.selector.clone().unwrap_or_default(),
        ports: ports.collect(),
        headless: spec.cluster_ip.as_deref() == Some("None"),
    }
}

async fn autoscaler(
    context: &Context,
    identity: &Identity,
    children: &Children,
) -> Result<Option<AutoscalerView>, Error> {
    let (kind, name) = (Kind::HorizontalPodAutoscaler, identity.names.main());
    if children.get(kind, name).is_none() {
        return Ok(None);
    }
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(context.client.clone(), &identity.namespace);
    let found = call("get", kind.name(), api.get_opt(name)).await?;
    Ok(found.as_ref().map(views::autoscaler))
}

async fn pods(context: &Context, identity: &Identity, key: Option<&InternalKey>) -> Result<Vec<PodView>, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &identity.namespace);
    let params = ListParams::default().labels(&identity.names.selector_text());
    let pods = call("list", "Pod", api.list(&params)).await?;
    let serving = pods.items.iter().map(views::pod).filter(|pod| !pod.leaving);
    join_all(serving.map(|pod| view(context, pod, key)))
        .await
        .into_iter()
        .collect()
}

async fn view(context: &Context, pod: PodState, key: Option<&InternalKey>) -> Result<PodView, Error> {
    let attested = match (pod.started.then_some(pod.ip).flatten(), key) {
        (None, _) => Err(Unattested::NoAddress),
        (_, None) => Err(Unattested::NoKey),
        (Some(ip), Some(key)) => context.attester.ask(&pod.name, ip, key, random()?).await,
    };
    Ok(PodView {
        name: pod.name,
        node: pod.node,
        ready: pod.ready,
        started: pod.started,
        waiting: pod.waiting,
        unschedulable: pod.unschedulable,
        attested,
    })
}
