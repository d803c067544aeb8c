//! What the operator remembers of a service between passes. All of it can be lost: it only saves calls.
//!
//! In and out: the ledger of what was sent, the Secrets as last read, what pods attested. Forgotten with the service.
//! Contents of Secrets are overwritten when dropped and have no `Debug`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use screenshot_policy::attest::AttestReport;

use crate::attest::Unattested;
use crate::cache::Key;
use crate::credentials::Stored;
use crate::plan::Kind;
use crate::views::PodState;

/// What was sent last for a child, and what the child then looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Digest of what was sent.
    pub digest: [u8; 32],
    /// The child's mark after it.
    pub mark: String,
    /// The child's uid: it is ours even if its labels and owner were edited away.
    pub uid: String,
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
    /// By kind and name.
    pub sent: HashMap<(Kind, String), Sent>,
    /// By name, as last read or written.
    pub secrets: HashMap<String, Arc<Stored>>,
    /// By the pod's uid.
    pub proofs: HashMap<String, Proof>,
    /// Passes in a row that waited for pods to attest.
    pub waited: u32,
}

impl Memory {
    /// A Secret was read or written.
    pub fn read_secret(&mut self, stored: Arc<Stored>) {
        self.secrets.insert(stored.meta().name.clone(), stored);
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

    /// Forgets a service.
    pub fn forget(&self, service: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }
}
