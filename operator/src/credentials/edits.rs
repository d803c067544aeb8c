//! Whose hand it was when the content of a Secret was edited: names of keys and of managers, never what is in them.
//!
//! In: a Secret with its managedFields. Out: what an event may say once a step of the rotation has mended it. Pure.

use k8s_openapi::api::core::v1::Secret;
use screenshot_policy::layout;
use serde_json::{Map, Value};

use crate::apply::PutBack;
use crate::drift::{Managers, Path, Step};
use crate::plan::{Child, Kind, secrets};
use crate::validate::Identity;

/// Every key that we write.
const KEYS: [&str; 5] = [
    secrets::TOKEN_KEY,
    secrets::KEY_ID_KEY,
    layout::KEYSET_FILE,
    layout::INTERNAL_KEY_FILE,
    layout::INTERNAL_NEXT_KEY_FILE,
];

/// Keys of ours that somebody else holds, each with the manager.
pub struct Edits(Box<[(&'static str, Box<str>)]>);

impl Edits {
    /// Reads them.
    pub fn of(secret: &Secret) -> Self {
        let entries = secret.metadata.managed_fields.as_deref().unwrap_or_default();
        let managers = Managers::of(entries);
        let edited = KEYS.into_iter().filter_map(|key| {
            let path = Path(["data", key].map(|name| Step::Field(name.into())).into());
            Some((key, managers.of_field(&path)?.into()))
        });
        Self(edited.collect())
    }

    /// What is put back by writing `child` over it. A key that was taken away is held by nobody any more.
    pub fn put_back(&self, identity: &Identity, child: &Child, has: impl Fn(&str) -> bool) -> Option<PutBack> {
        let planned = child.body.get("data").and_then(Value::as_object);
        let gone = planned.into_iter().flat_map(Map::keys).filter(|key| {
            // Absent but during a change.
            !has(key) && *key != layout::INTERNAL_NEXT_KEY_FILE
        });
        let gone = gone.map(|key| (key.as_str(), "an unknown manager"));
        let edited = self.0.iter().map(|(key, manager)| (*key, &**manager));
        let fields: Vec<(String, String)> = edited
            .chain(gone)
            .map(|(key, manager)| (format!("data.{key}"), manager.to_owned()))
            .collect();
        (!fields.is_empty()).then(|| PutBack {
            kind: Kind::Secret.name(),
            namespace: identity.namespace.clone(),
            name: child.name.clone(),
            fields,
        })
    }
}
