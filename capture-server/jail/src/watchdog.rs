//! What a jail's processes may use beyond the kernel's own limits, which are per process.
//!
//! In: what each process uses now. Out: what is to be done about it. A page that starts hundreds of workers or computes
//! without end would starve its neighbours' pages; a container that runs into its memory limit would lose them all.
//! Pure; it must not look at /proc or signal anybody.

use std::time::Duration;

use crate::inspect::{ProcessUsage, Usage};
use crate::protocol::ExitCause;

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

/// Share of the container's memory, in per cent, from which on the largest renderer is ended.
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

/// Those processes of one jail that have too many threads; never the first, its browser, which the budget of the whole
/// jail bounds.
pub fn overgrown(processes: &[ProcessUsage]) -> impl Iterator<Item = i32> {
    let all = processes.iter().skip(1);
    all.filter(|process| process.threads > MAX_THREADS)
        .map(|process| process.pid)
}

/// Which budget of the whole jail its processes are over, taken together.
pub fn over_budget(together: Usage, memory_budget: u64) -> Option<ExitCause> {
    if together.anonymous_bytes > memory_budget {
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

/// The process to end when memory runs out: the largest that is no jail's browser, if it is worth it.
pub fn largest<'a>(processes: impl Iterator<Item = &'a ProcessUsage>) -> Option<i32> {
    let largest = processes.max_by_key(|process| process.anonymous_bytes);
    largest
        .filter(|process| process.anonymous_bytes >= WORTHWHILE)
        .map(|process| process.pid)
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
            cpu_ms: 0,
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
    }

    #[test]
    fn the_largest_goes_unless_that_would_not_help() {
        let processes = [process(2, 9, 60), process(3, 9, 300), process(4, 9, 10)];
        assert_eq!(largest(processes.iter()), Some(3));
        assert_eq!(largest(processes[2..].iter()), None);
        assert_eq!(largest([].iter()), None);
    }
}
