//! The only reads of a pass.
//!
//! In: what is wanted of a service. Out: [`Observed`], a plain value that everything after decides from.
//! Nearly all of it comes from the watches. Read by name: the service's own four Secrets, when the watch says that they
//! changed; asked over the network: pods, when something is awaited of them or the last answer is old.
//! [`Freshness::Live`] reads pods and Secrets anew, for a pass that is about to act on them. Must not write anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::ListParams;
use screenshot_policy::attest::{AttestReport, InternalKey};
use screenshot_policy::egress::EgressException;
use screenshot_policy::policy::SandboxMode;
use sha2::{Digest as _, Sha256};

use crate::apply::{self, Mislabelled, call};
use crate::attest::Unattested;
use crate::cache::Key;
use crate::context::{Context, random};
use crate::credentials::{Credentials, Stored};
use crate::error::Error;
use crate::memory::Proof;
use crate::plan::{Kind, PortTarget, ServiceTarget, Targets};
use crate::validate::{Identity, Validated};
use crate::views::{self, AutoscalerView, DeploymentView, PodState, Said};

/// What a pod attested is believed for so long, if nothing happens to the pod.
const PROOF_LIFE: Duration = Duration::from_secs(60);
/// Annotations that controllers write on their own accord.
const FOREIGN_ANNOTATIONS: &str = "deployment.kubernetes.io/";

/// Metadata of one existing child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildMeta {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Changes when anything changes that we write. Where the kind counts generations, that is generation, labels,
    /// annotations and owners, so that the status written by the kind's controller does not look like a change; else it
    /// is the resourceVersion.
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
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            mark: meta.generation.map_or_else(|| version.clone(), |n| mark(meta, n)),
            version,
            owner: controller.map(|owner| owner.uid.clone()),
        }
    }

    /// Whether nothing that matters differs: the version alone does not.
    pub fn same(&self, other: &Self) -> bool {
        (&self.uid, &self.mark, &self.owner) == (&other.uid, &other.mark, &other.owner)
    }
}

fn mark(meta: &ObjectMeta, generation: i64) -> String {
    let ours = |name: &String| !name.starts_with(FOREIGN_ANNOTATIONS);
    let annotations: BTreeMap<_, _> = meta
        .annotations
        .iter()
        .flatten()
        .filter(|(name, _)| ours(name))
        .collect();
    let text = format!(
        "{generation} {:?} {annotations:?} {:?}",
        meta.labels, meta.owner_references
    );
    hex::encode(Sha256::digest(text).get(..8).unwrap_or_default())
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one, or replaces what was known of it.
    pub fn insert(&mut self, kind: Kind, child: ChildMeta) {
        self.0.insert((kind, child.name.clone()), child);
    }

    /// Removes one.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Option<ChildMeta> {
        self.0.remove(&(kind, name.to_owned()))
    }
}

/// One capture pod and what it attested.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// The node it runs on; `None` until it is scheduled.
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
    /// Services named by exceptions.
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
    let targets = targets(context, identity, wanted.policy.exceptions()).await?;
    let facts = match freshness {
        Freshness::Cached => known.pods.into_values().collect(),
        Freshness::Live => live_pods(context, identity).await?,
    };
    let expected = Expected {
        policy: wanted.policy.digest().to_owned(),
        keyset: credentials.keyset_digest(),
        sandbox: wanted.policy.sandbox_mode() == SandboxMode::Required,
        fresh: freshness == Freshness::Live,
    };
    let serving: Vec<PodState> = facts.into_iter().filter(|pod| !pod.leaving).collect();
    let key = credentials.internal.as_ref().map(|(key, _)| key);
    let pods = attested(context, identity, &serving, key, &expected).await?;
    let awaiting = pods.iter().any(|pod| pod.started && !expected.met(&pod.attested));
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

fn remembered(context: &Context, identity: &Identity, name: &str, version: &str) -> Option<Arc<Stored>> {
    context.memories.with(&identity.key(), |memory| {
        let (read, stored) = memory.secrets.get(name)?;
        (read == version).then(|| Arc::clone(stored))
    })
}

type Read = (Arc<Stored>, Option<Mislabelled>);

async fn secret(context: &Context, identity: &Identity, name: &str) -> Result<Option<Read>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &identity.namespace);
    let secret = call("get", "Secret", api.get_opt(name)).await?;
    let key = identity.key();
    let Some(secret) = secret else {
        context.memories.with(&key, |memory| memory.secrets.remove(name));
        return Ok(None);
    };
    let meta = ChildMeta::of(&secret.metadata);
    // One that we have read as ours before is ours, whoever edited its owner.
    let known = context.memories.with(&key, |memory| {
        let before = memory.secrets.get(name);
        before.is_some_and(|(_, stored)| stored.uid() == meta.uid)
    });
    if meta.owner.as_deref() != Some(&identity.owner.uid) && !known {
        return Err(Error::NotOurs {
            kind: "Secret",
            name: name.to_owned(),
        });
    }
    let stored = Arc::new(Stored::of(&secret));
    let entry = (meta.version, Arc::clone(&stored));
    context
        .memories
        .with(&key, |memory| memory.secrets.insert(name.to_owned(), entry));
    context.cache.child(Kind::Secret, &secret.metadata, None);
    Ok(Some((stored, apply::mislabelled(identity, &secret.metadata))))
}

async fn targets(context: &Context, identity: &Identity, exceptions: &[EgressException]) -> Result<Targets, Error> {
    let named: BTreeSet<Key> = exceptions
        .iter()
        .filter_map(|exception| {
            let (name, namespace) = exception.host.in_cluster_service()?;
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

async fn live_pods(context: &Context, identity: &Identity) -> Result<Vec<PodState>, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &identity.namespace);
    let params = ListParams::default().labels(&identity.names.selector_text());
    let pods = call("list", "Pod", api.list(&params)).await?;
    Ok(pods.items.iter().map(views::pod).collect())
}

/// What every pod should attest.
struct Expected {
    policy: String,
    keyset: Option<String>,
    sandbox: bool,
    fresh: bool,
}

impl Expected {
    /// Whether an answer leaves nothing to wait for.
    fn met(&self, answer: &Result<AttestReport, Unattested>) -> bool {
        answer.as_ref().is_ok_and(|report| {
            let keyset = report.keyset.as_ref().map(|keyset| &keyset.digest);
            report.policy_digest.as_ref() == Some(&self.policy)
                && keyset == self.keyset.as_ref()
                && (report.sandbox.verified || !self.sandbox)
                && report.not_ready.is_empty()
        })
    }

    /// Whether an earlier answer still counts.
    fn counts(&self, proof: &Proof, pod: &PodState, now: Instant) -> bool {
        !self.fresh && proof.pod == *pod && now.duration_since(proof.at) < PROOF_LIFE && self.met(&proof.answer)
    }
}

async fn attested(
    context: &Context,
    identity: &Identity,
    pods: &[PodState],
    key: Option<&InternalKey>,
    expected: &Expected,
) -> Result<Vec<PodView>, Error> {
    let service = identity.key();
    let proofs = context.memories.with(&service, |memory| {
        memory.proofs.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        memory.proofs.clone()
    });
    let views = pods.iter().map(async |pod| {
        let old = proofs
            .get(&pod.uid)
            .filter(|proof| expected.counts(proof, pod, Instant::now()));
        let attested = match (old, pod.started.then_some(pod.ip).flatten(), key) {
            (Some(proof), _, Some(_)) => proof.answer.clone(),
            (_, None, _) => Err(Unattested::NoAddress),
            (_, _, None) => Err(Unattested::NoKey),
            (None, Some(ip), Some(key)) => {
                let answer = context.attester.ask(&pod.name, ip, key, random()?).await;
                let proof = Proof {
                    pod: pod.clone(),
                    at: Instant::now(),
                    answer: answer.clone(),
                };
                context
                    .memories
                    .with(&service, |memory| memory.proofs.insert(pod.uid.clone(), proof));
                answer
            }
        };
        Ok(PodView {
            name: pod.name.clone(),
            node: pod.node.clone(),
            ready: pod.ready,
            started: pod.started,
            waiting: pod.waiting.clone(),
            unschedulable: pod.unschedulable.clone(),
            attested,
        })
    });
    join_all(views).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_until_it_is_old_or_anything_happens_to_its_pod() {
        let expected = |fresh| Expected {
            policy: "p".into(),
            keyset: None,
            sandbox: false,
            fresh,
        };
        let pod = PodState {
            ready: true,
            ..PodState::default()
        };
        let report = AttestReport {
            pod: "p".into(),
            ready: true,
            not_ready: Vec::new(),
            policy_digest: Some("p".into()),
            keyset: None,
            sandbox: screenshot_policy::attest::SandboxFacts::default(),
            browser: screenshot_policy::attest::BrowserFacts::default(),
        };
        let at = Instant::now();
        let proof = |answer| Proof {
            pod: pod.clone(),
            at,
            answer,
        };
        let good = proof(Ok(report.clone()));
        assert!(expected(false).counts(&good, &pod, at));
        assert!(!expected(true).counts(&good, &pod, at), "live means to ask");
        assert!(!expected(false).counts(&good, &pod, at + PROOF_LIFE));
        let unready = PodState {
            ready: false,
            ..pod.clone()
        };
        assert!(!expected(false).counts(&good, &unready, at));
        let outdated = AttestReport {
            policy_digest: Some("old".into()),
            ..report
        };
        assert!(!expected(false).counts(&proof(Ok(outdated)), &pod, at));
        assert!(!expected(false).counts(&proof(Err(Unattested::Unreachable)), &pod, at));
    }
}
