//! The only reads of a pass.
//!
//! In: what is wanted of a service. Out: [`Observed`], a plain value that everything after decides from.
//! Nearly all of it comes from the watches. Read by name: the service's own four Secrets, when the watch says that they
//! changed; the events of a pod, when its node does not begin it; asked over the network: pods, when something is awaited
//! of them or the last answer is old.
//! [`Freshness::Live`] reads pods and Secrets anew, for a pass that is about to act on them. Must not write anything.

mod children;
mod creation;
mod pods;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use screenshot_policy::policy::{EffectivePolicy, SandboxMode};

use crate::apply::{self, Mislabelled, call};
use crate::cache::Key;
use crate::canary::{Offer, knock};
use crate::compact::Id;
use crate::context::Context;
use crate::credentials::{Credentials, Stored};
use crate::error::Error;
use crate::plan::{Kind, PortTarget, ServiceTarget, Targets};
use crate::validate::{Identity, Validated};
use crate::views::{AutoscalerView, DeploymentView, PodState};

pub use children::{ChildMeta, Children};
use pods::{Asking, Expected, attested, live_pods};
pub use pods::{PodView, bring};

/// Whether what the watches show is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It is.
    Cached,
    /// Pods and Secrets are read anew and every pod is asked.
    Live,
}

/// All that a pass knows of the cluster.
pub struct Observed {
    /// Metadata of the children.
    pub children: Children,
    /// The four Secrets.
    pub credentials: Credentials,
    /// Those of them whose labels or owner somebody edited.
    pub mislabelled: Vec<Mislabelled>,
    /// Services named by exceptions and the upstream proxy.
    pub targets: Targets,
    /// The Deployment, if it exists.
    pub deployment: Option<DeploymentView>,
    /// The autoscaler, if it exists.
    pub autoscaler: Option<AutoscalerView>,
    /// The pods that are not on their way out.
    pub pods: Vec<PodView>,
    /// The optional kinds that the API server serves.
    pub served: BTreeSet<Kind>,
    /// Whether a running pod has yet to attest what is wanted of it.
    pub awaiting: bool,
    /// When to look why a pod's node does not begin it, if it has not by then.
    pub next_look: Option<Timestamp>,
    /// Whether pods were asked to try the canary.
    pub offer: Offer,
}

/// Gathers everything that a pass needs.
///
/// # Errors
/// What the API server reports, or a watch that is not filled. A pod that does not answer is no error but an observation.
pub async fn observe(context: &Context, wanted: &Validated, freshness: Freshness) -> Result<Observed, Error> {
    let identity = &wanted.identity;
    context.health.require(&identity.namespace)?;
    if !context.served.is_known() {
        return Err(Error::Unwatched {
            kind: "APIResourceList",
            reason: "NotSynced",
        });
    }
    let known = context.cache.of(&identity.key());
    let (credentials, mislabelled) = secrets(context, identity, &known.children, freshness).await?;
    let targets = targets(context, identity, &wanted.policy).await?;
    let facts = match freshness {
        Freshness::Cached => known.pods.into_values().collect(),
        Freshness::Live => live_pods(context, identity).await?,
    };
    let expected = Expected {
        policy: wanted.policy.digest().to_owned(),
        ranges: wanted.policy.cluster_ranges().digest(),
        keyset: credentials.keyset_digest(),
        sandbox: wanted.policy.sandbox_mode() == SandboxMode::Required,
        fresh: freshness == Freshness::Live,
        internal: credentials.next_internal_id(),
        enforcement: wanted.policy.enforcement(),
    };
    let serving: Vec<PodState> = facts.into_iter().filter(|pod| !pod.leaving).collect();
    let (settings, now) = (&context.settings, (context.now)());
    let offer = context
        .canary
        .offer(&wanted.policy, &settings.operator_namespace, now)
        .await;
    let own: Vec<IpAddr> = context.canary.addresses().iter().map(SocketAddr::ip).collect();
    let asking = Asking {
        key: credentials.internal.as_ref().map(|(key, _)| key),
        offer,
        knock: knock::is_shut_out(&wanted.ingress, &identity.namespace, settings, &own),
    };
    let pods = attested(context, identity, &serving, &asking, &expected).await?;
    let awaiting = pods
        .iter()
        .any(|pod| pod.started && !expected.rests(&pod.attested, pod.let_in));
    Ok(Observed {
        children: known.children,
        credentials,
        mislabelled,
        targets,
        deployment: known.deployment,
        autoscaler: known.autoscaler,
        pods,
        served: context.served.kinds(),
        awaiting,
        next_look: creation::next_look(&serving, now),
        offer,
    })
}

async fn secrets(
    context: &Context,
    identity: &Identity,
    children: &Children,
    freshness: Freshness,
) -> Result<(Credentials, Vec<Mislabelled>), Error> {
    let names = &identity.names;
    let mut found: Vec<Option<Arc<Stored>>> = Vec::with_capacity(4);
    let mut mislabelled = Vec::new();
    for name in [names.internal(), names.keyset(), names.token(), names.pending()] {
        let shown = children.get(Kind::Secret, &name);
        if freshness == Freshness::Cached && shown.is_none() {
            found.push(None);
            continue;
        }
        let remembered = shown.and_then(|meta| remembered(context, identity, &name, &meta.version));
        if let (Freshness::Cached, Some(stored)) = (freshness, remembered) {
            found.push(Some(stored));
            continue;
        }
        let read = secret(context, identity, &name).await?;
        let (stored, wrong) = read.map_or((None, None), |(stored, wrong)| (Some(stored), wrong));
        found.push(stored);
        mislabelled.extend(wrong);
    }
    let nth = |n: usize| found.get(n).and_then(|stored| stored.as_deref());
    Ok((Credentials::read(nth(0), nth(1), nth(2), nth(3)), mislabelled))
}

fn remembered(context: &Context, identity: &Identity, name: &str, version: &Id) -> Option<Arc<Stored>> {
    context.memories.with(&identity.key(), |memory| {
        let stored = memory.secret(name)?;
        (stored.meta().version == *version).then(|| Arc::clone(stored))
    })
}

type Read = (Arc<Stored>, Option<Mislabelled>);

async fn secret(context: &Context, identity: &Identity, name: &str) -> Result<Option<Read>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &identity.namespace);
    let secret = call("get", "Secret", api.get_opt(name)).await?;
    let key = identity.key();
    let Some(secret) = secret else {
        context.memories.with(&key, |memory| memory.forget_secret(name));
        return Ok(None);
    };
    let stored = Arc::new(Stored::of(&secret));
    let meta = stored.meta();
    // One that we have read as ours before is ours, whoever edited its owner.
    let known = context.memories.with(&key, |memory| {
        let before = memory.secret(name);
        before.is_some_and(|before| before.meta().uid == meta.uid)
    });
    if !meta.owned_by(&identity.owner) && !known {
        return Err(Error::NotOurs {
            kind: "Secret",
            name: name.to_owned(),
        });
    }
    context
        .memories
        .with(&key, |memory| memory.read_secret(Arc::clone(&stored)));
    context.cache.answered(Kind::Secret, &secret.metadata, None);
    Ok(Some((stored, apply::mislabelled(identity, &secret.metadata))))
}

async fn targets(context: &Context, identity: &Identity, policy: &EffectivePolicy) -> Result<Targets, Error> {
    let domain = &policy.egress().cluster.domain;
    let excepted = policy.exceptions().iter().map(|exception| &exception.host);
    let hosts = excepted.chain(policy.upstream().map(|upstream| &upstream.host));
    let named: BTreeSet<Key> = hosts
        .filter_map(|host| {
            let (name, namespace) = host.in_cluster_service(domain)?;
            Some(Key::new(namespace, name))
        })
        .collect();
    let watches = &context.targets;
    watches.need(&context.client, &context.queue, &identity.key(), &named);
    let mut targets = Targets::new();
    for target in named {
        if let Some(found) = watches.get(&target).await? {
            targets.insert((target.namespace, target.name), found);
        }
    }
    Ok(targets)
}

/// What an exception needs to know of a Service.
pub fn target(service: &Service) -> ServiceTarget {
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
