//! Metadata of what exists for a service.
//!
//! In: objects' metadata. Out: what tells whether anything of ours changed. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest as _, Sha256};

use crate::plan::Kind;

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
