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
/// How often new pages are looked for where something works, and where nothing does.
const BUSY: Duration = Duration::from_millis(50);
const REST: Duration = Duration::from_millis(100);
/// Pages that near their next bound are looked at no more often.
const NEAR: Duration = Duration::from_millis(25);
/// As many cores does a page keep busy, mostly: that tells how soon it can reach a bound.
const SPREAD: u32 = 2;

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
    /// It said that it runs no pages when it had used much: one of the browser's own.
    exempt: bool,
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
        let pauses = self.jails.values_mut().map(Known::look);
        pauses.min().unwrap_or(REST)
    }
}

impl Known {
    fn look(&mut self) -> Duration {
        let now = sys::process_cpu(self.root).unwrap_or(self.seen);
        let mut busy = now.saturating_sub(self.seen) > AT_REST;
        if busy {
            self.seen = now;
            if !self.zygotes.is_empty() {
                self.find_pages();
            }
        }
        let mut pause = REST;
        for (pid, page) in self.pages.iter_mut().filter(|(_, page)| !page.is_settled()) {
            let before = page.seen;
            page.look(*pid);
            if page.seen.saturating_sub(before) > AT_REST {
                busy = true;
                pause = pause.min(page.pause());
            }
        }
        if busy { pause.min(BUSY) } else { REST }
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

impl Page {
    /// Whether nothing can be asked of it any more.
    fn is_settled(&self) -> bool {
        self.exempt || self.rank == Some(Rank::Last)
    }

    fn look(&mut self, pid: i32) {
        self.seen = sys::process_cpu(pid).unwrap_or(self.seen);
        let due = Rank::due(self.seen);
        if due <= self.rank {
            return;
        }
        if inspect::is_renderer(pid) {
            self.rank = due.map(|due| stand_back(pid, due));
        } else {
            self.exempt = true;
        }
    }

    /// How long one that works can be left alone: it cannot have reached its next bound before.
    fn pause(&self) -> Duration {
        let room = Rank::room(self.seen) / SPREAD;
        room.max(NEAR)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_looked_at_again_when_it_can_have_reached_its_next_bound() {
        let pause = |used| {
            let seen = Duration::from_millis(used);
            let page = Page {
                seen,
                ..Page::default()
            };
            page.pause().as_millis()
        };
        assert_eq!([0, 20, 50, 99].map(pause), [50, 40, 25, 25]);
        assert_eq!([101, 1_000, 1_990].map(pause), [949, 500, 25]);
    }

    #[test]
    fn whoever_stands_last_or_is_none_of_the_pages_is_not_looked_at_again() {
        let settled = |rank, exempt| {
            let seen = Duration::ZERO;
            Page { seen, rank, exempt }.is_settled()
        };
        assert!(settled(Some(Rank::Last), false) && settled(None, true));
        assert!(!settled(Some(Rank::Behind), false) && !settled(None, false));
    }
}
