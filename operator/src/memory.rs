//! What the operator remembers of a service between passes. All of it can be lost: it only saves calls.
//!
//! In and out: the ledger of what was sent, the Secrets as last read, what pods attested. Forgotten with the service.
//! Contents of Secrets are overwritten when dropped and have no `Debug`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use screenshot_policy::attest::AttestReport;

use crate::apply::PutBack;
use crate::attest::Unattested;
use crate::cache::Key;
use crate::compact::Id;
use crate::credentials::Stored;
use crate::plan::Kind;
use crate::views::PodState;

/// What was sent last for a child, and what the child then looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Digest of what was sent.
    pub digest: [u8; 32],
    /// The child's mark after it.
    pub mark: Id,
    /// The child's uid: it is ours even if its labels and owner were edited away.
    pub uid: Id,
}

/// What was sent last for each child of a service. In order, by kind and name.
#[derive(Debug, Default)]
pub struct Ledger(Vec<(Kind, Box<str>, Sent)>);

impl Ledger {
    /// What was sent for a child.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Sent> {
        let place = self.place(kind, name).ok()?;
        self.0.get(place).map(|(_, _, sent)| sent)
    }

    /// Something was sent for a child.
    pub fn note(&mut self, kind: Kind, name: &str, sent: Sent) {
        match self.place(kind, name) {
            Ok(place) => {
                if let Some(held) = self.0.get_mut(place) {
                    held.2 = sent;
                }
            }
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (kind, name.into(), sent));
            }
        }
    }

    /// Where it is, or where it would be.
    fn place(&self, kind: Kind, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(of, held, _)| (*of, &**held).cmp(&(kind, name)))
    }
}

/// What a pod attested, and when it was asked.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What the pod looked like: once anything happened to it, its answer counts no more.
    pub pod: PodState,
    /// When it was asked.
    pub at: Instant,
    /// Its answer.
    pub answer: Result<AttestReport, Unattested>,
    /// Whether it let the operator in on its API port, where no rule does.
    pub let_in: bool,
}

/// The memory of one service.
#[derive(Default)]
pub struct Memory {
    /// What was sent.
    pub sent: Ledger,
    /// As last read or written, each name once.
    secrets: Vec<Arc<Stored>>,
    /// Secrets whose edited content was put back, and of which nobody was told yet.
    pub put_back: Vec<PutBack>,
    /// Steps of the rotation that were carried out, and of which nobody was told yet.
    pub steps: Vec<&'static str>,
    /// By the pod's uid.
    pub proofs: HashMap<String, Proof>,
    /// Passes in a row that waited for pods to attest.
    pub waited: u32,
    /// Since when every pass has failed with what passes by itself.
    pub failing: Option<Timestamp>,
}

impl Memory {
    /// A step of the rotation was carried out. It is told once, however often it was until then.
    pub fn took(&mut self, step: &'static str) {
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }

    /// A Secret as last read or written.
    pub fn secret(&self, name: &str) -> Option<&Arc<Stored>> {
        self.secrets.iter().find(|stored| *stored.meta().name == *name)
    }

    /// A Secret was read or written.
    pub fn read_secret(&mut self, stored: Arc<Stored>) {
        self.forget_secret(&stored.meta().name);
        self.secrets.reserve_exact(1);
        self.secrets.push(stored);
    }

    /// A Secret is not there.
    pub fn forget_secret(&mut self, name: &str) {
        self.secrets.retain(|stored| *stored.meta().name != *name);
    }
}

/// The memory of all services.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<Key, Memory>>);

impl Memories {
    /// Looks into or changes the memory of a service. For short and synchronous work.
    pub fn with<T>(&self, service: &Key, act: impl FnOnce(&mut Memory) -> T) -> T {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(map.entry(service.clone()).or_default())
    }

    /// Whether anything is remembered of a service.
    pub fn remembers(&self, service: &Key) -> bool {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.contains_key(service)
    }

    /// Forgets a service.
    pub fn forget(&self, service: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    fn sent(digest: u8) -> Sent {
        Sent {
            digest: [digest; 32],
            mark: Id::from("1"),
            uid: Id::from("u"),
        }
    }

    #[test]
    fn what_was_sent_last_is_remembered_for_each_kind_and_name() {
        let mut ledger = Ledger::default();
        for (n, (kind, name)) in [
            (Kind::Service, "b"),
            (Kind::Service, "a"),
            (Kind::ConfigMap, "b"),
            (Kind::Service, "b"),
        ]
        .into_iter()
        .enumerate()
        {
            ledger.note(kind, name, sent(u8::try_from(n).unwrap()));
        }
        assert_eq!(ledger.get(Kind::Service, "b"), Some(&sent(3)));
        assert_eq!(ledger.get(Kind::Service, "a"), Some(&sent(1)));
        assert_eq!(ledger.get(Kind::ConfigMap, "b"), Some(&sent(2)));
        assert_eq!(ledger.get(Kind::ConfigMap, "a"), None);
    }

    #[test]
    fn a_secret_is_remembered_as_last_read_until_it_is_gone() {
        let secret = |name: &str, version: &str| -> Arc<Stored> {
            let secret = json!({"metadata": {"name": name, "resourceVersion": version}});
            Arc::new(Stored::of(&serde_json::from_value::<Secret>(secret).unwrap()))
        };
        let mut memory = Memory::default();
        for (name, version) in [("a", "1"), ("b", "1"), ("a", "2")] {
            memory.read_secret(secret(name, version));
        }
        let version = |memory: &Memory, name: &str| memory.secret(name).map(|stored| stored.meta().version.clone());
        assert_eq!(version(&memory, "a"), Some(Id::from("2")));
        assert_eq!(version(&memory, "b"), Some(Id::from("1")));
        memory.forget_secret("a");
        assert_eq!(version(&memory, "a"), None);
        assert_eq!(version(&memory, "b"), Some(Id::from("1")));
    }
}
