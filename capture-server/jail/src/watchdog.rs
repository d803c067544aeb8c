//! What a jail's processes may use beyond the kernel's own limits, which are per process.
//!
//! In: what each process uses now. Out: what is to be done about it. A page that starts hundreds of workers or computes
//! without end would starve its neighbours' pages; a container that runs into its memory limit would lose them all.
//! Pure; it must not look at /proc or signal anybody.

use std::time::Duration;

use crate::inspect::{ProcessUsage, Usage, sum};
use crate::protocol::{ExitCause, JailId};

/// Processes and threads of one jail (a page needs about 70). The kernel gives a jail with a user namespace no more; one
/// without is ended.
pub const MAX_TASKS: u32 = 300;
/// Threads of one process other than the browser itself; a page with a few workers has 20.
pub const MAX_THREADS: u32 = 64;
/// CPU time after which a page's process stands back: a harmless page has been shown by then, or nearly.
const LIGHT: Duration = Duration::from_millis(100);
/// CPU time after which it gets only what nobody else wants.
const PATIENCE: Duration = Duration::from_secs(2);
/// Threads of a page's process from which on it has to go that far at once: each of them has a share.
const MANY: usize = 30;

/// How far a page's process stands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It gets a tenth of what others get.
    Behind,
    /// It gets what nobody else wants.
    Last,
}

impl Rank {
    /// What a page's process has to do that has used so much; nothing is asked of a light one.
    pub fn due(cpu: Duration) -> Option<Self> {
        if cpu > PATIENCE {
            Some(Self::Last)
        } else if cpu > LIGHT {
            Some(Self::Behind)
        } else {
            None
        }
    }

    /// CPU time that is left to one that has used so much until more is asked of it.
    pub fn room(cpu: Duration) -> Duration {
        let bound = if cpu > LIGHT { PATIENCE } else { LIGHT };
        bound.saturating_sub(cpu)
    }

    /// The same for one that has so many threads.
    #[must_use]
    pub fn with(self, threads: usize) -> Self {
        if threads > MANY { Self::Last } else { self }
    }
}

/// Share of the container's memory, in per cent, from which on something is ended for it.
pub const PRESSURE: u64 = 92;
/// Share from which on memory is looked at more often.
const CLOSE: u64 = 70;
/// How often to look.
pub const CALM: Duration = Duration::from_millis(500);
/// How soon after a jail was made.
pub const FRESH: Duration = Duration::from_millis(150);
const TENSE: Duration = Duration::from_millis(50);
/// Ending a process that holds less than this, in bytes, would not help.
const WORTHWHILE: u64 = 48 << 20;
/// Nor would ending a jail that holds less: one with an empty page has 100 MiB.
const WORTHWHILE_JAIL: u64 = 192 << 20;

/// Those processes of one jail that have too many threads; never the first, its browser, which the budget of the whole
/// jail bounds.
pub fn overgrown(processes: &[ProcessUsage]) -> impl Iterator<Item = i32> {
    let all = processes.iter().skip(1);
    all.filter(|process| process.threads > MAX_THREADS)
        .map(|process| process.pid)
}

/// Which budget of the whole jail its processes are over, taken together.
pub fn over_budget(together: Usage, memory_budget: u64) -> Option<ExitCause> {
    if together.bytes() > memory_budget {
        Some(ExitCause::MemoryBudget)
    } else if together.tasks > MAX_TASKS {
        Some(ExitCause::TaskBudget)
    } else {
        None
    }
}

/// Whether the container is about to run out of memory.
pub fn pressed(used: u64, limit: Option<u64>) -> bool {
    limit.is_some_and(|limit| percent(used, limit) >= PRESSURE)
}

/// What is ended when memory runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// One process of a jail: a page, mostly.
    Process(i32),
    /// A jail as a whole.
    Jail(JailId),
}

/// Whose memory goes when it runs out: that of the jail which holds most, if ending it is worth it, else the next one's. Its
/// largest page goes; the jail does if its browser, which has what pages store, holds far more than that, as none does by
/// itself, or if no page is large.
pub fn relief(jails: impl Iterator<Item = (JailId, Vec<ProcessUsage>)>) -> Option<Relief> {
    let mut jails: Vec<_> = jails
        .map(|(id, processes)| (sum(&processes).bytes(), id, processes))
        .collect();
    jails.sort_by_key(|(held, ..)| std::cmp::Reverse(*held));
    jails.iter().find_map(|(held, id, processes)| {
        let (browser, others) = processes.split_first()?;
        let largest = others.iter().max_by_key(|process| process.bytes());
        let page = largest.filter(|process| process.bytes() >= WORTHWHILE);
        if *held >= WORTHWHILE_JAIL && page.is_none_or(|page| page.bytes() + WORTHWHILE < browser.bytes()) {
            return Some(Relief::Jail(*id));
        }
        page.map(|page| Relief::Process(page.pid))
    })
}

/// When to look again.
pub fn pause(used: u64, limit: Option<u64>) -> Duration {
    if limit.is_some_and(|limit| percent(used, limit) >= CLOSE) {
        TENSE
    } else {
        CALM
    }
}

fn percent(used: u64, limit: u64) -> u64 {
    used.saturating_mul(100) / limit.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, threads: u32, megabytes: u64) -> ProcessUsage {
        ProcessUsage {
            pid,
            threads,
            anonymous_bytes: megabytes << 20,
            shared_bytes: 0,
            cpu_ms: 0,
        }
    }

    fn sharing(pid: i32, megabytes: u64, shared: u64) -> ProcessUsage {
        ProcessUsage {
            shared_bytes: shared << 20,
            ..process(pid, 9, megabytes)
        }
    }

    #[test]
    fn too_many_threads_end_a_process_but_never_the_browser() {
        let processes = [process(1, 200, 50), process(2, 65, 50), process(3, 64, 50)];
        assert_eq!(overgrown(&processes).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn whoever_has_used_much_stands_back_and_many_threads_go_last() {
        let due = |ms| Rank::due(Duration::from_millis(ms));
        assert_eq!((due(100), due(101)), (None, Some(Rank::Behind)));
        assert_eq!((due(2_000), due(2_001)), (Some(Rank::Behind), Some(Rank::Last)));
        assert_eq!(
            (Rank::Behind.with(30), Rank::Behind.with(31)),
            (Rank::Behind, Rank::Last)
        );
        assert_eq!(Rank::Last.with(1), Rank::Last);
        assert!(None < Some(Rank::Behind) && Rank::Behind < Rank::Last);
    }

    #[test]
    fn memory_is_watched_closely_before_it_is_short_and_without_a_limit_not_at_all() {
        assert_eq!((pause(69, Some(100)), pause(70, Some(100))), (CALM, TENSE));
        assert_eq!((pressed(91, Some(100)), pressed(92, Some(100))), (false, true));
        assert_eq!((pause(u64::MAX, None), pressed(u64::MAX, None)), (CALM, false));
        assert!(pressed(1, Some(0)));
    }

    #[test]
    fn a_jail_is_over_a_budget_only_above_it_and_memory_is_named_first() {
        let usage = |tasks, anonymous_bytes| Usage {
            tasks,
            anonymous_bytes,
            ..Usage::default()
        };
        assert_eq!(over_budget(usage(MAX_TASKS, 9), 9), None);
        assert_eq!(over_budget(usage(MAX_TASKS + 1, 9), 9), Some(ExitCause::TaskBudget));
        assert_eq!(over_budget(usage(MAX_TASKS + 1, 10), 9), Some(ExitCause::MemoryBudget));
        let shared = Usage {
            shared_bytes: 3,
            ..usage(1, 7)
        };
        assert_eq!(
            (over_budget(shared, 10), over_budget(shared, 9)),
            (None, Some(ExitCause::MemoryBudget))
        );
    }

    fn relieved(jails: &[&[ProcessUsage]]) -> Option<Relief> {
        let ids = (1..).map(JailId);
        relief(ids.zip(jails.iter().map(|processes| processes.to_vec())))
    }

    #[test]
    fn the_largest_process_of_the_jail_that_holds_most_goes_and_no_other_jails() {
        let small = [process(1, 9, 20), process(2, 9, 120)];
        let many = [process(5, 9, 30), process(6, 9, 90), process(7, 9, 100)];
        assert_eq!(relieved(&[&small, &many]), Some(Relief::Process(7)));
        assert_eq!(relieved(&[&small]), Some(Relief::Process(2)));
        let pages = [process(5, 9, 110), process(6, 9, 70), process(7, 9, 60)];
        assert_eq!(
            relieved(&[&small, &pages]),
            Some(Relief::Process(6)),
            "a browser's usual size"
        );
        let sharing = [process(5, 9, 30), sharing(6, 20, 300), sharing(7, 60, 100)];
        assert_eq!(relieved(&[&small, &sharing]), Some(Relief::Process(6)));
    }

    #[test]
    fn a_jail_goes_as_a_whole_if_its_browser_holds_most_or_nothing_in_it_is_large() {
        let beside = [process(1, 9, 20), process(2, 9, 150)];
        let stored = [process(5, 9, 300), process(6, 9, 20), process(7, 9, 60)];
        assert_eq!(relieved(&[&beside, &stored]), Some(Relief::Jail(JailId(2))));
        let crowd: Vec<_> = (5..15).map(|pid| process(pid, 9, 40)).collect();
        assert_eq!(relieved(&[&beside, &crowd]), Some(Relief::Jail(JailId(2))));
    }

    #[test]
    fn nothing_goes_where_that_would_not_help_and_then_the_next_jail_is_looked_at() {
        let empty = [process(1, 9, 20), process(2, 9, 40), process(3, 9, 40)];
        assert_eq!((relieved(&[&empty, &[]]), relieved(&[])), (None, None));
        let next = [process(5, 9, 10), process(6, 9, 50)];
        assert_eq!(relieved(&[&empty, &next]), Some(Relief::Process(6)));
    }
}
