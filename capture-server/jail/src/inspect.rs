//! Reads /proc: what the processes of a jail are, how they are confined, what they use.
//!
//! In: a jail's pid 1. Out: facts ([`crate::facts`]) and sums. Bounded reads; a process that vanishes meanwhile is left out,
//! what cannot be read of a living one is 0 or empty, which the verdict counts as not confined.
//! It must not decide anything.

use std::fs::{self, File};
use std::io::Read;

use crate::census::{Table, below, table};
use crate::facts::{JailerFacts, ProcessFacts, Role};
use crate::resources;
use crate::sys;

/// The facts of this many processes fit into a frame.
pub const MAX_LISTED: usize = 128;
const MAX_READ: u64 = 256 * 1024;
const MAX_PIECE: usize = 4096;
const MAX_ROOT: usize = 64;

/// What a jail's processes use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processes.
    pub processes: u32,
    /// Threads.
    pub tasks: u32,
    /// Anonymous memory in bytes.
    pub anonymous_bytes: u64,
    /// Shared memory in bytes: of the process that has most of it, for what several have must not count twice.
    pub shared_bytes: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
}

impl Usage {
    /// Memory of both kinds in bytes.
    pub fn bytes(&self) -> u64 {
        self.anonymous_bytes.saturating_add(self.shared_bytes)
    }
}

/// A file of /proc, as far as it is taken in.
pub(crate) fn read(path: &str) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_READ).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// A short file, which the kernel gives in one piece.
pub(crate) fn read_piece(path: &str) -> Option<String> {
    let mut piece = [0; MAX_PIECE];
    let length = File::open(path).ok()?.read(&mut piece).ok()?;
    Some(String::from_utf8_lossy(piece.get(..length)?).into_owned())
}

/// Every process below `root`, without it.
pub fn descendants(root: i32) -> Vec<i32> {
    below(&table(), root)
}

/// Children of this process that are not in `living`, with everything below them.
pub fn strays(living: &[i32]) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let children = table()
        .into_iter()
        .filter(|(pid, line)| line.parent == own && !living.contains(pid));
    children
        .flat_map(|(pid, _)| std::iter::once(pid).chain(descendants(pid)))
        .collect()
}

/// Whether `pid` is this process or below it.
pub fn is_own(pid: i32) -> bool {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    pid == own || descendants(own).contains(&pid)
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn number(status: &str, name: &str) -> u32 {
    status_field(status, name)
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

fn namespace(pid: &str, kind: &str) -> u64 {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let text = link.as_deref().and_then(|link| link.to_str());
    text.and_then(|text| text.split(['[', ']']).nth(1))
        .and_then(|inode| inode.parse().ok())
        .unwrap_or(0)
}

/// Chromium's children rewrite their command line with blanks for NULs. It is their own word: a hostile process can lie
/// here, so the verdict is about a jail that has only seen a page of our own.
fn role(command_line: &str, is_root: bool) -> Role {
    let kind = command_line
        .split(['\0', ' '])
        .find_map(|argument| argument.strip_prefix("--type="));
    match kind {
        None if is_root => Role::Browser,
        Some("gpu-process") => Role::Gpu,
        Some("zygote") => Role::Zygote,
        Some("renderer") => Role::Renderer,
        Some("utility") if command_line.contains("network.mojom.NetworkService") => Role::Network,
        _ => Role::Other,
    }
}

fn process(pid: i32, is_root: bool) -> Option<ProcessFacts> {
    let name = pid.to_string();
    let status = read(&format!("/proc/{pid}/status"))?;
    let command_line = read(&format!("/proc/{pid}/cmdline"))?;
    // Dead and not yet reaped: nothing to confine.
    if command_line.is_empty() || status_field(&status, "State").is_some_and(|state| state.starts_with('Z')) {
        return None;
    }
    let root = fs::read_link(format!("/proc/{pid}/root")).ok();
    let root = root
        .map(|root| root.to_string_lossy().chars().take(MAX_ROOT).collect())
        .unwrap_or_default();
    Some(ProcessFacts {
        role: role(&command_line, is_root),
        seccomp_mode: number(&status, "Seccomp"),
        seccomp_filters: number(&status, "Seccomp_filters"),
        cap_eff: capabilities(&status),
        no_new_privs: number(&status, "NoNewPrivs") == 1,
        userns: namespace(&name, "user"),
        pidns: namespace(&name, "pid"),
        netns: namespace(&name, "net"),
        root,
    })
}

/// All of them if they cannot be read: unknown is not none.
fn capabilities(status: &str) -> u64 {
    status_field(status, "CapEff")
        .and_then(|value| u64::from_str_radix(value, 16).ok())
        .unwrap_or(u64::MAX)
}

/// The facts of a jail's processes, browser first, and whether some were left out.
pub fn processes(root: i32) -> (Vec<ProcessFacts>, bool) {
    let below = descendants(root);
    let truncated = below.len() + 1 > MAX_LISTED;
    let rest = below
        .into_iter()
        .take(MAX_LISTED - 1)
        .filter_map(|pid| process(pid, false));
    (process(root, true).into_iter().chain(rest).collect(), truncated)
}

/// The jailer's own facts.
pub fn jailer() -> JailerFacts {
    let status = read("/proc/self/status").unwrap_or_default();
    JailerFacts {
        seccomp_mode: number(&status, "Seccomp"),
        seccomp_filters: number(&status, "Seccomp_filters"),
        cap_eff: capabilities(&status),
        no_new_privs: number(&status, "NoNewPrivs") == 1,
        userns: namespace("self", "user"),
        pidns: namespace("self", "pid"),
        netns: namespace("self", "net"),
        landlock_abi: sys::landlock_abi(),
        resources: resources::read(),
    }
}

/// The interfaces that a process sees.
pub fn interfaces(pid: i32) -> Vec<String> {
    interface_names(&read(&format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

fn interface_names(dev: &str) -> Vec<String> {
    dev.lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .take(32)
        .collect()
}

/// Routes that leave the loopback interface, both families.
pub fn routes(pid: i32) -> u32 {
    let v4 = read(&format!("/proc/{pid}/net/route")).unwrap_or_default();
    let v6 = read(&format!("/proc/{pid}/net/ipv6_route")).unwrap_or_default();
    let v4 = v4
        .lines()
        .skip(1)
        .filter(|line| line.split_whitespace().next().is_some_and(|name| name != "lo"))
        .count();
    let v6 = v6
        .lines()
        .filter(|line| line.split_whitespace().last().is_some_and(|name| name != "lo"))
        .count();
    u32::try_from(v4 + v6).unwrap_or(u32::MAX)
}

/// What one process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Which.
    pub pid: i32,
    /// Threads.
    pub threads: u32,
    /// Anonymous memory in bytes.
    pub anonymous_bytes: u64,
    /// Shared memory that it has touched, in bytes, whoever else has it. No limit of the kernel's counts it.
    pub shared_bytes: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
}

impl ProcessUsage {
    /// Memory of both kinds in bytes.
    pub fn bytes(&self) -> u64 {
        self.anonymous_bytes.saturating_add(self.shared_bytes)
    }
}

/// What each process of a jail uses, its first one first.
pub fn usages(table: &Table, root: i32) -> Vec<ProcessUsage> {
    let all = std::iter::once(root).chain(below(table, root));
    all.filter_map(|pid| {
        let line = table.get(&pid)?;
        let status = read_piece(&format!("/proc/{pid}/status"))?;
        Some(ProcessUsage {
            pid,
            threads: line.threads,
            anonymous_bytes: bytes(&status, "RssAnon"),
            shared_bytes: bytes(&status, "RssShmem"),
            cpu_ms: line.cpu_ms,
        })
    })
    .collect()
}

/// From /proc/PID/status, which has it in KiB; one that has ended has none.
fn bytes(status: &str, name: &str) -> u64 {
    let kibibytes = status_field(status, name).and_then(|value| value.strip_suffix(" kB")?.parse().ok());
    kibibytes.map_or(0, |kibibytes: u64| kibibytes.saturating_mul(1024))
}

/// What a jail uses.
pub fn usage(root: i32) -> Usage {
    sum(&usages(&table(), root))
}

/// What these processes use together.
pub fn sum(processes: &[ProcessUsage]) -> Usage {
    let mut sum = Usage::default();
    for process in processes {
        sum.processes += 1;
        sum.tasks = sum.tasks.saturating_add(process.threads);
        sum.anonymous_bytes = sum.anonymous_bytes.saturating_add(process.anonymous_bytes);
        sum.shared_bytes = sum.shared_bytes.max(process.shared_bytes);
        sum.cpu_ms = sum.cpu_ms.saturating_add(process.cpu_ms);
    }
    sum
}

/// Whether a process says that it runs pages. Its own word: see [`role`].
pub fn is_renderer(pid: i32) -> bool {
    read(&format!("/proc/{pid}/cmdline")).is_some_and(|line| role(&line, false) == Role::Renderer)
}

/// The list of the processes that a process of one thread has started and that still live, to be read as often as one
/// likes. `None` where the kernel does not keep it.
pub fn children(pid: i32) -> Option<File> {
    File::open(format!("/proc/{pid}/task/{pid}/children")).ok()
}

/// The threads of a process.
pub fn threads(pid: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let names = entries.flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_from_the_type_and_only_the_root_is_the_browser() {
        assert_eq!(role("b\0--type=renderer\0", false), Role::Renderer);
        assert_eq!(role("b\0--type=gpu-process\0", false), Role::Gpu);
        assert_eq!(
            role(
                "b\0--type=utility\0--utility-sub-type=network.mojom.NetworkService\0",
                false
            ),
            Role::Network
        );
        assert_eq!(
            role("b\0--type=utility\0--utility-sub-type=other\0", false),
            Role::Other
        );
        assert_eq!(role("/usr/b --type=zygote --x=y\0\0", false), Role::Zygote);
        assert_eq!(role("b\0--headless\0", true), Role::Browser);
        assert_eq!(role("b\0", false), Role::Other);
    }

    #[test]
    fn interfaces_are_the_names_before_the_colons() {
        let dev = "Inter-| Receive\n face |bytes\n    lo: 0 0\n  eth0: 1 2\n";
        assert_eq!(interface_names(dev), ["lo", "eth0"]);
        assert_eq!(interface_names(""), [""; 0]);
    }

    #[test]
    fn unreadable_capabilities_count_as_all() {
        assert_eq!(capabilities("CapEff:\t0000000000000000\n"), 0);
        assert_eq!(capabilities(""), u64::MAX);
    }

    #[test]
    fn anonymous_and_shared_memory_are_read_and_what_files_have_is_neither() {
        let status = "VmRSS:\t  9000 kB\nRssAnon:\t    70 kB\nRssFile:\t  8000 kB\nRssShmem:\t     3 kB\n";
        assert_eq!(
            (bytes(status, "RssAnon"), bytes(status, "RssShmem")),
            (70 << 10, 3 << 10)
        );
        assert_eq!(bytes("State:\tZ (zombie)\n", "RssAnon"), 0);
    }

    #[test]
    fn memory_that_processes_share_counts_once() {
        let process = |anonymous_bytes, shared_bytes| ProcessUsage {
            pid: 1,
            threads: 1,
            anonymous_bytes,
            shared_bytes,
            cpu_ms: 0,
        };
        let together = sum(&[process(10, 400), process(20, 300), process(30, 0)]);
        assert_eq!((together.anonymous_bytes, together.bytes()), (60, 460));
    }

    #[test]
    fn this_process_has_facts_and_usage() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(usage(own).anonymous_bytes > 0 && usage(own).tasks > 0);
        assert!(jailer().userns > 0 && jailer().netns > 0);
        assert!(is_own(own) && !is_own(1) && !is_own(0));
    }
}
