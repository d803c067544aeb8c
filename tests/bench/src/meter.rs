//! CPU time and memory of an arm: itself and everything it started.
//!
//! In: a process id, a control group if this user may make one. Out: CPU milliseconds so far, proportional set size and
//! the control group's highest memory in bytes. The control group counts exactly, dead processes included. Without one the
//! process tree is summed up, in which the dead count through those who waited for them. Must not: move any process but
//! the one that calls [`join`].

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The clock of /proc/PID/stat: fixed for user space on every Linux architecture that the project runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Makes a control group (v2) for one arm, if this user may, and beside it one that counts memory where that is still of
/// v1. The caller removes both with [`remove_group`].
pub fn make_group(name: &str) -> Option<PathBuf> {
    let group = own_group("cgroup2", "", "0::/")?.join(format!("screenshot-bench-{}-{name}", std::process::id()));
    fs::create_dir(&group).ok()?;
    if fs::OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.procs"))
        .is_ok()
        && cpu_of_group(&group).is_ok()
    {
        if let Some(memory) = memory_of(&group) {
            let _ = fs::create_dir(memory);
        }
        return Some(group);
    }
    remove_group(&group);
    None
}

/// Where the calling process is among the control groups of a file system with this option, by its line's beginning in
/// /proc/self/cgroup.
fn own_group(file_system: &str, option: &str, line: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let root = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| {
            let mut options = fields.get(3).unwrap_or(&"").split(',');
            fields.get(2) == Some(&file_system) && (option.is_empty() || options.any(|one| one == option))
        })
        .and_then(|fields| Some(PathBuf::from(fields.get(1)?)))?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own
        .lines()
        .find_map(|text| text.split_once(line).filter(|(before, _)| !before.contains('/')))?;
    Some(root.join(own.1))
}

/// The group of v1 that counts an arm's memory; `None` where v2 does.
fn memory_of(group: &Path) -> Option<PathBuf> {
    Some(own_group("cgroup", "memory", ":memory:/")?.join(group.file_name()?))
}

/// The most memory in bytes that the group has held since it was made, page cache included; `None` if nobody counts it.
pub fn highest_memory(group: &Path) -> Option<f64> {
    let read = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse().ok();
    read(group.join("memory.peak")).or_else(|| read(memory_of(group)?.join("memory.max_usage_in_bytes")))
}

/// Ends what is left in a group and removes it.
pub fn remove_group(group: &Path) {
    // Since Linux 5.14: an arm that had to be killed may have left a server behind.
    let _ = fs::write(group.join("cgroup.kill"), "1");
    for group in memory_of(group).iter().map(PathBuf::as_path).chain([group]) {
        for _ in 0..50 {
            if !group.exists() || fs::remove_dir(group).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Moves the calling process into the group.
pub fn join(group: &Path) -> io::Result<()> {
    if let Some(memory) = memory_of(group).filter(|memory| memory.exists()) {
        fs::write(memory.join("cgroup.procs"), "0")?;
    }
    fs::write(group.join("cgroup.procs"), "0")
}

fn cpu_of_group(group: &Path) -> io::Result<f64> {
    let text = fs::read_to_string(group.join("cpu.stat"))?;
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    let microseconds: f64 = usage
        .and_then(|value| value.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(microseconds / 1000.0)
}

/// CPU milliseconds of the group, or else of the tree below `pid`.
pub fn cpu_ms(group: Option<&Path>, pid: u32) -> io::Result<f64> {
    if let Some(group) = group {
        return cpu_of_group(group);
    }
    let ticks: f64 = tree(pid).into_iter().filter_map(|member| stat(member)?.ticks()).sum();
    Ok(ticks * 1000.0 / TICKS_PER_SECOND)
}

/// CPU milliseconds of one process alone, its threads that have ended included.
pub fn process_cpu_ms(pid: u32) -> io::Result<f64> {
    let ticks = stat(pid)
        .and_then(|stat| stat.own_ticks())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(ticks * 1000.0 / TICKS_PER_SECOND)
}

/// What this machine's processors did since its start, in clock ticks.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    all: f64,
    stolen: f64,
}

impl Ticks {
    /// Now; `None` if the kernel does not say.
    pub fn now() -> Option<Self> {
        Self::read(fs::read_to_string("/proc/stat").ok()?.lines().next()?)
    }

    /// The first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    fn read(line: &str) -> Option<Self> {
        let fields = line.strip_prefix("cpu ")?.split_whitespace().take(8);
        let fields: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self {
            stolen: *fields.get(7)?,
            all: fields.iter().sum(),
        })
    }

    /// The share of the time since `before` that the machine's host gave to others, in percent.
    pub fn stolen_since(self, before: Self) -> f64 {
        100.0 * (self.stolen - before.stolen) / (self.all - before.all).max(1.0)
    }
}

/// CPU milliseconds of the calling process's living threads alone.
pub fn own_cpu_ms() -> io::Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        nanoseconds += text
            .split(' ')
            .next()
            .and_then(|value| value.parse::<f64>().ok())
            .unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e6)
}

/// The proportional set size of the tree below `pid` in bytes, `pid` included; `None` if a process may not be read.
pub fn pss(pid: u32) -> Option<f64> {
    let mut sum = 0.0;
    for member in tree(pid) {
        match fs::read_to_string(format!("/proc/{member}/smaps_rollup")) {
            Ok(text) => {
                let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
                let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
                sum += kilobytes.unwrap_or(0.0) * 1024.0;
            }
            // It has ended, or is a zombie: nothing is left of it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(_) => {}
        }
    }
    Some(sum)
}

/// What the tree below a process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Footprint {
    /// Processes.
    pub processes: u64,
    /// Threads of all of them.
    pub threads: u64,
    /// Open descriptors of all of them.
    pub descriptors: u64,
    /// Directories of browsers.
    pub files: u64,
    /// Proportional set size in bytes.
    pub pss: f64,
}

/// What the tree below `pid` holds now, files excepted; `None` if a process may not be read.
pub fn footprint(pid: u32) -> Option<Footprint> {
    let mut footprint = Footprint {
        pss: pss(pid)?,
        ..Footprint::default()
    };
    for member in tree(pid) {
        let count = |name: &str| fs::read_dir(format!("/proc/{member}/{name}")).map(|entries| entries.count() as u64);
        match count("fd") {
            Ok(descriptors) => footprint.descriptors += descriptors,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(_) => continue,
        }
        footprint.processes += 1;
        footprint.threads += count("task").unwrap_or(0);
    }
    Some(footprint)
}

/// The children of the processes called `parent` below `pid`.
pub fn children_of(pid: u32, parent: &str) -> Vec<u32> {
    let members = tree(pid);
    let named = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == parent);
    members
        .iter()
        .copied()
        .filter(|member| stat(*member).is_some_and(|stat| members.contains(&stat.parent) && named(stat.parent)))
        .collect()
}

struct Stat {
    parent: u32,
    fields: Vec<String>,
}

impl Stat {
    /// utime, stime, cutime, cstime: fields 14 to 17 of proc(5), of which the first two stand before the list.
    fn ticks(&self) -> Option<f64> {
        self.sum(11..15)
    }

    /// utime and stime alone.
    fn own_ticks(&self) -> Option<f64> {
        self.sum(11..13)
    }

    fn sum(&self, range: Range<usize>) -> Option<f64> {
        self.fields
            .get(range)?
            .iter()
            .map(|field| field.parse::<f64>().ok())
            .sum()
    }
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name stands in brackets and may hold any character, brackets and blanks included.
    let fields: Vec<String> = text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        fields,
    })
}

/// `root` and all its descendants.
pub fn tree(root: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![root];
    };
    let all: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut members = vec![root];
    let mut next = 0;
    while next < members.len() {
        let parent = members[next];
        members.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            (stat.parent, stat.ticks(), stat.own_ticks()),
            (3, Some(100.0), Some(30.0))
        );
    }

    #[test]
    fn what_the_host_gave_to_others_is_the_eighth_field() {
        let before = Ticks::read("cpu  10 10 10 50 5 5 5 5 99 99").unwrap();
        let after = Ticks::read("cpu  20 20 20 100 10 10 10 10 99 99").unwrap();
        assert!((after.stolen_since(before) - 5.0).abs() < 1e-9);
        assert!(Ticks::read("cpu0 1 2 3").is_none() && Ticks::read("cpu  1 2 3").is_none());
    }

    #[test]
    fn the_work_of_a_dead_child_counts() {
        let before = cpu_ms(None, std::process::id()).unwrap();
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", busy]).status().unwrap().success());
        assert!(cpu_ms(None, std::process::id()).unwrap() >= before + 20.0);
    }

    #[test]
    fn a_group_is_made_counts_what_joins_it_and_is_removed() {
        let Some(group) = make_group("test") else {
            println!("not run: no control groups for this user");
            return;
        };
        // tail holds all of it.
        let script =
            "for group; do echo $$ >$group/cgroup.procs; done; head -c 30000000 /dev/zero | tail -c 30000000 | wc -c";
        let groups = memory_of(&group).into_iter().chain([group.clone()]);
        let run = Command::new("sh").args(["-c", script, "sh"]).args(groups).output();
        assert_eq!(run.unwrap().stdout.trim_ascii(), b"30000000");
        assert!(cpu_ms(Some(&group), 0).unwrap() > 0.0);
        assert!(
            highest_memory(&group).is_none_or(|bytes| bytes > 30e6),
            "{:?}",
            highest_memory(&group)
        );
        let script = format!("echo $$ >{}/cgroup.procs && exec sleep 60", group.display());
        let mut left = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        while fs::read_to_string(group.join("cgroup.procs")).unwrap().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if group.join("cgroup.kill").exists() {
            remove_group(&group);
            assert!(!left.wait().unwrap().success());
        } else {
            left.kill().and_then(|()| left.wait()).unwrap();
            remove_group(&group);
        }
        assert!(!group.exists() && memory_of(&group).is_none_or(|of| !of.exists()));
    }

    #[test]
    fn a_process_alone_has_its_own_work_and_not_its_childs() {
        let before = process_cpu_ms(std::process::id()).unwrap();
        let busy = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
        let all = cpu_ms(None, std::process::id()).unwrap();
        assert!(Command::new("sh").args(["-c", busy]).status().unwrap().success());
        let childs = cpu_ms(None, std::process::id()).unwrap() - all;
        assert!(process_cpu_ms(std::process::id()).unwrap() - before < childs / 2.0);
    }

    #[test]
    fn the_tree_has_the_child_and_its_memory() {
        let mut child = Command::new("sleep").arg("10").spawn().unwrap();
        assert!(tree(std::process::id()).contains(&child.id()));
        assert!(pss(std::process::id()).unwrap() > 100_000.0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
