//! The resources themselves, as the watches show them.
//!
//! In: events. Out: a store that passes are made from, and which events ask for a pass: a new generation, a deletion, a
//! status that is not the one we wrote. Kept small: without managedFields and kubectl's copy of the manifest.
//! A resource that cannot be read is kept as such, so that it does not stop the watch of the others.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::Event;
use kube::{Resource as _, ResourceExt as _};
use screenshot_api::ScreenshotService;

use super::{Key, older};
use crate::compact::Id;

/// A resource, or what could be read of it.
pub type Guarded = DeserializeGuard<ScreenshotService>;

const KUBECTL_COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All resources in scope.
pub struct Services {
    store: Store<Guarded>,
    writer: Mutex<kube::runtime::reflector::store::Writer<Guarded>>,
}

/// What an event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing that a pass would see.
    None,
    /// Something that was seen already, such as the echo of a write that was followed by another one.
    Old,
    /// A pass is due.
    Changed,
    /// It is another object than before: nothing remembered of its name holds.
    Replaced,
}

impl Default for Services {
    fn default() -> Self {
        let (store, mut writer) = store();
        // Events come from one watch per namespace and are taken one by one. Whether all are filled is for
        // `health` to say; the store itself is ready at once, or no pass would ever begin.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        Self {
            store,
            writer: Mutex::new(writer),
        }
    }
}

impl Services {
    /// To look things up.
    pub fn store(&self) -> Store<Guarded> {
        self.store.clone()
    }

    /// One resource, if it is there and can be read.
    pub fn readable(&self, key: &Key) -> Option<ScreenshotService> {
        self.store
            .get(&reference(key))
            .and_then(|guarded| guarded.0.clone().ok())
    }

    /// A resource was seen, by a watch or in the answer to our own write.
    pub fn apply(&self, mut service: Guarded) -> News {
        prune(match &mut service.0 {
            Ok(service) => &mut service.metadata,
            Err(invalid) => &mut invalid.metadata,
        });
        let before = self.store.get(&ObjectRef::from_obj(&service));
        let news = before.map_or(News::Changed, |before| news(&before, &service));
        if news == News::Old {
            return news;
        }
        self.feed(&Event::Apply(service));
        news
    }

    /// A resource is gone.
    pub fn delete(&self, service: Guarded) {
        self.feed(&Event::Delete(service));
    }

    /// After a watch began anew: removes and returns what it did not show.
    pub fn keep(&self, namespace: Option<&str>, shown: &HashSet<Key>) -> Vec<Key> {
        let mut gone = Vec::new();
        for service in self.store.state() {
            let key = key(&service);
            if namespace.is_none_or(|namespace| namespace == key.namespace) && !shown.contains(&key) {
                self.feed(&Event::Delete(Guarded::clone(&service)));
                gone.push(key);
            }
        }
        gone
    }

    fn feed(&self, event: &Event<Guarded>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.apply_watcher_event(event);
    }
}

/// Namespace and name of a resource.
pub fn key(service: &Guarded) -> Key {
    Key::new(service.namespace().unwrap_or_default(), service.name_any())
}

/// How the store finds it.
pub fn reference(key: &Key) -> ObjectRef<Guarded> {
    ObjectRef::new(&key.name).within(&key.namespace)
}

fn prune(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(KUBECTL_COPY);
    }
}

fn news(before: &Guarded, after: &Guarded) -> News {
    if before.uid() != after.uid() {
        return News::Replaced;
    }
    let (old, new) = (before.meta(), after.meta());
    if let (Some(old), Some(new)) = (&old.resource_version, &new.resource_version)
        && older(&Id::from(new.as_str()), &Id::from(old.as_str()))
    {
        return News::Old;
    }
    let same = old.generation == new.generation
        && old.deletion_timestamp == new.deletion_timestamp
        && before.0.is_ok() == after.0.is_ok()
        && status(before) == status(after);
    if same { News::None } else { News::Changed }
}

fn status(service: &Guarded) -> Option<&screenshot_api::ScreenshotServiceStatus> {
    service.0.as_ref().ok().and_then(|service| service.status.as_ref())
}
