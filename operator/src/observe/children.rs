//! Metadata of what exists for a service.
//!
//! In: objects' metadata. Out: what tells whether anything of ours changed. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::compact::Id;
use crate::plan::Kind;

/// Annotations that controllers write on their own accord.
const FOREIGN_ANNOTATIONS: &str = "deployment.kubernetes.io/";

/// Metadata of one existing child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildMeta {
    /// Its name.
    pub name: Box<str>,
    /// Its uid.
    pub uid: Id,
    /// Its resourceVersion.
    pub version: Id,
    /// Changes when anything changes that we write. Where the kind counts generations, that is generation, labels,
    /// annotations and owners, so that the status written by the kind's controller does not look like a change; else it
    /// is the resourceVersion.
    pub mark: Id,
    /// The uid of its controller.
    pub owner: Option<Id>,
}

impl ChildMeta {
    /// The part of an object's metadata that matters here.
    pub fn of(meta: &ObjectMeta) -> Self {
        let controller = meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true));
        let version = Id::from(meta.resource_version.as_deref().unwrap_or_default());
        Self {
            name: meta.name.as_deref().unwrap_or_default().into(),
            uid: Id::from(meta.uid.as_deref().unwrap_or_default()),
            mark: meta.generation.map_or_else(|| version.clone(), |n| mark(meta, n)),
            version,
            owner: controller.map(|owner| Id::from(owner.uid.as_str())),
        }
    }

    /// Whether that is its controller.
    pub fn owned_by(&self, owner: &OwnerReference) -> bool {
        self.owner
            .as_ref()
            .is_some_and(|held| *held == Id::from(owner.uid.as_str()))
    }

    /// Whether nothing that matters differs: the version alone does not.
    pub fn same(&self, other: &Self) -> bool {
        (&self.uid, &self.mark, &self.owner) == (&other.uid, &other.mark, &other.owner)
    }
}

fn mark(meta: &ObjectMeta, generation: i64) -> Id {
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
    let digest: [u8; 32] = Sha256::digest(text).into();
    let [half, _] = digest.as_chunks::<16>().0 else {
        return Id::default();
    };
    Id::from(Uuid::from_bytes(*half))
}

/// What exists with our labels. In order, by kind and name: there are a dozen of them for each service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Children(Vec<(Kind, ChildMeta)>);

impl Children {
    /// The child of that kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&ChildMeta> {
        let place = self.place(kind, name).ok()?;
        self.0.get(place).map(|(_, child)| child)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &ChildMeta)> {
        self.0.iter().map(|(kind, child)| (*kind, child))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one, or replaces what was known of it.
    pub fn insert(&mut self, kind: Kind, child: ChildMeta) {
        match self.place(kind, &child.name) {
            Ok(place) => {
                if let Some(held) = self.0.get_mut(place) {
                    held.1 = child;
                }
            }
            Err(place) => {
                // Room for one: what is held for each service is not to have room for twice as much.
                self.0.reserve_exact(1);
                self.0.insert(place, (kind, child));
            }
        }
    }

    /// Removes one.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Option<ChildMeta> {
        let place = self.place(kind, name).ok()?;
        Some(self.0.remove(place).1)
    }

    /// Where it is, or where it would be.
    fn place(&self, kind: Kind, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(of, child)| (*of, &*child.name).cmp(&(kind, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(name: &str, version: u64) -> ChildMeta {
        let meta = ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        ChildMeta::of(&meta)
    }

    #[test]
    fn children_are_held_once_each_by_kind_and_name_and_in_the_order_of_kinds() {
        let mut children = Children::default();
        let seen = [
            (Kind::Deployment, "b"),
            (Kind::Secret, "b"),
            (Kind::Secret, "a"),
            (Kind::ServiceAccount, "b"),
        ];
        for (kind, name) in seen {
            children.insert(kind, child(name, 1));
        }
        children.insert(Kind::Secret, child("b", 2));
        let held: Vec<_> = children.iter().map(|(kind, child)| (kind, &*child.name)).collect();
        let wanted = [
            (Kind::ServiceAccount, "b"),
            (Kind::Secret, "a"),
            (Kind::Secret, "b"),
            (Kind::Deployment, "b"),
        ];
        assert_eq!(held, wanted);
        assert_eq!(children.get(Kind::Secret, "b"), Some(&child("b", 2)));
        assert_eq!(children.get(Kind::ConfigMap, "b"), None);
        assert_eq!(children.remove(Kind::Secret, "b"), Some(child("b", 2)));
        assert_eq!(children.remove(Kind::Secret, "b"), None);
        assert_eq!(children.iter().count(), 3);
    }

    #[test]
    fn a_thousand_services_children_fit_into_a_few_megabytes() {
        // Thirteen each; what is kept of one in a second place, `memory::Ledger`, is as small.
        assert!(size_of::<(Kind, ChildMeta)>() <= 128);
    }
}
