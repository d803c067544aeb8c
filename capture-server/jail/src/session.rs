//! The jails of one connection.
//!
//! In: requests. Out: answers, with descriptors beside the answer to `spawn`. Holds every living jail and how the last
//! dead ones ended; ends jails that are over their budget of memory or tasks. It must not outlive the connection ([`Session::end_all`]).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::brake::Brake;
use crate::census::{self, Census, Table};
use crate::facts::JailFacts;
use crate::inside;
use crate::inspect::{self, ProcessUsage};
use crate::launch::{Jail, Late, Settings, end_strays, launch};
use crate::protocol::{
    Call, Exit, ExitCause, JailError, JailId, JailStats, MAX_JAILS, Outcome, Request, Response, SandboxReason,
    SpawnSpec, Step, VERSION,
};
use crate::resources;
use crate::watchdog::{self, Relief};

/// How many exits are remembered until somebody asks.
const MAX_EXITS: usize = 256;

/// The jails of one connection.
pub struct Session<'a> {
    settings: &'a Settings,
    next: u64,
    living: BTreeMap<JailId, Jail>,
    exits: BTreeMap<JailId, Exit>,
    late: Late,
    brake: Brake,
    census: Census,
    /// Whether a jail was made that no look has seen yet.
    fresh: bool,
}

fn signal_kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn request_error(reason: SandboxReason) -> JailError {
    JailError {
        step: Step::Request,
        errno: None,
        reason,
    }
}

impl<'a> Session<'a> {
    /// A session without jails, but for what earlier ones have left to be reaped.
    pub fn new(settings: &'a Settings, late: Late) -> Self {
        Self {
            settings,
            next: 1,
            living: BTreeMap::new(),
            exits: BTreeMap::new(),
            late,
            brake: Brake::default(),
            census: Census::default(),
            fresh: false,
        }
    }

    /// Readable when a jail has ended.
    pub fn pidfds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.living.values().map(|jail| jail.pidfd.as_fd())
    }

    /// Answers one request.
    pub fn handle(&mut self, request: &Request) -> (Response, Vec<OwnedFd>) {
        let mut fds = Vec::new();
        let outcome = if request.version == VERSION {
            self.call(&request.call, &mut fds)
        } else {
            Err(request_error(SandboxReason::BadRequest))
        };
        let outcome = outcome.unwrap_or_else(Outcome::Failed);
        (
            Response {
                version: VERSION,
                number: request.number,
                outcome,
            },
            fds,
        )
    }

    fn call(&mut self, call: &Call, fds: &mut Vec<OwnedFd>) -> Result<Outcome, JailError> {
        match call {
            Call::Spawn(spec) => self.spawn(spec, fds),
            Call::Kill { jail } => self.kill(*jail).map(Outcome::Killed),
            Call::Stats { jail } => self.stats(*jail).map(Outcome::Stats),
            Call::Facts { jail } => self.facts(*jail).map(Outcome::Facts),
        }
    }

    fn spawn(&mut self, spec: &SpawnSpec, fds: &mut Vec<OwnedFd>) -> Result<Outcome, JailError> {
        self.collect_dead();
        if self.living.len() + self.late.count() >= MAX_JAILS {
            return Err(request_error(SandboxReason::TooManyJails));
        }
        let (jail, ends) = launch(self.settings, spec, &mut self.late)?;
        let (id, degraded) = (JailId(self.next), jail.degraded);
        self.next += 1;
        self.living.insert(id, jail);
        self.fresh = true;
        fds.extend([ends.cdp_read, ends.cdp_write]);
        fds.extend(ends.listeners);
        Ok(Outcome::Spawned {
            jail: id,
            ports: ends.ports,
            degraded,
        })
    }

    fn kill(&mut self, id: JailId) -> Result<Exit, JailError> {
        match self.living.remove(&id) {
            Some(jail) => Ok(self.end(id, jail, ExitCause::Killed)),
            None => self.exits.remove(&id).ok_or(request_error(SandboxReason::UnknownJail)),
        }
    }

    fn stats(&mut self, id: JailId) -> Result<JailStats, JailError> {
        self.collect_dead();
        if let Some(exit) = self.exits.get(&id).copied() {
            let (processes, tasks, anonymous_bytes, shared_bytes, cpu_ms) = (0, 0, 0, 0, 0);
            return Ok(JailStats {
                age_ms: exit.lived_ms,
                processes,
                tasks,
                anonymous_bytes,
                shared_bytes,
                cpu_ms,
                exit: Some(exit),
            });
        }
        let table = self.table();
        let jail = self.living.get(&id).ok_or(request_error(SandboxReason::UnknownJail))?;
        let usage = inspect::sum(&inspect::usages(&table, jail.pid.as_raw_pid()));
        Ok(JailStats {
            age_ms: u64::try_from(jail.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            processes: usage.processes,
            tasks: usage.tasks,
            anonymous_bytes: usage.anonymous_bytes,
            shared_bytes: usage.shared_bytes,
            cpu_ms: usage.cpu_ms,
            exit: None,
        })
    }

    fn facts(&self, id: Option<JailId>) -> Result<JailFacts, JailError> {
        let mut facts = JailFacts {
            jailer: inspect::jailer(),
            jail: id,
            ..JailFacts::default()
        };
        if let Some(id) = id {
            let jail = self.living.get(&id).ok_or(request_error(SandboxReason::UnknownJail))?;
            let pid = jail.pid.as_raw_pid();
            (facts.degraded, facts.landlock, facts.secrets) = (jail.degraded, jail.landlock, jail.secrets);
            facts.ports = inside::ports(pid, &jail.ports, jail.inward.as_ref());
            (facts.processes, facts.truncated) = inspect::processes(pid);
            (facts.interfaces, facts.routes) = (inspect::interfaces(pid), inspect::routes(pid));
        }
        Ok(facts)
    }

    /// Reaps the jails that ended by themselves and remembers how.
    pub fn collect_dead(&mut self) {
        self.late.look();
        self.end_where(ExitCause::Died, |_, jail| jail.has_ended());
    }

    /// Whether a jail was made since the last look.
    pub fn has_fresh(&self) -> bool {
        self.fresh
    }

    /// The watchdog: limits of the kernel are per process, the budget is for the jail. Returns when to look again.
    pub fn watch(&mut self) -> Duration {
        self.collect_dead();
        self.fresh = false;
        let table = self.table();
        let jails: BTreeMap<JailId, Vec<ProcessUsage>> = self
            .living
            .iter()
            .map(|(id, jail)| (*id, inspect::usages(&table, jail.pid.as_raw_pid())))
            .collect();
        for (id, jail) in &self.living {
            let root = jail.pid.as_raw_pid();
            self.brake.follow(*id, root, &census::families(&table, root));
        }
        for processes in jails.values() {
            watchdog::overgrown(processes).for_each(signal_kill);
        }
        let (limit, used) = self.memory(&jails);
        if watchdog::pressed(used, limit) {
            self.relieve(&jails);
        }
        for (id, processes) in &jails {
            let budget = self.living.get(id).map(|jail| jail.memory_budget);
            let cause = budget.and_then(|budget| watchdog::over_budget(inspect::sum(processes), budget));
            if let Some(cause) = cause {
                self.end_where(cause, |other, _| other == *id);
            }
        }
        watchdog::pause(used, limit)
    }

    /// When the container's memory runs out, whoever holds most of it goes: else the kernel would choose, and on cgroup v2 it
    /// would take every jail.
    fn relieve(&mut self, jails: &BTreeMap<JailId, Vec<ProcessUsage>>) {
        let jails = jails.iter().map(|(id, processes)| (*id, processes.clone()));
        match watchdog::relief(jails) {
            Some(Relief::Process(pid)) => signal_kill(pid),
            Some(Relief::Jail(id)) => self.end_where(ExitCause::MemoryBudget, |other, _| other == id),
            None => {}
        }
    }

    /// Between two looks of the watchdog: pages that compute stand back. Returns when to look again.
    pub fn glance(&mut self) -> Duration {
        self.brake.look()
    }

    /// Every process of the jails.
    fn table(&mut self) -> Table {
        let roots: Vec<i32> = self.living.values().map(|jail| jail.pid.as_raw_pid()).collect();
        self.census.take(&roots)
    }

    /// The container's limit and use; with a limit of our own, what the jails hold counts against that.
    fn memory(&self, jails: &BTreeMap<JailId, Vec<ProcessUsage>>) -> (Option<u64>, u64) {
        if let Some(limit) = self.settings.memory_limit {
            let held = jails.values().map(|processes| inspect::sum(processes).bytes());
            (Some(limit), held.sum())
        } else {
            resources::memory()
        }
    }

    fn end_where(&mut self, cause: ExitCause, matches: impl Fn(JailId, &Jail) -> bool) {
        let ended: Vec<_> = self
            .living
            .iter()
            .filter(|(id, jail)| matches(**id, jail))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some(jail) = self.living.remove(&id) {
                let exit = self.end(id, jail, cause);
                self.exits.insert(id, exit);
            }
        }
        while self.exits.len() > MAX_EXITS {
            self.exits.pop_first();
        }
    }

    /// A namespace takes its processes along; without one they are looked for.
    fn end(&mut self, id: JailId, jail: Jail, cause: ExitCause) -> Exit {
        self.brake.forget(id);
        let degraded = jail.degraded;
        let exit = jail.end(cause, &mut self.late);
        if degraded {
            let living: Vec<_> = self.living.values().map(|jail| jail.pid.as_raw_pid()).collect();
            end_strays(&living);
        }
        exit
    }

    /// Ends every jail: the connection is over. Returns what is still to be reaped.
    pub fn end_all(mut self) -> Late {
        self.end_where(ExitCause::Killed, |_, _| true);
        self.late
    }
}
