//! Writes children: server-side apply, only when something differs.
//!
//! In: planned children, and the metadata of what exists. Out: writes, in the order of the plan.
//! The [`Ledger`] remembers what was sent and the mark ([`ChildMeta::mark`]) that came back; while both still hold, nothing is sent.
//! Must not: overwrite an object that belongs to somebody else, or delete one that is not ours by owner and labels.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, ValidationDirective};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::context::Context;
use crate::error::Error;
use crate::names::MANAGER;
use crate::observe::{ChildMeta, Children};
use crate::plan::{Child, Kind, Plan};
use crate::validate::Identity;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// What was sent last for each child, and the mark that it then had.
#[derive(Debug, Default)]
pub struct Ledger(HashMap<(String, Kind, String), ([u8; 32], String)>);

impl Ledger {
    fn unchanged(&self, namespace: &str, child: &Child, digest: &[u8; 32], live: Option<&ChildMeta>) -> bool {
        let entry = self.0.get(&(namespace.to_owned(), child.kind, child.name.clone()));
        matches!((entry, live), (Some((sent, mark)), Some(live)) if sent == digest && *mark == live.mark)
    }

    fn note(&mut self, namespace: &str, child: &Child, digest: [u8; 32], mark: String) {
        self.0
            .insert((namespace.to_owned(), child.kind, child.name.clone()), (digest, mark));
    }
}

/// The client for children of one kind in the service's namespace.
pub fn api(context: &Context, identity: &Identity, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), &identity.namespace, &kind.api_resource())
}

/// Every call to the API server ends in time.
///
/// # Errors
/// What the call reports, or [`Error::Timeout`].
pub async fn call<T>(
    verb: &'static str,
    kind: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(result) => result.map_err(|error| Error::api(verb, kind, error)),
        Err(_) => Err(Error::Timeout { verb, kind }),
    }
}

/// Applies one child unless it is as it was left.
///
/// # Errors
/// [`Error::NotOurs`] when the name is taken; else what the API server reports.
pub async fn apply(context: &Context, identity: &Identity, child: &Child, live: &Children) -> Result<(), Error> {
    let existing = live.get(child.kind, &child.name);
    match existing {
        Some(live) => refuse_foreign(identity, child, live)?,
        // The list shows only what has our labels; the name may be taken all the same.
        None => refuse_taken(context, identity, child).await?,
    }
    let digest = digest(&child.body)?;
    if lock(context).unchanged(&identity.namespace, child, &digest, existing) {
        return Ok(());
    }
    let written = patch(context, identity, child, &child.body).await?;
    let mark = ChildMeta::of(&written.metadata).mark;
    lock(context).note(&identity.namespace, child, digest, mark);
    Ok(())
}

/// Creates a child that must not exist. Two writers cannot both succeed.
///
/// # Errors
/// [`Error::Conflict`] when it exists.
pub async fn create(context: &Context, identity: &Identity, child: &Child) -> Result<String, Error> {
    let object: DynamicObject = serde_json::from_value(child.body.clone()).map_err(|_| Error::Encode)?;
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(context, identity, child.kind);
    let created = call("create", child.kind.name(), api.create(&params, &object)).await?;
    context.metrics.write(child.kind.name(), "create");
    Ok(created.metadata.resource_version.unwrap_or_default())
}

/// Replaces what we own of a child, if it is still at `version`.
///
/// # Errors
/// [`Error::Conflict`] when somebody else wrote it meanwhile.
pub async fn update(context: &Context, identity: &Identity, child: &Child, version: &str) -> Result<String, Error> {
    let mut body = child.body.clone();
    body["metadata"]["resourceVersion"] = Value::String(version.to_owned());
    let written = patch(context, identity, child, &body).await?;
    Ok(written.metadata.resource_version.unwrap_or_default())
}

/// Deletes a child, if it is still the one that was seen. One that is gone already is fine.
///
/// # Errors
/// What the API server reports.
pub async fn delete(context: &Context, identity: &Identity, kind: Kind, child: &ChildMeta) -> Result<(), Error> {
    // One that was made in this very pass is known by its version only.
    let preconditions = if child.uid.is_empty() {
        Preconditions {
            uid: None,
            resource_version: Some(child.version.clone()),
        }
    } else {
        Preconditions {
            uid: Some(child.uid.clone()),
            resource_version: None,
        }
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    let api = api(context, identity, kind);
    match call("delete", kind.name(), api.delete(&child.name, &params)).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(|_| context.metrics.write(kind.name(), "delete")),
    }
}

/// Deletes what is ours and no longer planned.
///
/// # Errors
/// What the API server reports.
pub async fn prune(context: &Context, identity: &Identity, plan: &Plan, live: &Children) -> Result<(), Error> {
    for (kind, child) in live.iter() {
        let ours = child.owner.as_deref() == Some(identity.owner.uid.as_str());
        if ours && !plan.holds(&identity.names, kind, &child.name) {
            delete(context, identity, kind, child).await?;
        }
    }
    Ok(())
}

fn refuse_foreign(identity: &Identity, child: &Child, live: &ChildMeta) -> Result<(), Error> {
    if live.owner.as_deref() == Some(identity.owner.uid.as_str()) {
        return Ok(());
    }
    Err(Error::NotOurs {
        kind: child.kind.name(),
        name: child.name.clone(),
    })
}

async fn refuse_taken(context: &Context, identity: &Identity, child: &Child) -> Result<(), Error> {
    let api = api(context, identity, child.kind);
    match call("get", child.kind.name(), api.get_metadata_opt(&child.name)).await? {
        Some(found) => refuse_foreign(identity, child, &ChildMeta::of(&found.metadata)),
        None => Ok(()),
    }
}

async fn patch(context: &Context, identity: &Identity, child: &Child, body: &Value) -> Result<DynamicObject, Error> {
    let params = PatchParams {
        force: true,
        field_manager: Some(MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let api = api(context, identity, child.kind);
    let written = call(
        "apply",
        child.kind.name(),
        api.patch(&child.name, &params, &Patch::Apply(body)),
    )
    .await?;
    context.metrics.write(child.kind.name(), "apply");
    Ok(written)
}

fn digest(body: &Value) -> Result<[u8; 32], Error> {
    Ok(Sha256::digest(serde_json::to_vec(body).map_err(|_| Error::Encode)?).into())
}

fn lock(context: &Context) -> std::sync::MutexGuard<'_, Ledger> {
    context.ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
