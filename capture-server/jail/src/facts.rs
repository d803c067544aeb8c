//! What really confines a jail's processes, and whether that is enough.
//!
//! In: facts as the jailer read them from /proc (`inspect`). Out: [`verify`]'s verdict, a bounded list of reasons.
//! Pure: nothing here reads anything. What could not be read counts as not confined.

use serde::{Deserialize, Serialize};

use crate::protocol::JailId;
use crate::resources::Resources;

/// What a process of the jail is, by its `--type=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The jail's pid 1; has no `--type`.
    Browser,
    /// The GPU process and its broker.
    Gpu,
    /// The network service.
    Network,
    /// A zygote or its helper.
    Zygote,
    /// Runs pages.
    Renderer,
    /// Any other.
    Other,
}

/// One process of a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessFacts {
    /// What it is.
    pub role: Role,
    /// `Seccomp:` of its status: 2 is a filter.
    pub seccomp_mode: u32,
    /// `Seccomp_filters:` of its status.
    pub seccomp_filters: u32,
    /// `CapEff:` of its status.
    pub cap_eff: u64,
    /// `NoNewPrivs:` of its status.
    pub no_new_privs: bool,
    /// Inode number of its user namespace; 0 if it could not be read.
    pub userns: u64,
    /// Inode number of its pid namespace; 0 if it could not be read.
    pub pidns: u64,
    /// Inode number of its network namespace; 0 if it could not be read.
    pub netns: u64,
    /// Where its root link points; empty if it could not be read.
    pub root: String,
}

/// The jailer itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailerFacts {
    /// `Seccomp:` of its status.
    pub seccomp_mode: u32,
    /// `Seccomp_filters:` of its status; 0 means that no profile is applied to the container.
    pub seccomp_filters: u32,
    /// `CapEff:` of its status.
    pub cap_eff: u64,
    /// `NoNewPrivs:` of its status.
    pub no_new_privs: bool,
    /// Inode number of its user namespace.
    pub userns: u64,
    /// Inode number of its pid namespace.
    pub pidns: u64,
    /// Inode number of its network namespace.
    pub netns: u64,
    /// The kernel's Landlock ABI; 0 if it has none.
    pub landlock_abi: u32,
    /// What its container may use.
    pub resources: Resources,
}

/// Which parts of Landlock the kernel enforces on a jail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LandlockFacts {
    /// File access (ABI 1).
    pub files: bool,
    /// TCP bind and connect (ABI 4).
    pub tcp: bool,
    /// Abstract Unix sockets and signals (ABI 6).
    pub scopes: bool,
}

/// Everything that was read about a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailFacts {
    /// The jailer.
    pub jailer: JailerFacts,
    /// Which jail; `None` if only the jailer was asked about.
    pub jail: Option<JailId>,
    /// Whether the jail has no namespaces and its browser no sandbox.
    pub degraded: bool,
    /// What Landlock enforces.
    pub landlock: LandlockFacts,
    /// Its processes, browser first.
    pub processes: Vec<ProcessFacts>,
    /// Whether there were more processes than are listed.
    pub truncated: bool,
    /// Network interfaces that its browser sees.
    pub interfaces: Vec<String>,
    /// IPv4 and IPv6 routes that leave the loopback interface.
    pub routes: u32,
}

/// One thing that is not as promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The jail is the degraded kind.
    Degraded,
    /// No browser process was found.
    NoBrowser,
    /// No renderer was found: open a page first.
    NoRenderer,
    /// More processes than were looked at.
    TooManyProcesses,
    /// A renderer has no seccomp filter beyond the browser's.
    RendererUnfiltered,
    /// The GPU process has no seccomp filter beyond the browser's.
    GpuUnfiltered,
    /// A process is in the jailer's user namespace, or a renderer in the browser's.
    SharedUserNamespace,
    /// The same for the pid namespace.
    SharedPidNamespace,
    /// The same for the network namespace.
    SharedNetworkNamespace,
    /// A renderer's root is the container's.
    RendererSeesRoot,
    /// A process holds capabilities (a zygote may, in a user namespace of its own).
    CapabilitiesHeld,
    /// A process could gain privileges by exec.
    PrivilegesMayGrow,
    /// The jail has another interface than `lo`, or none could be read.
    ExtraInterface,
    /// The jail has a route.
    RoutePresent,
    /// The kernel does not confine its files.
    LandlockUnavailable,
}

impl Reason {
    /// A bounded word for conditions, events and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Degraded => "SandboxDegraded",
            Self::NoBrowser => "NoBrowser",
            Self::NoRenderer => "NoRenderer",
            Self::TooManyProcesses => "TooManyProcesses",
            Self::RendererUnfiltered => "RendererUnfiltered",
            Self::GpuUnfiltered => "GpuUnsandboxed",
            Self::SharedUserNamespace => "SharedUserNamespace",
            Self::SharedPidNamespace => "SharedPidNamespace",
            Self::SharedNetworkNamespace => "SharedNetworkNamespace",
            Self::RendererSeesRoot => "RendererSeesRoot",
            Self::CapabilitiesHeld => "CapabilitiesHeld",
            Self::PrivilegesMayGrow => "PrivilegesMayGrow",
            Self::ExtraInterface => "ExtraInterface",
            Self::RoutePresent => "RoutePresent",
            Self::LandlockUnavailable => "LandlockUnavailable",
        }
    }
}

/// Whether a jail with an open page is confined as promised.
///
/// # Errors
/// Every reason why not, sorted, each once; never an empty list.
pub fn verify(facts: &JailFacts) -> Result<(), Vec<Reason>> {
    let mut reasons = jail_reasons(facts);
    if let Some(browser) = facts.processes.iter().find(|process| process.role == Role::Browser) {
        for process in &facts.processes {
            process_reasons(process, browser, &facts.jailer, &mut reasons);
        }
    } else {
        reasons.push(Reason::NoBrowser);
    }
    reasons.sort_unstable();
    reasons.dedup();
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn jail_reasons(facts: &JailFacts) -> Vec<Reason> {
    let has_renderer = facts.processes.iter().any(|process| process.role == Role::Renderer);
    let only_loopback = facts.interfaces.iter().eq(["lo"].iter());
    [
        (facts.degraded, Reason::Degraded),
        (!has_renderer, Reason::NoRenderer),
        (facts.truncated, Reason::TooManyProcesses),
        (!only_loopback, Reason::ExtraInterface),
        (facts.routes > 0, Reason::RoutePresent),
        (!facts.landlock.files, Reason::LandlockUnavailable),
    ]
    .into_iter()
    .filter_map(|(wrong, reason)| wrong.then_some(reason))
    .collect()
}

fn process_reasons(process: &ProcessFacts, browser: &ProcessFacts, jailer: &JailerFacts, reasons: &mut Vec<Reason>) {
    let filtered = process.seccomp_mode == 2 && process.seccomp_filters > browser.seccomp_filters;
    let namespaces = [
        (
            process.userns,
            browser.userns,
            jailer.userns,
            Reason::SharedUserNamespace,
        ),
        (process.pidns, browser.pidns, jailer.pidns, Reason::SharedPidNamespace),
        (
            process.netns,
            browser.netns,
            jailer.netns,
            Reason::SharedNetworkNamespace,
        ),
    ];
    for (own, browsers, jailers, reason) in namespaces {
        let shared_with_browser = process.role == Role::Renderer && own == browsers;
        if own == 0 || own == jailers || shared_with_browser {
            reasons.push(reason);
        }
    }
    if process.role == Role::Renderer {
        if !filtered {
            reasons.push(Reason::RendererUnfiltered);
        }
        if process.root.is_empty() || process.root == "/" {
            reasons.push(Reason::RendererSeesRoot);
        }
    }
    if process.role == Role::Gpu && !filtered {
        reasons.push(Reason::GpuUnfiltered);
    }
    // Chromium's zygote helper keeps CAP_SYS_ADMIN, but only inside the user namespace that the zygote made.
    let harmless = process.role == Role::Zygote && process.userns != 0 && process.userns != browser.userns;
    if process.cap_eff != 0 && !harmless {
        reasons.push(Reason::CapabilitiesHeld);
    }
    if !process.no_new_privs {
        reasons.push(Reason::PrivilegesMayGrow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(role: Role, filters: u32, namespaces: [u64; 3], root: &str) -> ProcessFacts {
        let [userns, pidns, netns] = namespaces;
        let root = root.to_owned();
        ProcessFacts {
            role,
            seccomp_mode: 2,
            seccomp_filters: filters,
            cap_eff: 0,
            no_new_privs: true,
            userns,
            pidns,
            netns,
            root,
        }
    }

    /// As measured in a restricted pod.
    fn good() -> JailFacts {
        let helper = ProcessFacts {
            cap_eff: 0x20_0000,
            ..process(Role::Zygote, 1, [20, 21, 22], "/proc/9/fdinfo")
        };
        JailFacts {
            jailer: JailerFacts {
                seccomp_mode: 2,
                seccomp_filters: 1,
                cap_eff: 0,
                no_new_privs: true,
                userns: 1,
                pidns: 2,
                netns: 3,
                landlock_abi: 7,
                resources: Resources::default(),
            },
            jail: Some(JailId(1)),
            degraded: false,
            landlock: LandlockFacts {
                files: true,
                tcp: true,
                scopes: true,
            },
            processes: vec![
                process(Role::Browser, 1, [10, 11, 12], "/"),
                process(Role::Network, 1, [10, 11, 12], "/"),
                process(Role::Gpu, 2, [10, 11, 12], "/"),
                process(Role::Zygote, 1, [10, 11, 12], "/"),
                helper,
                process(Role::Renderer, 2, [20, 31, 22], "/proc/9/fdinfo (deleted)"),
            ],
            truncated: false,
            interfaces: vec!["lo".to_owned()],
            routes: 0,
        }
    }

    const BROWSER: usize = 0;
    const GPU: usize = 2;
    const HELPER: usize = 4;
    const RENDERER: usize = 5;

    #[test]
    fn the_facts_of_a_restricted_pod_are_enough() {
        assert_eq!(verify(&good()), Ok(()));
    }

    #[test]
    fn taking_away_any_one_thing_is_noticed_and_named() {
        type Change = fn(&mut JailFacts);
        let table: &[(Reason, Change)] = &[
            (Reason::Degraded, |f| f.degraded = true),
            (Reason::NoRenderer, |f| drop(f.processes.pop())),
            (Reason::TooManyProcesses, |f| f.truncated = true),
            (Reason::RendererUnfiltered, |f| {
                f.processes[RENDERER].seccomp_filters = 1;
            }),
            (Reason::RendererUnfiltered, |f| f.processes[RENDERER].seccomp_mode = 0),
            (Reason::GpuUnfiltered, |f| f.processes[GPU].seccomp_filters = 1),
            (Reason::GpuUnfiltered, |f| f.processes[GPU].seccomp_mode = 0),
            (Reason::SharedUserNamespace, |f| f.processes[RENDERER].userns = 10),
            (Reason::SharedUserNamespace, |f| f.processes[RENDERER].userns = 0),
            (Reason::SharedUserNamespace, |f| f.processes[BROWSER].userns = 1),
            (Reason::SharedPidNamespace, |f| f.processes[RENDERER].pidns = 11),
            (Reason::SharedPidNamespace, |f| f.processes[BROWSER].pidns = 2),
            (Reason::SharedNetworkNamespace, |f| f.processes[RENDERER].netns = 12),
            (Reason::SharedNetworkNamespace, |f| f.processes[BROWSER].netns = 3),
            (Reason::RendererSeesRoot, |f| {
                f.processes[RENDERER].root = "/".to_owned();
            }),
            (Reason::RendererSeesRoot, |f| f.processes[RENDERER].root.clear()),
            (Reason::CapabilitiesHeld, |f| f.processes[RENDERER].cap_eff = 1),
            (Reason::CapabilitiesHeld, |f| f.processes[BROWSER].cap_eff = 0x20_0000),
            (Reason::CapabilitiesHeld, |f| f.processes[HELPER].userns = 10),
            (Reason::PrivilegesMayGrow, |f| f.processes[GPU].no_new_privs = false),
            (Reason::ExtraInterface, |f| f.interfaces.push("eth0".to_owned())),
            (Reason::ExtraInterface, |f| f.interfaces.clear()),
            (Reason::RoutePresent, |f| f.routes = 1),
            (Reason::LandlockUnavailable, |f| f.landlock.files = false),
        ];
        for (row, (reason, change)) in table.iter().enumerate() {
            let mut facts = good();
            change(&mut facts);
            assert_eq!(verify(&facts), Err(vec![*reason]), "row {row}");
        }
    }

    #[test]
    fn without_a_browser_nothing_can_be_compared_and_nothing_is_verified() {
        let mut facts = good();
        facts.processes.clear();
        assert_eq!(verify(&facts), Err(vec![Reason::NoBrowser, Reason::NoRenderer]));
    }
}
