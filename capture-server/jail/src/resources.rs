//! What the jailer's container may use: cores and memory.
//!
//! In: the cgroup's files, version 2 or 1, as the container sees them. Out: numbers; unlimited or unreadable is `None`.
//! Memory in use is the working set, as the kubelet counts it: without the page cache that the kernel would give up.
//! It must not decide anything.

use std::fs;

use serde::{Deserialize, Serialize};

/// A limit above this is none: cgroup v1 writes "unlimited" as a huge number.
const UNLIMITED: u64 = 1 << 60;

/// What the container may use and uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Whole cores, at least 1: of the machine, the CPU set and the CPU limit the least.
    pub cores: u32,
    /// Bytes of memory that the container may use; absent if unlimited.
    pub memory_limit: Option<u64>,
    /// Bytes that it uses; 0 if unknown.
    pub memory_used: u64,
}

/// Reads the container's resources.
pub fn read() -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (memory_limit, memory_used) = memory();
    Resources {
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        memory_limit,
        memory_used,
    }
}

/// Limit and use of memory alone: the cores cost many times as much to find out.
pub fn memory() -> (Option<u64>, u64) {
    memory_in(|path| fs::read_to_string(path).ok())
}

fn memory_in(read: impl Fn(&str) -> Option<String>) -> (Option<u64>, u64) {
    const V2: [&str; 3] = ["memory.max", "memory.current", "memory.stat"];
    const V1: [&str; 3] = [
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
    ];
    let file = |name: &str| read(&format!("/sys/fs/cgroup/{name}"));
    for ([limit, used, stat], cache) in [(V2, "inactive_file"), (V1, "total_inactive_file")] {
        if let (Some(limit), Some(used)) = (file(limit), file(used)) {
            let cache = file(stat).and_then(|stat| field(&stat, cache)).unwrap_or(0);
            let limit = number(&limit).filter(|limit| *limit < UNLIMITED);
            return (limit, number(&used).unwrap_or(0).saturating_sub(cache));
        }
    }
    (None, 0)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(stat: &str, name: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |path| {
            let name = path.strip_prefix("/sys/fs/cgroup/")?;
            files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, text)| (*text).to_owned())
        }
    }

    #[test]
    fn the_working_set_is_without_the_cache_that_can_go() {
        let v2 = [
            ("memory.max", "1000\n"),
            ("memory.current", "700\n"),
            ("memory.stat", "anon 500\ninactive_file 150\n"),
        ];
        assert_eq!(memory_in(files(&v2)), (Some(1000), 550));
        let v1 = [
            ("memory/memory.limit_in_bytes", "2000\n"),
            ("memory/memory.usage_in_bytes", "700\n"),
            ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"),
        ];
        assert_eq!(memory_in(files(&v1)), (Some(2000), 600));
    }

    #[test]
    fn unlimited_and_unreadable_are_no_limit() {
        let v2 = [("memory.max", "max\n"), ("memory.current", "700\n")];
        assert_eq!(memory_in(files(&v2)), (None, 700));
        let v1 = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "7\n"),
        ];
        assert_eq!(memory_in(files(&v1)), (None, 7));
        assert_eq!(memory_in(files(&[])), (None, 0));
        assert!(read().cores >= 1);
    }
}
