//! Who started whom: the processes of the jails, found among all that the machine has.
//!
//! In: /proc, the jails' first processes. Out: a [`Table`]. On a machine with hundreds of processes nearly all of a look
//! would go into reading about those that have nothing to do with any jail; they are remembered. Bounded reads; a process
//! that vanishes meanwhile is left out. It must not decide anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::inspect::read_piece;

/// USER_HZ, the unit of times in /proc/PID/stat, is 100 on every architecture this runs on.
const MS_PER_TICK: u64 = 10;
/// Every so many looks nothing is taken from memory: a number may have changed hands between two looks.
const THOROUGH: u32 = 16;

/// Fields of /proc/PID/stat after the name, which may itself hold blanks and brackets: state, ppid, …
fn stat_fields(stat: &str) -> Vec<u64> {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect()
}

/// A process's line in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Who started it.
    pub parent: i32,
    /// Threads.
    pub threads: u32,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
}

impl Line {
    /// From /proc/PID/stat.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat_fields(stat);
        let field = |at: usize| fields.get(at).copied().unwrap_or(0);
        Some(Self {
            parent: i32::try_from(*fields.first()?).ok()?,
            threads: u32::try_from(field(16)).unwrap_or(u32::MAX),
            cpu_ms: field(10).saturating_add(field(11)).saturating_mul(MS_PER_TICK),
        })
    }
}

/// Every process there is.
pub type Table = BTreeMap<i32, Line>;

/// Reads the table.
pub fn table() -> Table {
    let pids = pids().into_iter();
    pids.filter_map(|pid| Some((pid, line(pid)?))).collect()
}

fn pids() -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn line(pid: i32) -> Option<Line> {
    Line::parse(&read_piece(&format!("/proc/{pid}/stat"))?)
}

/// Looks at the jails' processes again and again.
#[derive(Debug, Default)]
pub struct Census {
    /// Processes that have nothing to do with any jail. Who starts a process stays where it is, so neither will what they
    /// start; only the number of one that has ended can be given to a jail's.
    strangers: BTreeSet<i32>,
    looks: u32,
}

impl Census {
    /// Every process of the jails with these first processes, and no other.
    pub fn take(&mut self, roots: &[i32]) -> Table {
        self.look(roots, &pids(), line)
    }

    fn look(&mut self, roots: &[i32], here: &BTreeSet<i32>, read: impl Fn(i32) -> Option<Line>) -> Table {
        if self.looks.is_multiple_of(THOROUGH) {
            self.strangers.clear();
        }
        self.looks = self.looks.wrapping_add(1);
        self.strangers.retain(|pid| here.contains(pid) && !roots.contains(pid));
        let unknown = here.iter().filter(|pid| !self.strangers.contains(pid));
        let mut table: Table = unknown.filter_map(|pid| Some((*pid, read(*pid)?))).collect();
        let mut own: BTreeSet<i32> = roots.iter().copied().collect();
        own.extend(roots.iter().flat_map(|root| below(&table, *root)));
        // Whose parent has ended in the middle of the look will have another at the next.
        let placed =
            |line: &Line| line.parent == 0 || table.contains_key(&line.parent) || self.strangers.contains(&line.parent);
        let strangers = table.iter().filter(|(pid, line)| !own.contains(pid) && placed(line));
        let strangers: Vec<i32> = strangers.map(|(pid, _)| *pid).collect();
        self.strangers.extend(strangers);
        table.retain(|pid, _| own.contains(pid));
        table
    }
}

/// Every process below `root`, without it.
pub fn below(table: &Table, root: i32) -> Vec<i32> {
    let mut found = BTreeSet::from([root]);
    let mut order = vec![root];
    let mut next = 0;
    while let Some(parent) = order.get(next).copied() {
        next += 1;
        for (pid, line) in table {
            if line.parent == parent && found.insert(*pid) {
                order.push(*pid);
            }
        }
    }
    order.split_off(1)
}

/// Those processes below `root` that have started others, with what they have started: pages' processes are children of
/// such a one, the zygote.
pub fn families(table: &Table, root: i32) -> BTreeMap<i32, BTreeSet<i32>> {
    let below: BTreeSet<i32> = below(table, root).into_iter().collect();
    let mut families = BTreeMap::<i32, BTreeSet<i32>>::new();
    for pid in &below {
        if let Some(line) = table.get(pid).filter(|line| below.contains(&line.parent)) {
            families.entry(line.parent).or_default().insert(*pid);
        }
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn child_of(parent: i32) -> Line {
        Line {
            parent,
            threads: 1,
            cpu_ms: 0,
        }
    }

    /// A jail under 7, its jailer, and strangers.
    fn machine() -> Table {
        let table = [(1, 0), (2, 1), (5, 1), (7, 5), (8, 7), (9, 8)];
        table.map(|(pid, parent)| (pid, child_of(parent))).into()
    }

    fn look(census: &mut Census, machine: &Table) -> (Vec<i32>, Vec<i32>) {
        let (here, read) = (machine.keys().copied().collect(), std::cell::RefCell::new(Vec::new()));
        let table = census.look(&[7], &here, |pid| {
            read.borrow_mut().push(pid);
            machine.get(&pid).copied()
        });
        (table.into_keys().collect(), read.into_inner())
    }

    #[test]
    fn strangers_are_read_about_once_and_whatever_a_jail_starts_is_found() {
        let (mut census, mut machine) = (Census::default(), machine());
        assert_eq!(look(&mut census, &machine), (vec![7, 8, 9], vec![1, 2, 5, 7, 8, 9]));
        machine.extend([(10, child_of(9)), (11, child_of(2))]);
        assert_eq!(look(&mut census, &machine), (vec![7, 8, 9, 10], vec![7, 8, 9, 10, 11]));
        assert_eq!(look(&mut census, &machine).1, [7, 8, 9, 10]);
    }

    #[test]
    fn the_number_of_a_stranger_that_went_to_a_jail_is_noticed() {
        let (mut census, mut machine) = (Census::default(), machine());
        look(&mut census, &machine);
        machine.remove(&2);
        assert_eq!(look(&mut census, &machine).0, [7, 8, 9]);
        machine.insert(2, child_of(9));
        assert_eq!(look(&mut census, &machine).0, [2, 7, 8, 9]);
        // Within one look it is not, but soon.
        machine.insert(1, child_of(9));
        let looks = (0..THOROUGH).map(|_| look(&mut census, &machine).0.contains(&1));
        let found: Vec<bool> = looks.collect();
        assert!(!found[0] && found.contains(&true), "{found:?}");
    }

    #[test]
    fn a_process_whose_parent_ended_in_the_middle_of_a_look_is_no_stranger() {
        let (mut census, mut machine) = (Census::default(), machine());
        machine.insert(10, child_of(12));
        assert_eq!(look(&mut census, &machine).0, [7, 8, 9]);
        machine.insert(10, child_of(7));
        assert_eq!(look(&mut census, &machine).0, [7, 8, 9, 10]);
    }

    #[test]
    fn a_process_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        assert_eq!(stat_fields("12 (a) b (c)) S 7 8 9 0")[..3], [7, 8, 9]);
    }

    #[test]
    fn a_line_of_the_table_has_parent_threads_and_both_kinds_of_cpu_time() {
        let line = Line::parse("7 (a b) S 3 7 7 0 -1 4194560 1 0 0 0 12 5 0 0 20 0 21 0 9 0 0").unwrap();
        assert_eq!((line.parent, line.threads, line.cpu_ms), (3, 21, 170));
        assert_eq!(Line::parse("7 (a b"), None);
    }

    #[test]
    fn a_family_is_who_was_started_by_somebody_below_the_root() {
        let table = Table::from([
            (1, child_of(0)),
            (7, child_of(1)),
            (8, child_of(7)),
            (9, child_of(8)),
            (10, child_of(8)),
            (11, child_of(1)),
        ]);
        let expected = BTreeMap::from([(8, BTreeSet::from([9, 10]))]);
        assert_eq!(families(&table, 7), expected);
    }
}
