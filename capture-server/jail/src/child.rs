//! The child's way from the clone to the browser's first instruction.
//!
//! In: everything prepared by the jailer. Out: never returns; reports each outcome and becomes the browser or exits.
//! The order matters: namespaces first, sockets before Landlock forbids to bind, no_new_privs before Landlock and the
//! filter, exec last. It must not return into the jailer's loop, whose copy it is.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::facts::{LandlockFacts, SecretFacts};
use crate::flags;
use crate::inside::{self, Beacon, Trial};
use crate::protocol::{Blocker, JailError, SandboxReason, SpawnSpec, Step};
use crate::report::{self, Report};
use crate::watchdog::MAX_TASKS;
use crate::{landlock, socket_filter, sys};

/// Thread stacks count in RLIMIT_DATA; below 1 MiB pages with deep recursion hang.
const STACK_BYTES: u64 = 2 << 20;

/// Which layers are on. A jail has all that its kind can have; tests take one away to see that it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// User, network and pid namespace.
    pub namespaces: bool,
    /// Landlock, each part of it.
    pub landlock: LandlockFacts,
    /// The socket filter.
    pub socket_filter: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            namespaces: true,
            landlock: LandlockFacts::ALL,
            socket_filter: true,
        }
    }
}

/// What the child needs; all of it made before the clone.
pub struct Plan<'a> {
    /// The browser's binary.
    pub program: &'a Path,
    /// Its private directory.
    pub profile: &'a Path,
    /// The request.
    pub spec: &'a SpawnSpec,
    /// Which layers are on.
    pub layers: Layers,
    /// Names of switches that the browser does not get.
    pub withheld: &'a [String],
    /// What to try from inside.
    pub trial: &'a Trial,
    /// Where the browser's log goes; to the jailer's standard error if absent.
    pub log: Option<&'a OwnedFd>,
    /// This process's uid and gid: inside the jail they are the same numbers.
    pub ids: (u32, u32),
}

type Failure = (Step, io::Error);

trait At<T> {
    fn at(self, step: Step) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| (step, error.into()))
    }
}

/// Runs the child to its end.
pub fn run(plan: &Plan<'_>, cdp: (OwnedFd, OwnedFd), report: OwnedFd) -> ! {
    let (report, failure) = match prepare(plan, &report) {
        Ok(ports) => become_browser(plan, &ports, cdp, report),
        Err(failure) => (report, failure),
    };
    let error = classify(failure.0, &failure.1);
    let _ = report::send(&report, &Report::Failed(error), &[]);
    sys::exit(127)
}

fn prepare(plan: &Plan<'_>, report: &OwnedFd) -> Result<Vec<u16>, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at(Step::ParentDeathSignal)?;
    if plan.layers.namespaces {
        enter_namespaces(plan.ids)?;
    }
    let (listeners, ports) = listen(plan.spec.contexts).at(Step::Listen)?;
    let inward = inside::socket().at(Step::Listen)?;
    let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).chain([inward.as_fd()]).collect();
    report::send(report, &Report::Listening(ports.clone()), &fds).at(Step::Report)?;
    drop((listeners, inward)); // The server's and the jailer's now; the browser must not accept on them.
    standard_streams(plan.log).at(Step::Files)?;
    std::env::set_current_dir(plan.profile).at(Step::Files)?;
    limit(plan).at(Step::Limits)?;
    rustix::thread::set_no_new_privs(true).at(Step::NoNewPrivileges)?;
    let (landlock, secrets) = confine(plan, &ports)?;
    sys::default_signals().at(Step::Exec)?;
    report::send(report, &Report::Confined(landlock, secrets), &[]).at(Step::Report)?;
    Ok(ports)
}

/// Maps the own ids to themselves (the browser must not be root, or exec would keep its capabilities) and brings `lo` up.
fn enter_namespaces((uid, gid): (u32, u32)) -> Result<(), Failure> {
    fs::write("/proc/self/setgroups", "deny").at(Step::DenySetgroups)?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).at(Step::MapUser)?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).at(Step::MapGroup)?;
    let tcp = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).at(Step::LoopbackUp)?;
    sys::loopback_up(&tcp).at(Step::LoopbackUp)
}

#[expect(
    clippy::disallowed_methods,
    reason = "inside the jail, whose only network is loopback"
)]
fn listen(count: u16) -> io::Result<(Vec<TcpListener>, Vec<u16>)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listeners = (0..count)
        .map(|_| TcpListener::bind(address))
        .collect::<io::Result<Vec<_>>>()?;
    let ports = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<io::Result<_>>()?;
    Ok((listeners, ports))
}

fn standard_streams(log: Option<&OwnedFd>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    // The browser's log can hold URLs of pages: nowhere that is read but for one phrase, unless a developer asked.
    if let Some(log) = log {
        rustix::stdio::dup2_stderr(log)?;
    }
    Ok(())
}

fn limit(plan: &Plan<'_>) -> io::Result<()> {
    let data = u64::from(plan.spec.data_limit_mb) << 20;
    let mut limits = vec![
        (Resource::Data, data),
        (Resource::Stack, STACK_BYTES),
        (Resource::Core, 0),
    ];
    // Counted per user namespace; without one it would count every process of this uid on the node, and the watchdog
    // counts instead.
    if plan.layers.namespaces {
        let most = getrlimit(Resource::Nproc).maximum;
        let tasks = u64::from(MAX_TASKS);
        limits.push((Resource::Nproc, most.map_or(tasks, |most| most.min(tasks))));
    }
    for (resource, bound) in limits {
        setrlimit(
            resource,
            Rlimit {
                current: Some(bound),
                maximum: Some(bound),
            },
        )?;
    }
    Ok(())
}

fn confine(plan: &Plan<'_>, ports: &[u16]) -> Result<(LandlockFacts, SecretFacts), Failure> {
    let mut facts = LandlockFacts::default();
    if plan.layers.landlock != LandlockFacts::default() {
        let name = plan.profile.file_name().unwrap_or_default();
        let beacon = Beacon::light(name.as_bytes()).at(Step::Listen)?;
        facts = landlock::confine(plan.program, plan.profile, ports, plan.layers.landlock)
            .map_err(|_| (Step::Landlock, io::Error::from(io::ErrorKind::Unsupported)))?;
        // Files are tried below.
        facts.tcp = inside::tcp_is_refused();
        facts.scopes = beacon.is_out_of_reach();
        // Without namespaces this is the only wall.
        if !plan.layers.namespaces && !facts.files {
            return Err((Step::Landlock, io::ErrorKind::Unsupported.into()));
        }
    }
    if plan.layers.socket_filter {
        sys::install_filter(&socket_filter::program()).at(Step::SocketFilter)?;
    }
    // With everything on: what comes after this is the browser.
    Ok((facts, plan.trial.run()))
}

fn become_browser(plan: &Plan<'_>, ports: &[u16], cdp: (OwnedFd, OwnedFd), report: OwnedFd) -> (OwnedFd, Failure) {
    let options = flags::Options {
        proxy_port: ports.first().copied().unwrap_or(0),
        max_old_space_mb: plan.spec.max_old_space_mb,
        accepted_key: plan.spec.accepted_key,
        sandbox: plan.layers.namespaces,
    };
    let strings = CString::new(plan.program.as_os_str().as_bytes()).and_then(|program| {
        let mut arguments = vec![program.clone()];
        for argument in flags::arguments(plan.profile, options, plan.withheld) {
            arguments.push(CString::new(argument)?);
        }
        let environment = flags::environment(plan.profile)
            .into_iter()
            .map(CString::new)
            .collect::<Result<Vec<_>, _>>()?;
        Ok((program, arguments, environment))
    });
    match strings {
        Ok((program, arguments, environment)) => {
            let (report, error) = sys::exec_browser(cdp, report, &program, &arguments, &environment);
            (report, (Step::Exec, error))
        }
        Err(error) => (report, (Step::Exec, error.into())),
    }
}

/// What a failed step means.
pub fn classify(step: Step, error: &io::Error) -> JailError {
    let errno = error.raw_os_error();
    let refused = matches!(errno, Some(libc::EPERM | libc::EACCES));
    let reason = match step {
        // The clone worked, yet the new namespace is powerless: that is how AppArmor restricts it.
        Step::DenySetgroups | Step::MapUser | Step::MapGroup | Step::LoopbackUp if refused => {
            SandboxReason::UserNamespacesBlocked(Blocker::Confined)
        }
        Step::Clone if errno == Some(libc::EAGAIN) => SandboxReason::PidLimit,
        Step::Clone => blocker(errno, sys::user_namespace_probe()).map_or(SandboxReason::Resources, |blocker| {
            SandboxReason::UserNamespacesBlocked(blocker)
        }),
        Step::Landlock => SandboxReason::LandlockUnavailable,
        Step::Exec => SandboxReason::ExecFailed,
        Step::ProfileDirectory => SandboxReason::ProfileDirectory,
        Step::Request => SandboxReason::BadRequest,
        _ => SandboxReason::Resources,
    };
    JailError { step, errno, reason }
}

/// Who refused a clone, from its errno and the side-effect-free probe's.
fn blocker(clone: Option<i32>, probe: i32) -> Option<Blocker> {
    match (clone?, probe) {
        (libc::EPERM, libc::EPERM) => Some(Blocker::SeccompFilter),
        (libc::EPERM, _) => Some(Blocker::NodeSetting),
        (libc::ENOSPC | libc::EUSERS, _) => Some(Blocker::Limit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_tells_a_filter_from_a_setting_of_the_node() {
        assert_eq!(blocker(Some(libc::EPERM), libc::EPERM), Some(Blocker::SeccompFilter));
        assert_eq!(blocker(Some(libc::EPERM), libc::EINVAL), Some(Blocker::NodeSetting));
        assert_eq!(blocker(Some(libc::ENOSPC), libc::EINVAL), Some(Blocker::Limit));
        assert_eq!(blocker(Some(libc::ENOMEM), libc::EINVAL), None);
        assert_eq!(blocker(None, libc::EPERM), None);
    }

    #[test]
    fn a_refused_map_after_a_working_clone_is_a_confined_namespace() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        for step in [Step::MapUser, Step::LoopbackUp] {
            let reason = SandboxReason::UserNamespacesBlocked(Blocker::Confined);
            assert_eq!(
                classify(step, &refused),
                JailError {
                    step,
                    errno: Some(libc::EPERM),
                    reason
                }
            );
        }
        let full = io::Error::from_raw_os_error(libc::EMFILE);
        assert_eq!(classify(Step::LoopbackUp, &full).reason, SandboxReason::Resources);
    }

    #[test]
    fn too_many_processes_have_a_reason_of_their_own() {
        let error = io::Error::from_raw_os_error(libc::EAGAIN);
        assert_eq!(classify(Step::Clone, &error).reason, SandboxReason::PidLimit);
    }
}
