//! The resources themselves, as the watches show them.
//!
//! In: events, and answers to our own writes. Out: a store that passes are made from, and what asks for a pass: a new
//! generation, a deletion, a status that is not the one we wrote. Kept small: without managedFields and kubectl's copy
//! of the manifest.
//! A resource that cannot be read is kept as such, so that it does not stop the watch of the others.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
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
    writer: Mutex<Writer<Guarded>>,
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

    /// Uid of a resource, if it is there.
    pub fn uid(&self, key: &Key) -> Option<String> {
        self.store.get(&reference(key)).and_then(|guarded| guarded.uid())
    }

    /// A resource was seen by a watch.
    pub fn apply(&self, mut service: Guarded) -> News {
        prune(service.meta_mut());
        let mut writer = self.writer();
        let before = self.store.get(&ObjectRef::from_obj(&service));
        let news = before.map_or(News::Changed, |before| news(&before, &service));
        if news != News::Old {
            writer.apply_watcher_event(&Event::Apply(service));
        }
        news
    }

    /// A resource was seen in the answer to our own write, which brings nothing back that is gone or was replaced.
    /// Returns whether it shows an edit or a deletion that no watch showed yet: the event that comes later is old.
    pub fn answered(&self, service: ScreenshotService) -> bool {
        let mut service = DeserializeGuard(Ok(service));
        prune(service.meta_mut());
        let mut writer = self.writer();
        let Some(before) = self.store.get(&ObjectRef::from_obj(&service)) else {
            return false;
        };
        if matches!(news(&before, &service), News::Old | News::Replaced) {
            return false;
        }
        let unseen = moved(before.meta(), service.meta());
        writer.apply_watcher_event(&Event::Apply(service));
        unseen
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
        self.writer().apply_watcher_event(event);
    }

    /// Whoever holds it alone changes the store.
    fn writer(&self) -> MutexGuard<'_, Writer<Guarded>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
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
    let same = !moved(old, new) && before.0.is_ok() == after.0.is_ok() && status(before) == status(after);
    if same { News::None } else { News::Changed }
}

/// Whether the spec was edited or the deletion was asked for.
fn moved(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.generation != new.generation || old.deletion_timestamp != new.deletion_timestamp
}

fn status(service: &Guarded) -> Option<&screenshot_api::ScreenshotServiceStatus> {
    service.0.as_ref().ok().and_then(|service| service.status.as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Of version 10 and generation 1 where nothing else is said.
    fn service(patch: &Value) -> ScreenshotService {
        let mut meta = json!({
            "name": "shots", "namespace": "web", "uid": "u1", "resourceVersion": "10", "generation": 1,
        });
        meta.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService", "metadata": meta, "spec": {},
        }))
        .unwrap()
    }

    fn seen(patch: &Value) -> Guarded {
        DeserializeGuard(Ok(service(patch)))
    }

    /// Uid and generation of what is held.
    fn held(services: &Services) -> Option<(String, Option<i64>)> {
        let meta = services.readable(&Key::new("web", "shots"))?.metadata;
        Some((meta.uid?, meta.generation))
    }

    #[test]
    fn an_edit_or_a_deletion_that_an_answer_shows_first_is_news_once() {
        let services = Services::default();
        services.apply(seen(&json!({})));
        assert!(!services.answered(service(&json!({"resourceVersion": "11"}))));
        let edited = json!({"resourceVersion": "13", "generation": 2});
        assert!(services.answered(service(&edited)));
        assert_eq!(held(&services), Some(("u1".to_owned(), Some(2))));
        // What the watch shows later of it is no news any more.
        let edit = json!({"resourceVersion": "12", "generation": 2});
        assert_eq!(services.apply(seen(&edit)), News::Old);
        assert_eq!(services.apply(seen(&edited)), News::None);

        let next = json!({"resourceVersion": "14", "generation": 3});
        assert_eq!(services.apply(seen(&next)), News::Changed);
        assert!(!services.answered(service(&json!({"resourceVersion": "15", "generation": 3}))));

        let leaving = |version: &str| {
            let at = "2026-01-01T00:00:00Z";
            service(&json!({"resourceVersion": version, "generation": 3, "deletionTimestamp": at}))
        };
        assert!(services.answered(leaving("16")));
        assert!(!services.answered(leaving("17")));
    }

    #[test]
    fn an_answer_brings_nothing_back_that_is_gone_was_replaced_or_is_newer() {
        let services = Services::default();
        let key = Key::new("web", "shots");
        let late = || service(&json!({"resourceVersion": "11", "generation": 2}));
        assert!(!services.answered(late()));
        assert_eq!(held(&services), None, "never seen");
        services.apply(seen(&json!({})));
        assert_eq!(services.uid(&key).as_deref(), Some("u1"));
        services.delete(seen(&json!({})));
        assert!(!services.answered(late()));
        assert_eq!((services.uid(&key), held(&services)), (None, None), "a ghost");
        services.apply(seen(&json!({"uid": "u2", "resourceVersion": "9"})));
        assert!(!services.answered(late()));
        assert_eq!(held(&services), Some(("u2".to_owned(), Some(1))));
        services.apply(seen(&json!({"uid": "u2", "resourceVersion": "20", "generation": 5})));
        let older = json!({"uid": "u2", "resourceVersion": "19", "generation": 4});
        assert!(!services.answered(service(&older)));
        assert_eq!(held(&services), Some(("u2".to_owned(), Some(5))));
    }
}
