//! The keyset in force: loaded at the start, looked at once a second, swapped whole.
//!
//! In: the file's bytes. Out: the last good keyset and why a newer file was refused. A bad new file keeps the old
//! keyset (clients stay served) and says so; a bad first one leaves none, so that nobody is let in.
//! Must not: log a byte of the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use screenshot_policy::keyset::Keyset;
use tokio::sync::watch;

/// How often the file is looked at.
pub const POLL: Duration = Duration::from_secs(1);
/// A keyset file longer than this, in bytes, is refused unread.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is known of the keyset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The last good one.
    pub current: Option<Arc<Keyset>>,
    /// Bounded word: why the file that is there now was refused.
    pub refused: Option<&'static str>,
}

impl State {
    /// Takes in what reading the file gave. Returns whether anything changed.
    pub fn take(&mut self, read: Result<&[u8], &'static str>) -> bool {
        let next = match read.and_then(|bytes| Keyset::parse(bytes).map_err(|error| error.reason())) {
            Ok(keyset) => {
                let same = self.current.as_deref() == Some(&keyset);
                let current = if same {
                    self.current.clone()
                } else {
                    Some(Arc::new(keyset))
                };
                Self { current, refused: None }
            }
            Err(reason) => Self {
                current: self.current.clone(),
                refused: Some(reason),
            },
        };
        let changed = next != *self;
        *self = next;
        changed
    }
}

/// Reads the file, bounded.
pub async fn read(path: &Path) -> Result<Vec<u8>, &'static str> {
    let meta = tokio::fs::metadata(path).await.map_err(|_| "keyset_missing")?;
    if meta.len() > MAX_BYTES {
        return Err("keyset_too_long");
    }
    tokio::fs::read(path).await.map_err(|_| "keyset_missing")
}

/// Watches the file until the last receiver is gone. Contents are compared, not dates: a Secret's volume swaps
/// symbolic links.
pub async fn follow(path: &Path, state: &watch::Sender<State>) {
    let mut last = None;
    while !state.is_closed() {
        let content = read(path).await;
        if last.as_ref() != Some(&content) {
            state.send_if_modified(|state| state.take(content.as_deref().map_err(|reason| *reason)));
            last = Some(content);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::key;
    use super::*;
    use screenshot_policy::keyset::VERSION;

    fn text(revision: u64) -> Vec<u8> {
        let keyset = Keyset {
            version: VERSION,
            revision,
            keys: vec![key(1, None).1],
        };
        keyset.canonical_json().into_bytes()
    }

    #[test]
    fn a_bad_new_file_keeps_the_old_keyset_and_is_named() {
        let mut state = State::default();
        assert!(state.take(Ok(&text(1))));
        assert!(state.take(Ok(b"{")));
        assert_eq!(state.current.as_ref().unwrap().revision, 1);
        assert_eq!(state.refused, Some("keyset_syntax"));
        assert!(state.take(Ok(&text(2))));
        assert_eq!((state.current.as_ref().unwrap().revision, state.refused), (2, None));
        assert!(!state.take(Ok(&text(2))));
    }

    #[test]
    fn a_bad_first_file_leaves_no_keyset() {
        let mut state = State::default();
        assert!(state.take(Err("keyset_missing")));
        assert_eq!(
            state,
            State {
                current: None,
                refused: Some("keyset_missing")
            }
        );
    }
}
