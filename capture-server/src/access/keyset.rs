//! The keyset in force: loaded at the start, looked at once a second, swapped whole.
//!
//! In: the file's bytes; a keyset that the operator brought. Out: the last good keyset and why a newer file was refused.
//! A bad new file keeps the old keyset (clients stay served) and says so; a bad first one leaves none, so that nobody is
//! let in. The file is the truth. What the operator brought is the same keyset earlier, as the kubelet takes up to two
//! minutes to bring a changed Secret into a running pod: it must be newer, and is in force until the file has caught up.
//! Must not: log a byte of the file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use screenshot_policy::keyset::Keyset;
use tokio::sync::watch;

use crate::file::{self, Followed, POLL, Unread};

/// A keyset file longer than this, in bytes, is refused unread.
const MAX_BYTES: usize = 1024 * 1024;

/// A file that changed, and is still older than what the operator brought, is taken for the truth after so long: then it
/// was put back on purpose. A kubelet that is late has brought the next one by then.
const LAG: Duration = Duration::from_secs(300);

/// What is known of the keyset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The last good one.
    pub current: Option<Arc<Keyset>>,
    /// Bounded word: why the file that is there now was refused.
    pub refused: Option<&'static str>,
    /// While `current` is ahead of the file.
    ahead: Option<Ahead>,
}

/// The operator brought what the file does not hold yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ahead {
    /// The last good keyset of the file.
    file: Arc<Keyset>,
    /// When the file counts again although it is older.
    lapses: Option<Instant>,
}

impl State {
    /// Takes in what reading the file gave. Returns whether anything changed.
    pub fn take(&mut self, read: Result<&[u8], &'static str>, now: Instant) -> bool {
        let mut next = self.clone();
        match read.and_then(|bytes| Keyset::parse(bytes).map_err(|error| error.reason())) {
            Ok(keyset) => {
                next.refused = None;
                next.file_is(Arc::new(keyset), now);
            }
            Err(reason) => next.refused = Some(reason),
        }
        let changed = next != *self;
        *self = next;
        changed
    }

    fn file_is(&mut self, file: Arc<Keyset>, now: Instant) {
        let newer = |current: &Arc<Keyset>| current.revision > file.revision;
        if self.ahead.is_some() && self.current.as_ref().is_some_and(newer) {
            let lapses = Some(now + LAG);
            self.ahead = Some(Ahead { file, lapses });
            return;
        }
        self.ahead = None;
        if self.current.as_ref() != Some(&file) {
            self.current = Some(file);
        }
    }

    /// Takes in what the operator brought, if it is newer than what is in force. Without a keyset in force there is none
    /// to be ahead of: the file comes first. Returns whether anything changed.
    pub fn brought(&mut self, bytes: &[u8]) -> bool {
        let Some(current) = &self.current else { return false };
        match Keyset::parse(bytes) {
            Ok(keyset) if keyset.revision > current.revision => {
                let file = self.ahead.as_ref().map_or(current, |ahead| &ahead.file);
                self.ahead = Some(Ahead {
                    file: Arc::clone(file),
                    lapses: None,
                });
                self.current = Some(Arc::new(keyset));
                true
            }
            _ => false,
        }
    }

    /// Goes back to the file when it stayed another one for too long. Returns whether anything changed.
    pub fn lapse(&mut self, now: Instant) -> bool {
        let over = |ahead: &mut Ahead| ahead.lapses.is_some_and(|at| at <= now);
        let Some(ahead) = self.ahead.take_if(over) else {
            return false;
        };
        self.current = Some(ahead.file);
        true
    }
}

/// Watches the file until the last receiver is gone.
pub async fn follow(path: &Path, state: &watch::Sender<State>) {
    let mut followed = Followed::new([(path.to_owned(), MAX_BYTES)]);
    while !state.is_closed() {
        if let Some([content]) = followed.look().await {
            let read = file::borrowed(content).map_err(|unread| match unread {
                Unread::TooLong => "keyset_too_long",
                Unread::Missing | Unread::Unreadable => "keyset_missing",
            });
            state.send_if_modified(|state| state.take(read, Instant::now()));
        }
        state.send_if_modified(|state| state.lapse(Instant::now()));
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests;
