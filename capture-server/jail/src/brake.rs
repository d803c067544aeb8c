//! Pages that compute stand back behind their neighbours, within moments of beginning to.
//!
//! In: which jails there are. Out: priorities of pages' processes. A harmless page uses some tens of milliseconds of CPU;
//! whoever uses more gives way to those that use less, as a scheduler with feedback would have it, and so a page that
//! never ends does not hold its neighbours up. The full look of [`crate::watchdog`] is too dear to be had that often:
//! here only the children of the known zygotes are looked at, by their CPU clocks. Must not: touch the browser's own
//! processes, which all of a jail's pages share, or raise anything (that would take a privilege).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::process::{Pid, setpriority_process};

use crate::inspect;
use crate::protocol::JailId;
use crate::sys;
use crate::watchdog::Rank;

/// Room for the numbers of a zygote's children; a jail cannot have more processes.
const CHILDREN: usize = 4096;

/// CPU time between two looks that even a browser without work uses.
const AT_REST: Duration = Duration::from_micros(300);

/// The nice value of what stands back.
const BEHIND: i32 = 10;
/// How often pages are looked at that work, and where nothing does.
const BUSY: Duration = Duration::from_millis(25);
const REST: Duration = Duration::from_millis(100);

/// What is known of one jail.
#[derive(Debug)]
struct Known {
    /// Its pid 1.
    root: i32,
    /// The CPU time of its pid 1 when its pages were last looked for: a page that begins costs that one some.
    seen: Duration,
    /// Processes that start pages' processes, with the list of what they have started.
    zygotes: BTreeMap<i32, File>,
    /// Pages' processes.
    pages: BTreeMap<i32, Page>,
}

/// What is known of one page's process.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    /// Its CPU time when it was last looked at.
    seen: Duration,
    /// Where it stands.
    rank: Option<Rank>,
}

/// All jails' pages, as far as they are known.
#[derive(Debug, Default)]
pub struct Brake {
    jails: BTreeMap<JailId, Known>,
}

impl Brake {
    /// Takes in what a full look has found: the pid 1 of a jail, and who has started whom in it.
    pub fn follow(&mut self, id: JailId, root: i32, families: &BTreeMap<i32, BTreeSet<i32>>) {
        let known = self.jails.entry(id).or_insert_with(|| Known {
            root,
            seen: Duration::ZERO,
            zygotes: BTreeMap::new(),
            pages: BTreeMap::new(),
        });
        known.zygotes.retain(|pid, _| families.contains_key(pid));
        for pid in families.keys() {
            if !known.zygotes.contains_key(pid)
                && let Some(list) = inspect::children(*pid)
            {
                known.zygotes.insert(*pid, list);
            }
        }
        // Where the kernel keeps no such lists this is how pages are found at all.
        let pages: BTreeSet<i32> = families.values().flatten().copied().collect();
        known.pages.retain(|pid, _| pages.contains(pid));
        for pid in pages {
            known.pages.entry(pid).or_default();
        }
    }

    /// A jail is gone.
    pub fn forget(&mut self, id: JailId) {
        self.jails.remove(&id);
    }

    /// Looks at every page's CPU time and lets those stand back that have used much. Returns when to look again.
    pub fn look(&mut self) -> Duration {
        let mut busy = false;
        for known in self.jails.values_mut() {
            busy |= known.look();
        }
        if busy { BUSY } else { REST }
    }
}

impl Known {
    fn look(&mut self) -> bool {
        let now = sys::process_cpu(self.root).unwrap_or(self.seen);
        let mut busy = now.saturating_sub(self.seen) > AT_REST;
        if busy {
            self.seen = now;
            if !self.zygotes.is_empty() {
                self.find_pages();
            }
        }
        for (pid, page) in &mut self.pages {
            let now = sys::process_cpu(*pid).unwrap_or(page.seen);
            busy |= now.saturating_sub(page.seen) > AT_REST;
            page.seen = now;
            let due = Rank::due(now);
            if due > page.rank && inspect::is_renderer(*pid) {
                page.rank = due.map(|due| stand_back(*pid, due));
            }
        }
        busy
    }

    fn find_pages(&mut self) {
        let mut buffer = [0; CHILDREN];
        let mut pages = BTreeMap::new();
        for list in self.zygotes.values() {
            let length = list.read_at(&mut buffer, 0).unwrap_or(0);
            let text = buffer.get(..length).unwrap_or_default();
            for pid in std::str::from_utf8(text).unwrap_or_default().split_whitespace() {
                if let Ok(pid) = pid.parse() {
                    pages.insert(pid, self.pages.get(&pid).copied().unwrap_or_default());
                }
            }
        }
        self.pages = pages;
    }
}

/// Puts every thread of a process behind others; new threads inherit it. Returns how far: one with many threads, each of
/// which has a share, has to go further than its time alone would have it.
fn stand_back(pid: i32, due: Rank) -> Rank {
    let threads = inspect::threads(pid);
    let rank = due.with(threads.len());
    for thread in threads {
        // One that has ended meanwhile does not matter.
        let _ = match rank {
            Rank::Behind => setpriority_process(Pid::from_raw(thread), BEHIND).map_err(io::Error::from),
            Rank::Last => sys::schedule_idle(thread),
        };
    }
    rank
}
