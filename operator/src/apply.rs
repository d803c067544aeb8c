//! Writes children: server-side apply, only when something differs.
//!
//! In: planned children, and the metadata of what exists. Out: writes, in the order of the plan, and what was put back.
//! While a child looks as it was left (`memory::Sent`), nothing is sent. If somebody touched it, or nothing is remembered,
//! it is read and compared first: with the plan, and the plan with what our last apply held. Every write names the object
//! it means, by uid: what was replaced meanwhile is refused.
//! Must not: overwrite an object that belongs to somebody else, or delete one that is not ours by owner and labels.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, ValidationDirective};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cache::View;
use crate::compact::Id;
use crate::context::Context;
use crate::drift::{self, Difference, Managers};
use crate::error::Error;
use crate::memory::Sent;
use crate::names::MANAGER;
use crate::observe::{ChildMeta, Children};
use crate::plan::{Child, Kind, Plan};
use crate::validate::Identity;
use crate::views;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// No object ever has this resourceVersion: an apply that carries it can create and never change.
const CREATE_ONLY: &str = "1";
/// Fields named in one event.
const MAX_NAMED: usize = 5;

/// A child that somebody edited and that is as planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The fields, each with the manager that held it.
    pub fields: Vec<(String, String)>,
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

/// Applies one child unless it is as it was left. Returns what was put back, if somebody had edited it.
///
/// # Errors
/// [`Error::NotOurs`] when the name is taken; else what the API server reports.
pub async fn apply(
    context: &Context,
    identity: &Identity,
    child: &Child,
    live: &Children,
) -> Result<Option<PutBack>, Error> {
    let digest = digest(&child.body)?;
    let sent = context.memories.with(&identity.key(), |memory| {
        memory.sent.get(child.kind, &child.name).cloned()
    });
    match (live.get(child.kind, &child.name), sent) {
        (Some(live), Some(sent)) if sent.mark == live.mark && sent.uid == live.uid => {
            if sent.digest != digest {
                write(context, identity, child, &child.body, Some(&live.uid), digest).await?;
            }
            Ok(None)
        }
        (Some(_), sent) => inspect(context, identity, child, digest, sent).await,
        (None, sent) => match create_only(context, identity, child, digest).await {
            // The watch shows only what has our labels and owner: the name is taken, or somebody edited those.
            Err(Error::Conflict { .. }) => inspect(context, identity, child, digest, sent).await,
            other => other.map(|()| None),
        },
    }
}

/// Reads the child, and writes it only if it is not as planned.
async fn inspect(
    context: &Context,
    identity: &Identity,
    child: &Child,
    digest: [u8; 32],
    sent: Option<Sent>,
) -> Result<Option<PutBack>, Error> {
    let kind = child.kind.name();
    let api = api(context, identity, child.kind);
    let Some(live) = call("get", kind, api.get_opt(&child.name)).await? else {
        create_only(context, identity, child, digest).await?;
        return Ok(None);
    };
    let meta = ChildMeta::of(&live.metadata);
    let made_by_us = sent.as_ref().is_some_and(|sent| sent.uid == meta.uid);
    if !meta.owned_by(&identity.owner) && !made_by_us {
        return Err(Error::NotOurs {
            kind,
            name: child.name.clone(),
        });
    }
    let entries = live.metadata.managed_fields.clone().unwrap_or_default();
    let managers = Managers::of(&entries);
    let found = left_over(child, &live)?;
    if found.is_empty() && !managers.outgrown(&child.body) {
        note(context, identity, child, &live, digest);
        return Ok(None);
    }
    let body = drift::mending(&child.body, &found);
    write(context, identity, child, &body, Some(&meta.uid), digest).await?;
    let planned_so_before = sent.is_some_and(|sent| sent.digest == digest);
    let fields = hands(&found, &managers, |path| {
        planned_so_before || child.takes_back.is_some_and(|field| path.to_string() == field)
    });
    Ok((!fields.is_empty()).then(|| PutBack {
        kind,
        namespace: identity.namespace.clone(),
        name: child.name.clone(),
        fields,
    }))
}

/// Whose hand each difference shows. What nobody else holds is a change of our own plan, unless the plan is as it was or
/// answers somebody: then that was a hand, too. (Who scales to nothing holds nothing.)
fn hands(
    found: &[Difference],
    managers: &Managers<'_>,
    somebodys: impl Fn(&drift::Path) -> bool,
) -> Vec<(String, String)> {
    let named = found.iter().filter_map(|difference| {
        let gone = || somebodys(&difference.path).then(|| managers.latest().unwrap_or("an unknown manager"));
        let manager = managers.of_field(&difference.path).or_else(gone)?;
        Some((difference.path.to_string(), manager.to_owned()))
    });
    named.take(MAX_NAMED).collect()
}

async fn create_only(context: &Context, identity: &Identity, child: &Child, digest: [u8; 32]) -> Result<(), Error> {
    let mut body = child.body.clone();
    body["metadata"]["resourceVersion"] = json!(CREATE_ONLY);
    write(context, identity, child, &body, None, digest).await
}

async fn write(
    context: &Context,
    identity: &Identity,
    child: &Child,
    body: &Value,
    uid: Option<&Id>,
    digest: [u8; 32],
) -> Result<(), Error> {
    let mut body = body.clone();
    if let Some(uid) = uid {
        body["metadata"]["uid"] = json!(uid.to_string());
    }
    let mut written = patch(context, identity, child, &body).await?;
    // Somebody may have added something in the same moment.
    let left = left_over(child, &written)?;
    if !left.is_empty() {
        written = patch(context, identity, child, &drift::mending(&child.body, &left)).await?;
        for difference in left_over(child, &written)? {
            let (kind, name, field) = (child.kind.name(), &child.name, difference.path.to_string());
            tracing::warn!(kind, name, field, "the API server keeps another value than planned");
        }
    }
    note(context, identity, child, &written, digest);
    Ok(())
}

fn left_over(child: &Child, written: &DynamicObject) -> Result<Vec<Difference>, Error> {
    let value = serde_json::to_value(written).map_err(|_| Error::Encode)?;
    Ok(drift::differences(&child.body, &value))
}

/// Remembers how the child was left, and shows it to the next pass even if the watch is late.
fn note(context: &Context, identity: &Identity, child: &Child, live: &DynamicObject, digest: [u8; 32]) {
    let meta = ChildMeta::of(&live.metadata);
    let sent = Sent {
        digest,
        mark: meta.mark,
        uid: meta.uid,
    };
    context.memories.with(&identity.key(), |memory| {
        memory.sent.note(child.kind, &child.name, sent);
    });
    see(context, child.kind, live);
}

fn see(context: &Context, kind: Kind, live: &DynamicObject) {
    let live = live.clone();
    let meta = live.metadata.clone();
    let view = match kind {
        Kind::Deployment => live.try_parse().ok().map(|it| View::Deployment(views::deployment(&it))),
        Kind::HorizontalPodAutoscaler => live.try_parse().ok().map(|it| View::Autoscaler(views::autoscaler(&it))),
        _ => None,
    };
    context.cache.answered(kind, &meta, view);
}

/// Creates a child that must not exist. Two writers cannot both succeed.
///
/// # Errors
/// [`Error::Conflict`] when it exists: the next pass looks at it anew.
pub async fn create(context: &Context, identity: &Identity, child: &Child) -> Result<DynamicObject, Error> {
    let object: DynamicObject = serde_json::from_value(child.body.clone()).map_err(|_| Error::Encode)?;
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(context, identity, child.kind);
    let created = call("create", child.kind.name(), api.create(&params, &object)).await?;
    context.metrics.write(child.kind.name(), "create");
    context.cache.answered(child.kind, &created.metadata, None);
    Ok(created)
}

/// A Secret whose labels or owner somebody edited, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mislabelled {
    name: String,
    uid: String,
    fields: Vec<(String, String)>,
}

/// Whether a Secret of ours lacks the metadata that every child has. Secrets are not applied like other children, as
/// their content depends on state; their metadata does not.
pub fn mislabelled(identity: &Identity, meta: &ObjectMeta) -> Option<Mislabelled> {
    let live = serde_json::to_value(meta).ok()?;
    let found = drift::differences(&json!({"metadata": essentials(identity)}), &json!({"metadata": live}));
    let entries = meta.managed_fields.clone().unwrap_or_default();
    let fields = hands(&found, &Managers::of(&entries), |_| true);
    (!found.is_empty()).then(|| Mislabelled {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        fields,
    })
}

fn essentials(identity: &Identity) -> Value {
    json!({"labels": identity.names.labels(), "ownerReferences": [identity.owner]})
}

/// Gives a Secret its labels and owner back; its content stays.
///
/// # Errors
/// What the API server reports.
pub async fn relabel(context: &Context, identity: &Identity, found: &Mislabelled) -> Result<PutBack, Error> {
    let kind = Kind::Secret;
    let mut metadata = essentials(identity);
    metadata["uid"] = json!(found.uid);
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let api = api(context, identity, kind);
    let patched = call("patch", kind.name(), api.patch_metadata(&found.name, &params, &patch)).await?;
    context.metrics.write(kind.name(), "patch");
    context.cache.answered(kind, &patched.metadata, None);
    Ok(PutBack {
        kind: kind.name(),
        namespace: identity.namespace.clone(),
        name: found.name.clone(),
        fields: found.fields.clone(),
    })
}

/// Replaces what we own of a child, if it is still at `version`.
///
/// # Errors
/// [`Error::Conflict`] when somebody else wrote it meanwhile.
pub async fn update(
    context: &Context,
    identity: &Identity,
    child: &Child,
    version: &Id,
) -> Result<DynamicObject, Error> {
    let mut body = child.body.clone();
    body["metadata"]["resourceVersion"] = json!(version.to_string());
    let written = patch(context, identity, child, &body).await?;
    context.cache.answered(child.kind, &written.metadata, None);
    Ok(written)
}

/// Deletes a child, if it is still the one that was seen. One that is gone already is fine.
///
/// # Errors
/// What the API server reports.
pub async fn delete(context: &Context, identity: &Identity, kind: Kind, child: &ChildMeta) -> Result<(), Error> {
    let preconditions = Preconditions {
        uid: Some(child.uid.to_string()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    let api = api(context, identity, kind);
    match call("delete", kind.name(), api.delete(&child.name, &params)).await {
        Err(error) if error.is_not_found() => {}
        other => {
            other?;
            context.metrics.write(kind.name(), "delete");
        }
    }
    let place = crate::cache::Key::new(&identity.namespace, &*child.name);
    context.cache.child_gone(kind, &place, Some(child));
    Ok(())
}

/// Deletes what is ours and no longer planned, of the kinds for which `of` holds.
///
/// # Errors
/// What the API server reports.
pub async fn prune(
    context: &Context,
    identity: &Identity,
    plan: &Plan,
    live: &Children,
    of: impl Fn(Kind) -> bool,
) -> Result<(), Error> {
    for (kind, child) in live.iter() {
        if of(kind) && child.owned_by(&identity.owner) && !plan.holds(&identity.names, kind, &child.name) {
            delete(context, identity, kind, child).await?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};

    use super::*;
    use crate::context::tests::{answering, context};
    use crate::drift::{Path, Step};
    use crate::names::Names;

    #[tokio::test]
    async fn an_answer_that_comes_after_the_deletion_leaves_the_child_missing_whichever_call_it_answers() {
        let owner: OwnerReference = serde_json::from_value(json!({
            "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService", "name": "shots", "uid": "s1",
            "controller": true, "blockOwnerDeletion": true,
        }))
        .unwrap();
        let identity = Identity {
            namespace: "web".into(),
            names: Names::new("shots"),
            owner,
            generation: 1,
        };
        let manifest = |version: &str| {
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "shots", "namespace": "web", "uid": "u1", "resourceVersion": version,
                    "labels": identity.names.labels(), "ownerReferences": [identity.owner]},
            })
        };
        let child = Child {
            kind: Kind::Secret,
            name: "shots".into(),
            body: manifest("11"),
            takes_back: None,
        };
        let (context, live) = (context(answering(&manifest("11"))), Children::default());
        let missing = || context.cache.of(&identity.key()).children.is_empty();
        apply(&context, &identity, &child, &live).await.unwrap();
        assert!(!missing(), "created, and not seen by the watch yet");

        let deleted: ObjectMeta = serde_json::from_value(manifest("12")["metadata"].clone()).unwrap();
        let (place, last) = (identity.key(), ChildMeta::of(&deleted));
        let gone = context.cache.child_gone(Kind::Secret, &place, Some(&last));
        assert_eq!(gone, [identity.key()], "no pass creates it anew");
        apply(&context, &identity, &child, &live).await.unwrap();
        assert!(missing(), "apply");
        create(&context, &identity, &child).await.unwrap();
        assert!(missing(), "create");
        update(&context, &identity, &child, &Id::from("10")).await.unwrap();
        assert!(missing(), "update");
        let found = Mislabelled {
            name: "shots".into(),
            uid: "u1".into(),
            fields: Vec::new(),
        };
        relabel(&context, &identity, &found).await.unwrap();
        assert!(missing(), "relabel");
    }

    #[test]
    fn a_change_of_our_own_plan_is_nobodys_drift_and_a_field_taken_away_is_the_last_writers() {
        let entries: Vec<ManagedFieldsEntry> = serde_json::from_value(json!([
            {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:a": {}}}},
        ]))
        .unwrap();
        let difference = |name: &str| Difference {
            path: Path(vec![Step::Field("spec".into()), Step::Field(name.into())]),
            extra: false,
        };
        let (edited, gone) = (difference("a"), difference("b"));
        let managers = Managers::of(&entries);
        let by_edit = |path: &str| (path.to_owned(), "kubectl-edit".to_owned());
        let both = [edited, gone];
        assert_eq!(hands(&both, &managers, |_| false), [by_edit("spec.a")]);
        assert_eq!(
            hands(&both, &managers, |_| true),
            [by_edit("spec.a"), by_edit("spec.b")]
        );
    }
}
