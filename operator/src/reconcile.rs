//! One pass over one service, in order.
//!
//! In: a `ScreenshotService` and the shared context. Out: children as wanted, a status that is true, the time of the
//! next pass. Everything that decides is elsewhere and pure; this is only the order of it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use screenshot_api::{ScreenshotService, ScreenshotServiceStatus};
use serde_json::json;

use crate::apply::PutBack;
use crate::cache::Key;
use crate::context::Context;
use crate::credentials::{self, Turn, rules};
use crate::error::Error;
use crate::names::MANAGER;
use crate::observe::{Freshness, Observed};
use crate::plan::{Child, Kind, OperatorPods, Plan, Surroundings, plan};
use crate::rotation::{Step, Wait, decide};
use crate::validate::{Identity, Validated, identity, validate};
use crate::{apply, events, observe, status};

/// Between questions to pods that have yet to attest something, at first and at most.
const SOON: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// Between passes when nothing happens: attestations are refreshed then.
const LATE: Duration = Duration::from_secs(40);
/// The work of a pass has no more time than this, whatever hangs.
const PASS_TIMEOUT: Duration = Duration::from_secs(120);
/// For so long an error that passes by itself is not shown, if no pass between succeeds.
const UNTOLD: SignedDuration = SignedDuration::from_secs(30);

/// Does one pass; returns when to do the next.
///
/// # Errors
/// What stopped it; the caller retries with backoff.
pub async fn reconcile(context: &Context, service: &ScreenshotService) -> Result<Duration, Error> {
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(LATE); // The garbage collector removes the children; making them anew would fight it.
    }
    let identity = identity(service)?;
    let (key, generation) = (identity.key(), identity.generation);
    let before = service.status.clone().unwrap_or_default();
    let wanted = match validate(identity, service, &context.settings) {
        Ok(wanted) => wanted,
        Err(why) => {
            context.memories.with(&key, |memory| memory.failing = None);
            let after = status::invalid(&before, &why, generation, (context.now)());
            publish(context, service, &before, &after).await?;
            context.metrics.pass("invalid");
            return Ok(LATE);
        }
    };
    let outcome = Box::pin(pass(context, service, wanted)).await;
    let (failure, now) = (outcome.as_ref().err(), (context.now)());
    let silent = context
        .memories
        .with(&key, |memory| untold(&mut memory.failing, failure, now));
    match outcome {
        // Somebody was faster, or the network hiccuped: the next pass comes soon and the status need not flicker.
        Err(error) if silent => Err(error),
        Err(error) => {
            let after = status::failed(&before, &error, generation, now);
            publish(context, service, &before, &after).await?;
            Err(error)
        }
        Ok((after, next)) => {
            publish(context, service, &before, &after).await?;
            context.metrics.pass("ok");
            Ok(next)
        }
    }
}

/// Whether the status stays silent on how a pass ended. `failing` is since when passes have failed with what passes by itself.
fn untold(failing: &mut Option<Timestamp>, failure: Option<&Error>, now: Timestamp) -> bool {
    if !failure.is_some_and(Error::transient) {
        *failing = None;
        return false;
    }
    now.duration_since(*failing.get_or_insert(now)) < UNTOLD
}

async fn pass(context: &Context, service: &ScreenshotService, wanted: Validated) -> Result<Done, Error> {
    let wanted = wanted.in_cluster(context.cluster.view(Instant::now())?);
    let work = carry_out(context, service, &wanted);
    let late = |_| Error::Timeout {
        verb: "reconcile",
        kind: "ScreenshotService",
    };
    tokio::time::timeout(PASS_TIMEOUT, work).await.map_err(late)?
}

type Done = (ScreenshotServiceStatus, Duration);

async fn carry_out(context: &Context, service: &ScreenshotService, wanted: &Validated) -> Result<Done, Error> {
    let mut seen = observe::observe(context, wanted, Freshness::Cached).await?;
    if moves_the_token(context, wanted, &seen) {
        seen = observe::observe(context, wanted, Freshness::Live).await?;
    }
    match finish(context, service, wanted, seen).await {
        // The watches were late, or do not show what somebody edited: once more, by what is there.
        Err(Error::Conflict { .. }) => {
            let seen = observe::observe(context, wanted, Freshness::Live).await?;
            finish(context, service, wanted, seen).await
        }
        other => other,
    }
}

async fn finish(
    context: &Context,
    service: &ScreenshotService,
    wanted: &Validated,
    mut seen: Observed,
) -> Result<Done, Error> {
    let around = Surroundings {
        targets: &seen.targets,
        operator: &operator_pods(context),
        served: &seen.served,
        deployment: seen.deployment.as_ref(),
    };
    let plan = plan(wanted, &around, (context.now)());
    let turn = write(context, service, wanted, &plan, &mut seen).await?;
    // What was written just now is not rolled out yet, whatever the watch showed before.
    let deployment = context.cache.of(&wanted.identity.key()).deployment;
    let pass = status::Pass {
        wanted,
        deployment: deployment.as_ref(),
        pods: &seen.pods,
        facts: &turn.facts,
        stopped: &turn.stopped,
        rules: &rules(wanted),
        autoscaler: seen.autoscaler.as_ref(),
        unresolved: &plan.unresolved,
        unserved: &plan.unserved,
        offer: seen.offer,
    };
    let now = (context.now)();
    let after = status::compute(&service.status.clone().unwrap_or_default(), &pass, now);
    let awaiting = seen.awaiting
        || seen.credentials.next_internal_id().is_some()
        || matches!(turn.stopped, Step::Wait(Wait::Pickup(_)));
    let turns = context.memories.with(&wanted.identity.key(), |memory| {
        memory.waited = if awaiting { memory.waited.saturating_add(1) } else { 0 };
        memory.waited
    });
    let due = plan.changes_at.into_iter().chain(seen.next_look).min();
    let next = next_pass(turns, due, &turn.stopped, now);
    Ok((after, spread(next, &wanted.identity.owner.uid)))
}

/// Whether this pass will act on the Secrets. What the watches show may be late, and an old token must not be taken for
/// unused because a pod was not seen yet. A service that has nothing yet has no such pod either.
fn moves_the_token(context: &Context, wanted: &Validated, seen: &Observed) -> bool {
    let facts = seen.credentials.facts(&seen.pods);
    let step = decide(&facts, &rules(wanted), (context.now)());
    let new = facts.keyset.is_none() && seen.pods.is_empty() && seen.deployment.is_none();
    let goes_on = match &step {
        Step::Wait(Wait::Pickup(_)) => seen.credentials.can_be_brought(&seen.pods),
        Step::Wait(Wait::Overlap(_)) | Step::Rest(_) => false,
        _ => true,
    };
    let internal = seen.credentials.internal_step(&seen.pods, (context.now)());
    let acts = seen.credentials.internal.is_none() || internal.replaces() || goes_on;
    !new && acts
}

/// The writes, in the order that is safe: no pod before its network rules, none before its Secrets. What is open beyond
/// the plan closes first, as anything else may fail.
async fn write(
    context: &Context,
    service: &ScreenshotService,
    wanted: &Validated,
    plan: &Plan,
    seen: &mut Observed,
) -> Result<Turn, Error> {
    let identity = &wanted.identity;
    let policies = |kind: Kind| kind == Kind::NetworkPolicy;
    let denies = identity.names.default_deny();
    let (first, rest): (Vec<_>, Vec<_>) = plan
        .before_secrets()
        .partition(|child| policies(child.kind) && child.name == denies);
    for child in first {
        apply_one(context, service, identity, child, seen).await?;
    }
    apply::prune(context, identity, plan, &seen.children, policies).await?;
    for child in rest {
        apply_one(context, service, identity, child, seen).await?;
    }
    for found in &seen.mislabelled {
        let put_back = apply::relabel(context, identity, found).await?;
        tell(context, service, &put_back).await;
    }
    let turn = credentials::settle(context, wanted, &mut seen.credentials, &mut seen.pods).await;
    let put_back = context
        .memories
        .with(&identity.key(), |memory| std::mem::take(&mut memory.put_back));
    for put_back in &put_back {
        tell(context, service, put_back).await;
    }
    let turn = turn?;
    for child in plan.after_secrets() {
        apply_one(context, service, identity, child, seen).await?;
    }
    apply::prune(context, identity, plan, &seen.children, |kind| !policies(kind)).await?;
    Ok(turn)
}

async fn apply_one(
    context: &Context,
    service: &ScreenshotService,
    identity: &Identity,
    child: &Child,
    seen: &Observed,
) -> Result<(), Error> {
    if let Some(put_back) = apply::apply(context, identity, child, &seen.children).await? {
        tell(context, service, &put_back).await;
    }
    Ok(())
}

async fn tell(context: &Context, service: &ScreenshotService, put_back: &PutBack) {
    context.metrics.drift(put_back.kind);
    tracing::warn!(kind = put_back.kind, name = put_back.name, fields = ?put_back.fields, "an edited child was put back");
    events::publish(context, &service.object_ref(&()), vec![events::put_back(put_back)]).await;
}

fn operator_pods(context: &Context) -> OperatorPods {
    OperatorPods {
        namespace: context.settings.operator_namespace.clone(),
        name: context.settings.operator_name.clone(),
    }
}

async fn publish(
    context: &Context,
    service: &ScreenshotService,
    before: &ScreenshotServiceStatus,
    after: &ScreenshotServiceStatus,
) -> Result<(), Error> {
    let key = Key::of(&service.metadata);
    if before != after {
        let namespace = service.namespace().ok_or(Error::NoIdentity)?;
        let api: Api<ScreenshotService> = Api::namespaced(context.client.clone(), &namespace);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(json!({
            "apiVersion": ScreenshotService::api_version(&()),
            "kind": ScreenshotService::kind(&()),
            // One of the same name that was made meanwhile has another status.
            "metadata": {"uid": service.uid()},
            "status": after,
        }));
        let name = service.name_any();
        let request = api.patch_status(&name, &params, &patch);
        let written = apply::call("apply", "ScreenshotService", request).await?;
        context.metrics.write("ScreenshotService", "apply");
        // The next pass starts from this, even if the watch is late.
        if context.services.answered(written) {
            context.queue.push(key.clone());
        }
    }
    // Those of passes that failed before they could tell, too.
    let steps = context.memories.with(&key, |memory| std::mem::take(&mut memory.steps));
    events::publish(context, &service.object_ref(&()), events::notes(before, after, &steps)).await;
    Ok(())
}

/// Soon while pods have yet to attest something, ever less soon; else at the next known change, [`LATE`] at most.
/// Everything else that happens is watched.
fn next_pass(waited: u32, due: Option<Timestamp>, stopped: &Step, now: Timestamp) -> Duration {
    let rest = match stopped {
        Step::Rest(at) | Step::Wait(Wait::Overlap(at)) => Some(*at),
        _ => None,
    };
    let until = rest.into_iter().chain(due).min();
    let wait = until.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    let late = wait.map_or(LATE, |wait| wait.clamp(Duration::from_secs(1), LATE));
    let [first, most] = SOON;
    match waited.checked_sub(1) {
        None => late,
        Some(before) => late.min(first.saturating_mul(2u32.saturating_pow(before)).min(most)),
    }
}

/// A full wait is shortened by up to a tenth, differently for each service: passes of many do not fall together.
fn spread(wait: Duration, uid: &str) -> Duration {
    if wait < LATE {
        return wait;
    }
    let part = uid
        .bytes()
        .fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
        % 100;
    wait.saturating_sub(wait / 1000 * part)
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;

    use super::*;
    use crate::context::tests::{answering, context};

    #[tokio::test]
    async fn an_edit_that_only_the_answer_to_our_write_shows_asks_for_a_pass_and_what_is_gone_stays_gone() {
        let manifest = |version: &str, generation: i64| {
            json!({
                "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
                "metadata": {"name": "shots", "namespace": "web", "uid": "u", "resourceVersion": version,
                    "generation": generation},
                "spec": {},
            })
        };
        let context = context(answering(&manifest("9", 2)));
        let service: ScreenshotService = serde_json::from_value(manifest("5", 1)).unwrap();
        let key = Key::of(&service.metadata);
        let write = async || {
            let after = ScreenshotServiceStatus {
                observed_generation: 1,
                ..ScreenshotServiceStatus::default()
            };
            publish(&context, &service, &ScreenshotServiceStatus::default(), &after)
                .await
                .unwrap();
        };
        context.services.apply(DeserializeGuard(Ok(service.clone())));
        write().await;
        let kept = context.services.readable(&key).unwrap();
        assert_eq!((kept.metadata.generation, context.queue.depth()), (Some(2), 1));

        context.services.delete(DeserializeGuard(Ok(service.clone())));
        context.gone(&key);
        write().await;
        assert!(context.services.readable(&key).is_none(), "it is back");
        assert_eq!(context.queue.depth(), 0);
    }

    #[test]
    fn what_passes_by_itself_is_told_when_it_has_not_for_half_a_minute() {
        let at = |seconds: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let (passing, lasting) = (Error::Conflict { kind: "Secret" }, Error::Unreadable);
        let mut failing = None;
        for (second, failure, silent) in [
            (0, Some(&passing), true),
            (29, Some(&passing), true),
            (30, Some(&passing), false),
            (500, Some(&passing), false),
            (501, None, false),
            (502, Some(&passing), true),
            (532, Some(&passing), false),
            (533, Some(&lasting), false),
            (534, Some(&passing), true),
        ] {
            assert_eq!(untold(&mut failing, failure, at(second)), silent, "{second}");
        }
    }
}
