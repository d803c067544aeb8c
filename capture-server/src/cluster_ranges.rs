//! The cluster's own public ranges: looked at once a second, put into the proxy's policy whole.
//!
//! In: the file beside the policy. Out: the policy that the proxy decides by, and what is attested. No file means that
//! nothing of the cluster is public. A bad new file keeps the last good ranges and says so; a bad first one keeps the
//! server from starting its service. Must not: change anything of the policy but these ranges.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use screenshot_policy::cluster::{ClusterRanges, MAX_DOCUMENT};
use screenshot_policy::policy::EffectivePolicy;
use tokio::sync::watch;

use crate::file::{self, Followed, POLL, Unread};

/// Reads the file; the error is a bounded word.
///
/// # Errors
/// It is there and cannot be read, or breaks a rule.
pub fn read(path: &Path) -> Result<ClusterRanges, &'static str> {
    judge(file::borrowed(&file::read(path, MAX_DOCUMENT)))
}

fn judge(content: Result<&[u8], Unread>) -> Result<ClusterRanges, &'static str> {
    match content {
        Ok(bytes) => ClusterRanges::load(bytes).map_err(|error| error.reason()),
        Err(Unread::Missing) => Ok(ClusterRanges::default()),
        Err(Unread::TooLong | Unread::Unreadable) => Err("cluster_ranges_unreadable"),
    }
}

/// What the proxy decides by, and why a newer file is refused.
#[derive(Debug)]
pub struct InForce {
    policy: watch::Sender<Arc<EffectivePolicy>>,
    refused: Mutex<Option<&'static str>>,
}

impl InForce {
    /// Begins with this policy.
    pub fn new(policy: Arc<EffectivePolicy>) -> Self {
        Self {
            policy: watch::channel(policy).0,
            refused: Mutex::default(),
        }
    }

    /// The policy, now and later.
    pub fn watch(&self) -> watch::Receiver<Arc<EffectivePolicy>> {
        self.policy.subscribe()
    }

    /// Digest of the ranges that are closed; none while there are none.
    pub fn digest(&self) -> Option<String> {
        self.policy.borrow().cluster_ranges().digest()
    }

    /// Why the file that is there now is refused, if it is.
    pub fn refused(&self) -> Option<&'static str> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what reading the file gave.
    pub fn take(&self, read: Result<ClusterRanges, &'static str>) {
        let refused = read.as_ref().err().copied();
        let before = std::mem::replace(
            &mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner),
            refused,
        );
        if let Some(reason) = refused.filter(|_| refused != before) {
            tracing::warn!(reason, "newer ranges of the cluster are refused; the old ones stay");
        }
        let Ok(ranges) = read else { return };
        let changed = self.policy.send_if_modified(|policy| {
            let news = *policy.cluster_ranges() != ranges;
            if news {
                *policy = Arc::new(EffectivePolicy::clone(policy).in_cluster(ranges.clone()));
            }
            news
        });
        if changed {
            tracing::info!(ranges = ranges.cidrs().len(), "the cluster's own public ranges changed");
        }
    }

    /// Follows the file until it is dropped.
    pub async fn follow(&self, path: &Path) {
        let mut followed = Followed::new([(path.to_owned(), MAX_DOCUMENT)]);
        loop {
            tokio::time::sleep(POLL).await;
            if let Some([content]) = followed.look().await {
                self.take(judge(file::borrowed(content)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use screenshot_policy::policy::{Ceiling, PolicyDocument};

    fn policy() -> Arc<EffectivePolicy> {
        let document = PolicyDocument::secure_default("a", "b").unwrap();
        Arc::new(EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap())
    }

    fn ranges(text: &str) -> ClusterRanges {
        ClusterRanges::closing([text.parse().unwrap()])
    }

    #[test]
    fn a_file_that_is_not_there_closes_nothing_and_one_that_is_wrong_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster-ranges.json");
        assert_eq!(read(&path), Ok(ClusterRanges::default()));
        std::fs::write(&path, ranges("20.1.2.0/24").canonical_json()).unwrap();
        assert_eq!(read(&path), Ok(ranges("20.1.2.0/24")));
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path), Err("cluster_ranges_syntax"));
        std::fs::write(&path, " ".repeat(MAX_DOCUMENT + 1)).unwrap();
        assert_eq!(read(&path), Err("cluster_ranges_unreadable"));
    }

    #[test]
    fn a_bad_new_file_keeps_the_ranges_and_the_policys_digest_never_changes() {
        let (first, later) = (ranges("20.1.2.0/24"), ranges("20.9.0.0/16"));
        let in_force = InForce::new(policy());
        assert_eq!((in_force.digest(), in_force.refused()), (None, None));
        let watched = in_force.watch();
        in_force.take(Ok(first.clone()));
        in_force.take(Err("cluster_ranges_syntax"));
        assert_eq!(
            (in_force.digest(), in_force.refused()),
            (first.digest(), Some("cluster_ranges_syntax"))
        );
        in_force.take(Ok(later.clone()));
        assert_eq!((in_force.digest(), in_force.refused()), (later.digest(), None));
        assert_eq!(watched.borrow().digest(), policy().digest());
        in_force.take(Ok(ClusterRanges::default()));
        assert_eq!(in_force.digest(), None);
    }
}
