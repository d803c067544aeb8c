//! Services that exceptions name, each watched by its name for as long as some `ScreenshotService` needs it.
//!
//! In: which service needs which targets. Out: what they look like; a change asks for a pass of those that need it.
//! Must not: watch Services that nobody named.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_service};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::listening::Bounds;
use super::{Key, health, listening};
use crate::backoff;
use crate::error::Error;
use crate::observe;
use crate::plan::ServiceTarget;
use crate::trigger::queue::Queue;

/// How long a pass waits for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

type Answer = Option<Result<Option<ServiceTarget>, &'static str>>;

struct Entry {
    answer: watch::Receiver<Answer>,
    needed_by: BTreeSet<Key>,
    task: AbortHandle,
}

/// The watched Services.
#[derive(Default)]
pub struct TargetWatches(Arc<Mutex<HashMap<Key, Entry>>>);

impl TargetWatches {
    /// Says which targets a service needs from now on; those that nobody needs any more are watched no longer.
    pub fn need(&self, client: &Client, queue: &Arc<Queue>, service: &Key, targets: &BTreeSet<Key>) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for target in targets {
            let entry = map
                .entry(target.clone())
                .or_insert_with(|| self.follow(client.clone(), Arc::clone(queue), target.clone()));
            entry.needed_by.insert(service.clone());
        }
        map.retain(|target, entry| {
            if !targets.contains(target) {
                entry.needed_by.remove(service);
            }
            let needed = !entry.needed_by.is_empty();
            if !needed {
                entry.task.abort();
            }
            needed
        });
    }

    /// What a target looks like; `None` when there is no such Service.
    ///
    /// # Errors
    /// It cannot be watched, or there is no answer in time.
    pub async fn get(&self, target: &Key) -> Result<Option<ServiceTarget>, Error> {
        let answer = {
            let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            map.get(target).map(|entry| entry.answer.clone())
        };
        let unwatched = |reason| Error::Unwatched {
            kind: "Service",
            reason,
        };
        let mut answer = answer.ok_or_else(|| unwatched("NotSynced"))?;
        let waited = tokio::time::timeout(FIRST_ANSWER, answer.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(answer)) => match answer.as_ref() {
                Some(Ok(target)) => Ok(target.clone()),
                Some(Err(reason)) => Err(unwatched(reason)),
                None => Err(unwatched("NotSynced")),
            },
            _ => Err(unwatched("NotSynced")),
        }
    }

    fn follow(&self, client: Client, queue: Arc<Queue>, target: Key) -> Entry {
        let (sender, answer) = watch::channel(None);
        let entries = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let client = listening::client(client, Bounds::default().answer, || {});
            let api: Api<Service> = Api::namespaced(client, &target.namespace);
            let config = watcher::Config::default().fields(&format!("metadata.name={}", target.name));
            let mut events = pin!(watch_service(api, config).backoff(backoff::watch()));
            let mut shown = None;
            while let Some(event) = events.next().await {
                let answer = match event {
                    Ok(Event::Init) => {
                        shown = None;
                        continue;
                    }
                    Ok(Event::InitApply(service)) => {
                        shown = Some(observe::target(&service));
                        continue;
                    }
                    Ok(Event::InitDone) => Ok(shown.take()),
                    Ok(Event::Apply(service)) => Ok(Some(observe::target(&service))),
                    Ok(Event::Delete(_)) => Ok(None),
                    // A hiccup does not make a known answer wrong.
                    Err(_) if matches!(*sender.borrow(), Some(Ok(_))) => continue,
                    Err(error) => Err(health::reason(&error)),
                };
                let answer = Some(answer);
                if sender.send_if_modified(|held| {
                    let news = *held != answer;
                    *held = answer;
                    news
                }) {
                    let map = entries.lock().unwrap_or_else(PoisonError::into_inner);
                    let needed_by = map.get(&target).map(|entry| entry.needed_by.clone());
                    drop(map);
                    needed_by.into_iter().flatten().for_each(|service| queue.push(service));
                }
            }
        });
        Entry {
            answer,
            needed_by: BTreeSet::new(),
            task: task.abort_handle(),
        }
    }
}
