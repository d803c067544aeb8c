//! One pass over one service, in order.
//!
//! In: a `ScreenshotService` and the shared context. Out: children as wanted, a status that is true, the time of the
//! next pass. Everything that decides is elsewhere and pure; this is only the order of it.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use screenshot_api::{ScreenshotService, ScreenshotServiceStatus};
use serde_json::json;

use crate::context::Context;
use crate::credentials::{self, Turn, rules};
use crate::error::Error;
use crate::names::MANAGER;
use crate::plan::{OperatorPods, Plan, Surroundings, plan};
use crate::rotation::{Step, Wait};
use crate::validate::{Validated, identity, validate};
use crate::{apply, events, observe, status};

const SOON: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(60);
/// A pass has no more time than this, whatever hangs.
const PASS_TIMEOUT: Duration = Duration::from_secs(120);

/// Does one pass; returns when to do the next.
///
/// # Errors
/// What stopped it; the caller retries with backoff.
pub async fn reconcile(context: &Context, service: &ScreenshotService) -> Result<Duration, Error> {
    match tokio::time::timeout(PASS_TIMEOUT, pass(context, service)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout {
            verb: "reconcile",
            kind: "ScreenshotService",
        }),
    }
}

async fn pass(context: &Context, service: &ScreenshotService) -> Result<Duration, Error> {
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(LATE); // The garbage collector removes the children; making them anew would fight it.
    }
    let identity = identity(service)?;
    let before = service.status.clone().unwrap_or_default();
    let wanted = match validate(identity.clone(), service, &context.settings) {
        Ok(wanted) => wanted,
        Err(why) => {
            let after = status::invalid(&before, &why, identity.generation, (context.now)());
            publish(context, service, &before, &after, &[]).await?;
            context.metrics.pass("invalid");
            return Ok(LATE);
        }
    };
    match carry_out(context, service, &wanted).await {
        // Somebody was faster, or the network hiccuped: the next pass comes soon and the status need not flicker.
        Err(error @ (Error::Conflict { .. } | Error::Timeout { .. })) => Err(error),
        Err(error) => {
            let after = status::failed(&before, &error, identity.generation, (context.now)());
            publish(context, service, &before, &after, &[]).await?;
            Err(error)
        }
        Ok((after, next, steps)) => {
            publish(context, service, &before, &after, &steps).await?;
            context.metrics.pass("ok");
            Ok(next)
        }
    }
}

type Done = (ScreenshotServiceStatus, Duration, Vec<&'static str>);

async fn carry_out(context: &Context, service: &ScreenshotService, wanted: &Validated) -> Result<Done, Error> {
    let mut seen = observe::observe(context, &wanted.identity, wanted.policy.exceptions()).await?;
    let around = Surroundings {
        targets: &seen.targets,
        operator: &operator_pods(context),
        served: &seen.served,
        deployment: seen.deployment.as_ref(),
    };
    let plan = plan(wanted, &around, (context.now)());
    let turn = write(context, wanted, &plan, &mut seen).await?;
    let pass = status::Pass {
        wanted,
        deployment: seen.deployment.as_ref(),
        pods: &seen.pods,
        facts: &turn.facts,
        stopped: &turn.stopped,
        rules: &rules(wanted),
        autoscaler: seen.autoscaler.as_ref(),
        unresolved: &plan.unresolved,
        unserved: &plan.unserved,
    };
    let now = (context.now)();
    let after = status::compute(&service.status.clone().unwrap_or_default(), &pass, now);
    let next = next_pass(&after, &plan, &turn.stopped, now);
    Ok((after, next, turn.taken))
}

/// The writes, in the order that is safe: no pod before its network rules, none before its Secrets.
async fn write(
    context: &Context,
    wanted: &Validated,
    plan: &Plan,
    seen: &mut observe::Observed,
) -> Result<Turn, Error> {
    let identity = &wanted.identity;
    for child in plan.before_secrets() {
        apply::apply(context, identity, child, &seen.children).await?;
    }
    let turn = credentials::settle(context, wanted, &mut seen.credentials, &seen.pods).await?;
    for child in plan.after_secrets() {
        apply::apply(context, identity, child, &seen.children).await?;
    }
    apply::prune(context, identity, plan, &seen.children).await?;
    Ok(turn)
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
    steps: &[&'static str],
) -> Result<(), Error> {
    if before != after {
        let namespace = service.namespace().ok_or(Error::NoIdentity)?;
        let api: Api<ScreenshotService> = Api::namespaced(context.client.clone(), &namespace);
        let params = PatchParams::apply(MANAGER).force();
        let patch = json!({
            "apiVersion": ScreenshotService::api_version(&()),
            "kind": ScreenshotService::kind(&()),
            "status": after,
        });
        let name = service.name_any();
        apply::call(
            "apply",
            "ScreenshotService",
            api.patch_status(&name, &params, &Patch::Apply(patch)),
        )
        .await?;
        context.metrics.write("ScreenshotService", "apply");
    }
    events::publish(context, &service.object_ref(&()), events::notes(before, after, steps)).await;
    Ok(())
}

/// Soon while something is under way, else at the next known change, a minute at most: pods are not watched.
fn next_pass(after: &ScreenshotServiceStatus, plan: &Plan, stopped: &Step, now: Timestamp) -> Duration {
    if !status::settled(after) || matches!(stopped, Step::Wait(Wait::Pickup(_))) {
        return SOON;
    }
    let rest = match stopped {
        Step::Rest(at) | Step::Wait(Wait::Overlap(at)) => Some(*at),
        _ => None,
    };
    let until = rest.into_iter().chain(plan.changes_at).min();
    let wait = until.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    wait.map_or(LATE, |wait| wait.clamp(Duration::from_secs(1), LATE))
}
