//! What the watches know, as plain values.
//!
//! In: events of the watches, and what our own writes returned, so that a pass never sees the world from before its own
//! writes. Out: children, views and pods of one service, and which services an event concerns, if it changed anything
//! that a pass would look at: an event that did not causes no pass. An answer that comes when a watch has shown the
//! deletion of its child brings nothing back.
//! Holds metadata and views only, never the content of a Secret. No client, no I/O.

mod deletions;
pub mod health;
pub mod listening;
pub mod services;
pub mod targets;
pub mod watches;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::compact::Id;
use crate::names::INSTANCE_LABEL;
use crate::observe::{ChildMeta, Children};
use crate::plan::Kind;
use crate::views::{self, AutoscalerView, DeploymentView, PodState};
use deletions::Deletions;

/// Namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// Both parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Those of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a pass wants to know of a child beyond its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// A Deployment's own account.
    Deployment(DeploymentView),
    /// An autoscaler's.
    Autoscaler(AutoscalerView),
}

/// All that is known of one service.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Metadata of its children.
    pub children: Children,
    /// What its Deployment says.
    pub deployment: Option<DeploymentView>,
    /// What its autoscaler says.
    pub autoscaler: Option<AutoscalerView>,
    /// Its pods, those on their way out included.
    pub pods: BTreeMap<String, PodState>,
}

#[derive(Default)]
struct Held {
    services: HashMap<Key, Known>,
    /// Whose child an object is, where its name does not tell.
    strays: HashMap<(Kind, Key), String>,
    /// Whose pod it is.
    pods: HashMap<Key, String>,
    /// Children that were deleted lately.
    deletions: Deletions,
}

/// The shared memory of all watches.
#[derive(Default)]
pub struct Cache(RwLock<Held>);

impl Cache {
    /// What is known of a service.
    pub fn of(&self, service: &Key) -> Known {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.services.get(service).cloned().unwrap_or_default()
    }

    /// A child was seen by a watch. Returns the services for which anything changed.
    pub fn child(&self, kind: Kind, meta: &ObjectMeta, view: Option<View>) -> Vec<Key> {
        let child = ChildMeta::of(meta);
        self.write(|held| held.child(kind, meta, child, view))
    }

    /// A child was seen in the answer to a call of ours. One that no watch has shown yet is taken. What a watch has
    /// shown since, such as its deletion, stays.
    pub fn answered(&self, kind: Kind, meta: &ObjectMeta, view: Option<View>) {
        let child = ChildMeta::of(meta);
        self.write(|held| {
            if !held.is_outdated(kind, &Key::of(meta), &child) {
                held.child(kind, meta, child, view);
            }
        });
    }

    /// A child is gone; `last` is what was seen of it last, if that is known. Returns the service that lost it.
    pub fn child_gone(&self, kind: Kind, place: &Key, last: Option<&ChildMeta>) -> Vec<Key> {
        self.write(|held| held.child_gone(kind, place, last))
    }

    /// A pod was seen. Returns the services for which anything changed: a pod whose label was edited leaves one for another.
    pub fn pod(&self, pod: &Pod) -> Vec<Key> {
        let place = Key::of(&pod.metadata);
        let labels = pod.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(INSTANCE_LABEL)).cloned();
        let facts = views::pod(pod);
        self.write(|held| {
            let moved = held
                .pods
                .get(&place)
                .is_some_and(|before| Some(before) != service.as_ref());
            let mut changed = if moved { held.pod_gone(&place) } else { Vec::new() };
            let Some(name) = service else { return changed };
            let service = Key::new(&place.namespace, &name);
            held.pods.insert(place.clone(), name);
            let known = held.services.entry(service.clone()).or_default();
            if known.pods.get(&place.name) != Some(&facts) {
                known.pods.insert(place.name, facts);
                changed.push(service);
            }
            changed
        })
    }

    /// A pod is gone.
    pub fn pod_gone(&self, place: &Key) -> Vec<Key> {
        self.write(|held| held.pod_gone(place))
    }

    /// After a watch began anew: children of that kind, in that namespace or in all, that it did not show are gone.
    pub fn keep_children(&self, kind: Kind, namespace: Option<&str>, shown: &HashSet<Key>) -> Vec<Key> {
        self.write(|held| {
            let services = held.services.iter().filter(|(service, _)| within(service, namespace));
            let places = services.flat_map(|(service, known)| {
                let children = known.children.iter().filter(|(of, _)| *of == kind);
                children.map(|(_, child)| Key::new(&service.namespace, &*child.name))
            });
            let gone: Vec<Key> = places.filter(|place| !shown.contains(place)).collect();
            gone.iter()
                .flat_map(|place| held.child_gone(kind, place, None))
                .collect()
        })
    }

    /// The same for pods.
    pub fn keep_pods(&self, namespace: Option<&str>, shown: &HashSet<Key>) -> Vec<Key> {
        self.write(|held| {
            let gone: Vec<Key> = held
                .pods
                .keys()
                .filter(|place| within(place, namespace) && !shown.contains(place))
                .cloned()
                .collect();
            gone.iter().flat_map(|place| held.pod_gone(place)).collect()
        })
    }

    fn write<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    fn child(&mut self, kind: Kind, meta: &ObjectMeta, child: ChildMeta, view: Option<View>) -> Vec<Key> {
        let (place, owner) = (Key::of(meta), owner(meta));
        let before = self.owner_of(kind, &place);
        let mut changed = Vec::new();
        if before != owner
            && let Some(before) = before
        {
            changed.extend(self.remove_child(kind, &place, &before));
        }
        let Some(owner) = owner else {
            if !changed.is_empty() {
                self.deletions.note(kind, place, child.uid, child.version);
            }
            return changed;
        };
        let service = Key::new(&place.namespace, &owner);
        if !tells(&place.name, &owner) {
            self.strays.insert((kind, place), owner);
        }
        let known = self.services.entry(service.clone()).or_default();
        if known.take_child(kind, child, view) {
            changed.push(service);
        }
        changed
    }

    fn child_gone(&mut self, kind: Kind, place: &Key, last: Option<&ChildMeta>) -> Vec<Key> {
        // Also of one that is not held: the answer that shows it may be still to come.
        if let Some(last) = last {
            let (uid, version) = (last.uid.clone(), last.version.clone());
            self.deletions.note(kind, place.clone(), uid, version);
        }
        let Some((owner, child)) = self.held(kind, place) else {
            return Vec::new();
        };
        let uid = child.uid.clone();
        match last {
            // The end of an object that was replaced meanwhile says nothing of the new one.
            Some(last) if last.uid != uid => return Vec::new(),
            Some(_) => {}
            // A list shows only that it is gone, not since which version.
            None => self.deletions.note(kind, place.clone(), uid, Id::default()),
        }
        self.remove_child(kind, place, &owner).into_iter().collect()
    }

    /// The child of that kind and name, and whose it is held as.
    fn held(&self, kind: Kind, place: &Key) -> Option<(String, &ChildMeta)> {
        let owner = self.owner_of(kind, place)?;
        let known = self.services.get(&Key::new(&place.namespace, &owner))?;
        Some((owner, known.children.get(kind, &place.name)?))
    }

    /// Whether an answer shows a child as it was before what a watch has shown since.
    fn is_outdated(&self, kind: Kind, place: &Key, child: &ChildMeta) -> bool {
        match self.held(kind, place) {
            Some((_, held)) if held.uid == child.uid => older(&child.version, &held.version),
            _ => self.deletions.follow(kind, place, child),
        }
    }

    /// Whose child it is held as, to find it again when its owner was edited away or it is deleted. Children are named
    /// after their service, so that this need not be noted for each.
    fn owner_of(&self, kind: Kind, place: &Key) -> Option<String> {
        if let Some(owner) = self.strays.get(&(kind, place.clone())) {
            return Some(owner.clone());
        }
        let mut service = place.clone();
        loop {
            let known = self.services.get(&service);
            if known.is_some_and(|known| known.children.get(kind, &place.name).is_some()) {
                return Some(service.name);
            }
            let shorter = service.name.rfind('-')?;
            service.name.truncate(shorter);
        }
    }

    fn remove_child(&mut self, kind: Kind, place: &Key, owner: &str) -> Option<Key> {
        self.strays.remove(&(kind, place.clone()));
        let service = Key::new(&place.namespace, owner);
        let known = self.services.get_mut(&service)?;
        known.children.remove(kind, &place.name)?;
        match kind {
            Kind::Deployment => known.deployment = None,
            Kind::HorizontalPodAutoscaler => known.autoscaler = None,
            _ => {}
        }
        self.drop_if_empty(&service);
        Some(service)
    }

    fn pod_gone(&mut self, place: &Key) -> Vec<Key> {
        let Some(name) = self.pods.remove(place) else {
            return Vec::new();
        };
        let service = Key::new(&place.namespace, name);
        if let Some(known) = self.services.get_mut(&service) {
            known.pods.remove(&place.name);
        }
        self.drop_if_empty(&service);
        vec![service]
    }

    fn drop_if_empty(&mut self, service: &Key) {
        let empty = |known: &Known| known.children.is_empty() && known.pods.is_empty();
        if self.services.get(service).is_some_and(empty) {
            self.services.remove(service);
        }
    }
}

impl Known {
    /// Whether it changed anything. What is older than what we know, such as the echo of a write that was followed by
    /// another one, is passed over.
    fn take_child(&mut self, kind: Kind, child: ChildMeta, view: Option<View>) -> bool {
        let before = self.children.get(kind, &child.name);
        if before.is_some_and(|before| before.uid == child.uid && older(&child.version, &before.version)) {
            return false;
        }
        let moved = before.is_none_or(|before| !before.same(&child));
        self.children.insert(kind, child);
        let viewed = view.is_some_and(|view| self.take_view(view));
        moved || viewed
    }

    fn take_view(&mut self, view: View) -> bool {
        match view {
            View::Deployment(view) => self.deployment.replace(view) != self.deployment,
            View::Autoscaler(view) => self.autoscaler.replace(view) != self.autoscaler,
        }
    }
}

/// resourceVersions count upwards. What is not a number compares as not older.
fn older(a: &Id, b: &Id) -> bool {
    matches!((a.number(), b.number()), (Some(a), Some(b)) if a < b)
}

/// Whether a child's name tells whose it is: the service's own, or that with a dash and more.
fn tells(child: &str, service: &str) -> bool {
    child
        .strip_prefix(service)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn within(place: &Key, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| place.namespace == namespace)
}

/// The name of the `ScreenshotService` that controls it.
fn owner(meta: &ObjectMeta) -> Option<String> {
    let mut owners = meta.owner_references.iter().flatten();
    let owner = owners.find(|o| o.controller == Some(true) && o.kind == "ScreenshotService");
    owner.map(|owner| owner.name.clone())
}

#[cfg(test)]
mod tests;
