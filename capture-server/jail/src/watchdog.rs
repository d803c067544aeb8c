//! What a jail's processes may use beyond the kernel's own limits, which are per process.
//!
//! In: what each process uses now. Out: what is to be done about it. A page that starts hundreds of workers or computes
//! without end would starve its neighbours' pages; a container that runs into its memory limit would lose them all.
//! Pure; it must not look at /proc or signal anybody.

use std::time::Duration;

use crate::inspect::ProcessUsage;

/// Threads of one process other than the browser itself; a page with a few workers has 20.
pub const MAX_THREADS: u32 = 64;
/// CPU time after which a renderer has to stand back behind all others.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Share of the container's memory, in per cent, from which on the largest renderer is ended.
pub const PRESSURE: u64 = 92;
/// Share from which on memory is looked at more often.
const CLOSE: u64 = 70;
/// How often to look.
pub const CALM: Duration = Duration::from_millis(500);
const TENSE: Duration = Duration::from_millis(50);
/// Ending a process that holds less than this, in bytes, would not help.
const WORTHWHILE: u64 = 48 << 20;

/// Processes of one jail that are to be curbed or ended, all but its first one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// To be ended: they have too many threads.
    pub end: Vec<i32>,
    /// To stand back.
    pub curb: Vec<i32>,
}

/// Judges one jail's processes; the first is its browser, which the budget of the whole jail bounds.
pub fn judge(processes: &[ProcessUsage]) -> Orders {
    let mut orders = Orders::default();
    for process in processes.iter().skip(1) {
        if process.threads > MAX_THREADS {
            orders.end.push(process.pid);
        } else if process.cpu_ms > u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX) {
            orders.curb.push(process.pid);
        }
    }
    orders
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

    fn process(pid: i32, threads: u32, megabytes: u64, cpu_ms: u64) -> ProcessUsage {
        ProcessUsage {
            pid,
            threads,
            anonymous_bytes: megabytes << 20,
            cpu_ms,
        }
    }

    #[test]
    fn too_many_threads_end_a_process_and_much_cpu_curbs_it_but_never_the_browser() {
        let processes = [
            process(1, 200, 50, 90_000),
            process(2, 65, 50, 90_000),
            process(3, 64, 50, 2_001),
            process(4, 20, 50, 2_000),
        ];
        let expected = Orders {
            end: vec![2],
            curb: vec![3],
        };
        assert_eq!(judge(&processes), expected);
    }

    #[test]
    fn memory_is_watched_closely_before_it_is_short_and_without_a_limit_not_at_all() {
        assert_eq!((pause(69, Some(100)), pause(70, Some(100))), (CALM, TENSE));
        assert_eq!((pressed(91, Some(100)), pressed(92, Some(100))), (false, true));
        assert_eq!((pause(u64::MAX, None), pressed(u64::MAX, None)), (CALM, false));
        assert!(pressed(1, Some(0)));
    }

    #[test]
    fn the_largest_goes_unless_that_would_not_help() {
        let processes = [process(2, 9, 60, 0), process(3, 9, 300, 0), process(4, 9, 10, 0)];
        assert_eq!(largest(processes.iter()), Some(3));
        assert_eq!(largest(processes[2..].iter()), None);
        assert_eq!(largest([].iter()), None);
    }
}
