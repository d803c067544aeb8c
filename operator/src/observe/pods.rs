//! What capture pods attest: asked for, remembered, and brought about.
//!
//! In: pods as the watch or the API server shows them, what is expected of them. Out: a [`PodView`] each. A pod that does
//! not answer is no error but an observation. Writes nothing in the API server.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use screenshot_policy::attest::{AttestReport, InternalKey, nonce};
use screenshot_policy::canary::{CanaryFacts, Finding};
use screenshot_policy::keyset::Keyset;
use screenshot_policy::policy::Enforcement;

use super::creation;
use crate::apply::call;
use crate::attest::Unattested;
use crate::canary::Offer;
use crate::clock;
use crate::context::{Context, random};
use crate::error::Error;
use crate::memory::Proof;
use crate::validate::Identity;
use crate::views::{self, PodState, Said};

/// What a pod attested is believed for so long, if nothing happens to the pod. Less than the time between two passes, so
/// that each of them asks: a cluster that ceases to enforce its NetworkPolicies is found out within a minute.
const PROOF_LIFE: Duration = Duration::from_secs(35);

/// One capture pod and what it attested.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its address, while its server container runs.
    pub ip: Option<IpAddr>,
    /// The node it runs on; `None` until it is scheduled.
    pub node: Option<String>,
    /// Whether its containers passed their readiness probes.
    pub ready: bool,
    /// Whether its server container runs, so that it may hold an old keyset.
    pub started: bool,
    /// Why the first container that cannot start cannot, if any.
    pub waiting: Option<Said>,
    /// Why its node does not begin its containers, as far as the kubelet told.
    pub refused: Option<Said>,
    /// Why no node was found for it, while none is.
    pub unschedulable: Option<Said>,
    /// What it attested.
    pub attested: Result<AttestReport, Unattested>,
    /// Whether it let the operator in on its API port, where no rule of the spec does.
    pub let_in: bool,
}

impl PodView {
    /// Whether it holds another keyset than this one, and would take this one: it answered, it has the service's key, and
    /// its own keyset is older.
    pub fn takes(&self, keyset: &Keyset) -> bool {
        let held = self.attested.as_ref().ok().and_then(|report| report.keyset.as_ref());
        self.ip.is_some() && held.is_some_and(|held| held.revision < keyset.revision)
    }
}

/// Brings the keyset to the pods that would take it, and believes what they attest then. The kubelet brings it too, up to
/// two minutes later; what a pod does not take is awaited from there. Returns whether any pod has it now.
///
/// # Errors
/// [`Error::Random`].
pub async fn bring(
    context: &Context,
    identity: &Identity,
    key: &InternalKey,
    keyset: &Keyset,
    pods: &mut [PodView],
) -> Result<bool, Error> {
    let digest = keyset.digest();
    let behind = pods.iter_mut().filter(|pod| pod.takes(keyset));
    let taken = behind.map(async |pod| {
        let Some(ip) = pod.ip else { return Ok(false) };
        let nonce = nonce(clock::wall(), random()?);
        let answer = context.attester.bring(&pod.name, ip, key, nonce, keyset).await;
        // What it attested before it was asked to take the keyset stands if it does not answer now.
        let Ok(mut report) = answer else { return Ok(false) };
        // Who brings a keyset does not ask for the canary: what was found before stands, and is no younger for it.
        report.egress.canary = pod
            .attested
            .as_ref()
            .ok()
            .and_then(|before| before.egress.canary.clone());
        let taken = report.keyset.as_ref().is_some_and(|held| held.digest == digest);
        context.memories.with(&identity.key(), |memory| {
            if let Some(proof) = memory.proofs.get_mut(&pod.uid) {
                proof.answer = Ok(report.clone());
            }
        });
        pod.attested = Ok(report);
        Ok(taken)
    });
    let taken: Vec<bool> = join_all(taken).await.into_iter().collect::<Result<_, Error>>()?;
    Ok(taken.contains(&true))
}

pub(super) async fn live_pods(context: &Context, identity: &Identity) -> Result<Vec<PodState>, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &identity.namespace);
    let params = ListParams::default().labels(&identity.names.selector_text());
    let pods = call("list", "Pod", api.list(&params)).await?;
    Ok(pods.items.iter().map(views::pod).collect())
}

/// What every pod should attest.
pub(super) struct Expected {
    pub(super) policy: String,
    pub(super) ranges: Option<String>,
    pub(super) keyset: Option<String>,
    pub(super) sandbox: bool,
    /// Earlier answers do not count.
    pub(super) fresh: bool,
    /// Id of the internal key to come, while there is one.
    pub(super) internal: Option<String>,
    pub(super) enforcement: Enforcement,
}

/// What pods are asked.
pub(super) struct Asking<'a> {
    pub(super) key: Option<&'a InternalKey>,
    pub(super) offer: Offer,
    /// Whether to try their API port.
    pub(super) knock: bool,
}

impl Expected {
    /// Whether an answer leaves nothing to wait for.
    fn met(&self, answer: &Result<AttestReport, Unattested>) -> bool {
        answer.as_ref().is_ok_and(|report| {
            let keyset = report.keyset.as_ref().map(|keyset| &keyset.digest);
            let refused = report.keyset.as_ref().is_some_and(|keyset| keyset.stale.is_some());
            report.policy_digest.as_ref() == Some(&self.policy)
                && report.cluster_ranges == self.ranges
                && keyset == self.keyset.as_ref()
                && !refused
                && (report.sandbox.verified || !self.sandbox)
                && report.not_ready.is_empty()
                && self.internal.iter().all(|id| report.internal_keys.contains(id))
                && report.egress.canary.as_ref().is_none_or(|canary| self.settled(canary))
        })
    }

    /// Whether there is no reason to ask a pod again soon: its answer is as expected, and it did not let the operator in
    /// where that stops the service. Its policies may only be late.
    pub(super) fn rests(&self, answer: &Result<AttestReport, Unattested>, let_in: bool) -> bool {
        self.met(answer) && (!let_in || self.enforcement == Enforcement::Advisory)
    }

    /// Whether there is no reason to have the canary tried again soon.
    fn settled(&self, canary: &CanaryFacts) -> bool {
        canary.finding() != Finding::Open || (self.enforcement == Enforcement::Advisory && !canary.early)
    }

    /// Whether an earlier answer still counts.
    fn counts(&self, proof: &Proof, pod: &PodState, now: Instant) -> bool {
        !self.fresh
            && proof.pod == *pod
            && now.duration_since(proof.at) < PROOF_LIFE
            && self.rests(&proof.answer, proof.let_in)
    }
}

/// What each pod attests, asked for unless an earlier answer still counts.
pub(super) async fn attested(
    context: &Context,
    identity: &Identity,
    pods: &[PodState],
    asking: &Asking<'_>,
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
        let (attested, let_in) = match (old, pod.started.then_some(pod.ip).flatten(), asking.key) {
            (Some(proof), _, Some(_)) => (proof.answer.clone(), proof.let_in),
            (_, None, _) => (Err(Unattested::NoAddress), false),
            (_, _, None) => (Err(Unattested::NoKey), false),
            (None, Some(ip), Some(key)) => {
                let (answer, let_in) = ask(context, pod, ip, key, asking).await?;
                let proof = Proof {
                    pod: pod.clone(),
                    at: Instant::now(),
                    answer: answer.clone(),
                    let_in,
                };
                context
                    .memories
                    .with(&service, |memory| memory.proofs.insert(pod.uid.clone(), proof));
                (answer, let_in)
            }
        };
        Ok(PodView {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ip: pod.started.then_some(pod.ip).flatten(),
            node: pod.node.clone(),
            ready: pod.ready,
            started: pod.started,
            waiting: pod.waiting.clone(),
            refused: creation::refusal(context, identity, pod).await,
            unschedulable: pod.unschedulable.clone(),
            attested,
            let_in,
        })
    });
    join_all(views).await.into_iter().collect()
}

type Answer = (Result<AttestReport, Unattested>, bool);

/// Asks a pod to attest, and knocks at its API port meanwhile.
async fn ask(
    context: &Context,
    pod: &PodState,
    ip: IpAddr,
    key: &InternalKey,
    asking: &Asking<'_>,
) -> Result<Answer, Error> {
    let nonce = nonce(clock::wall(), random()?);
    let canary = context.canary.asked(&nonce).filter(|_| asking.offer == Offer::Made);
    let attest = async {
        let mut answer = context.attester.ask(&pod.name, ip, key, nonce, canary.as_ref()).await;
        if let Ok(report) = &mut answer {
            context.canary.confirm(&mut report.egress.canary).await;
        }
        answer
    };
    let knock = async { asking.knock && context.attester.is_let_in(ip).await };
    Ok(join(attest, knock).await)
}

#[cfg(test)]
mod tests {
    use screenshot_policy::attest::KeysetFacts;

    use super::*;

    fn expected(fresh: bool) -> Expected {
        Expected {
            policy: "p".into(),
            ranges: None,
            keyset: None,
            sandbox: false,
            fresh,
            internal: None,
            enforcement: Enforcement::Required,
        }
    }

    #[test]
    fn an_answer_counts_until_it_is_old_or_anything_happens_to_its_pod() {
        let pod = PodState {
            ready: true,
            ..PodState::default()
        };
        let report = AttestReport {
            pod: "p".into(),
            ready: true,
            policy_digest: Some("p".into()),
            ..AttestReport::default()
        };
        let at = Instant::now();
        let proof = |answer| Proof {
            pod: pod.clone(),
            at,
            answer,
            let_in: false,
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
            ..report.clone()
        };
        assert!(!expected(false).counts(&proof(Ok(outdated)), &pod, at));
        let elsewhere = AttestReport {
            cluster_ranges: Some("sha256:other".into()),
            ..report.clone()
        };
        assert!(!expected(false).counts(&proof(Ok(elsewhere)), &pod, at));
        assert!(!expected(false).counts(&proof(Err(Unattested::Unreachable)), &pod, at));
    }

    #[test]
    fn a_pod_that_lets_the_operator_in_is_asked_again_soon_where_that_stops_the_service() {
        let pod = PodState::default();
        let at = Instant::now();
        let counts = |enforcement, let_in| {
            let answer = Ok(AttestReport {
                policy_digest: Some("p".into()),
                ..AttestReport::default()
            });
            let proof = Proof {
                pod: pod.clone(),
                at,
                answer,
                let_in,
            };
            let expected = Expected {
                enforcement,
                ..expected(false)
            };
            expected.counts(&proof, &pod, at)
        };
        assert!(counts(Enforcement::Required, false));
        assert!(!counts(Enforcement::Required, true));
        assert!(counts(Enforcement::Advisory, true), "it is only shown");
    }

    #[test]
    fn a_pod_that_refused_a_keyset_is_asked_again_soon_although_the_right_one_is_in_force() {
        let keyset = |stale: Option<&str>| KeysetFacts {
            revision: 1,
            digest: "k".into(),
            stale: stale.map(Into::into),
        };
        let met = |stale| {
            let report = AttestReport {
                policy_digest: Some("p".into()),
                keyset: Some(keyset(stale)),
                ..AttestReport::default()
            };
            let keyset = Some("k".into());
            Expected {
                keyset,
                ..expected(false)
            }
            .met(&Ok(report))
        };
        assert_eq!((met(None), met(Some("keyset_syntax"))), (true, false));
    }
}
