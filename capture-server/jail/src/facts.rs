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

/// What was tried from inside a jail with files that it must not read. Nothing is read of what opens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFacts {
    /// Files that are there for the jailer to open: without one, nothing is proven.
    pub witnesses: u32,
    /// Files that the jail could open: those, environments of other processes, places of Secrets.
    pub opened: u32,
}

/// Which ports answer in a jail's network, its proxy's aside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortFacts {
    /// Whether the kernel's list could be read and every port asked.
    pub asked: bool,
    /// Ports that somebody listens on or answers at.
    pub found: Vec<u16>,
}

/// Which parts of Landlock the kernel enforces on a jail: as the rules were taken, and for all but files as it was tried.
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

impl LandlockFacts {
    /// All that the newest tested kernel can do.
    pub const ALL: Self = Self {
        files: true,
        tcp: true,
        scopes: true,
    };

    /// What a kernel with this ABI can do.
    pub fn offered(abi: u32) -> Self {
        Self {
            files: abi >= 1,
            tcp: abi >= 4,
            scopes: abi >= 6,
        }
    }

    /// Whether something is missing that the kernel offers.
    fn lacks(self, offered: Self) -> bool {
        (offered.files && !self.files) || (offered.tcp && !self.tcp) || (offered.scopes && !self.scopes)
    }
}

/// Everything that was read about a jail; by default nothing was, and that is no confined browser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What it could open that it must not.
    pub secrets: SecretFacts,
    /// Which ports answer in its network.
    pub ports: PortFacts,
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
    /// No GPU process was found: every browser of ours has one, and one that hides is not known to be filtered.
    NoGpuProcess,
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
    /// The kernel's Landlock could confine its files, TCP ports, abstract sockets and signals, and does not all of it.
    LandlockIncomplete,
    /// A file that it must not read could be opened from inside.
    SecretsReadable,
    /// There was no file to try that with.
    SecretsUntried,
    /// Something listens or answers in its network besides its proxy.
    DevtoolsReachable,
    /// Its network could not be asked.
    DevtoolsUntried,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Degraded,
        Self::NoBrowser,
        Self::NoRenderer,
        Self::NoGpuProcess,
        Self::TooManyProcesses,
        Self::RendererUnfiltered,
        Self::GpuUnfiltered,
        Self::SharedUserNamespace,
        Self::SharedPidNamespace,
        Self::SharedNetworkNamespace,
        Self::RendererSeesRoot,
        Self::CapabilitiesHeld,
        Self::PrivilegesMayGrow,
        Self::ExtraInterface,
        Self::RoutePresent,
        Self::LandlockUnavailable,
        Self::LandlockIncomplete,
        Self::SecretsReadable,
        Self::SecretsUntried,
        Self::DevtoolsReachable,
        Self::DevtoolsUntried,
    ];

    /// A bounded word for conditions, events and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Degraded => "SandboxDegraded",
            Self::NoBrowser => "NoBrowser",
            Self::NoRenderer => "NoRenderer",
            Self::NoGpuProcess => "NoGpuProcess",
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
            Self::LandlockIncomplete => "LandlockIncomplete",
            Self::SecretsReadable => "SecretsReadable",
            Self::SecretsUntried => "SecretsUntried",
            Self::DevtoolsReachable => "DevtoolsReachable",
            Self::DevtoolsUntried => "DevtoolsUntried",
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
    let has = |role| facts.processes.iter().any(|process| process.role == role);
    let offered = LandlockFacts::offered(facts.jailer.landlock_abi);
    let only_loopback = facts.interfaces.iter().eq(["lo"].iter());
    [
        (facts.degraded, Reason::Degraded),
        (!has(Role::Renderer), Reason::NoRenderer),
        (!has(Role::Gpu), Reason::NoGpuProcess),
        (facts.truncated, Reason::TooManyProcesses),
        (!only_loopback, Reason::ExtraInterface),
        (facts.routes > 0, Reason::RoutePresent),
        (!facts.landlock.files, Reason::LandlockUnavailable),
        (
            facts.landlock.files && facts.landlock.lacks(offered),
            Reason::LandlockIncomplete,
        ),
        (facts.secrets.opened > 0, Reason::SecretsReadable),
        (facts.secrets.witnesses == 0, Reason::SecretsUntried),
        (!facts.ports.found.is_empty(), Reason::DevtoolsReachable),
        (!facts.ports.asked, Reason::DevtoolsUntried),
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
mod tests;
