//! Why a jail could not be made: which step, the kernel's answer, what it means.
//!
//! In and out: plain values that travel in answers. Every enum here is a bounded set, fit for conditions, events and
//! metrics. It must not carry text from outside.

use serde::{Deserialize, Serialize};

/// Why a jail was not made or a question not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {} failed (errno {})", .reason.reason(), .step.name(), .errno.unwrap_or(0))]
#[serde(deny_unknown_fields)]
pub struct JailError {
    /// Which step.
    pub step: Step,
    /// The kernel's answer, if it was the kernel.
    pub errno: Option<i32>,
    /// What it means.
    pub reason: SandboxReason,
}

impl JailError {
    /// A bounded word for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        self.reason.reason()
    }
}

/// The steps of making a jail, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Step {
    Request,
    ProfileDirectory,
    Pipes,
    Clone,
    ParentDeathSignal,
    DenySetgroups,
    MapUser,
    MapGroup,
    LoopbackUp,
    Listen,
    Limits,
    NoNewPrivileges,
    Landlock,
    SocketFilter,
    Files,
    Exec,
    Report,
}

impl Step {
    /// The step's name, as it appears in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::ProfileDirectory => "profile directory",
            Self::Pipes => "pipes",
            Self::Clone => "clone",
            Self::ParentDeathSignal => "parent death signal",
            Self::DenySetgroups => "deny setgroups",
            Self::MapUser => "uid_map",
            Self::MapGroup => "gid_map",
            Self::LoopbackUp => "loopback up",
            Self::Listen => "listen",
            Self::Limits => "limits",
            Self::NoNewPrivileges => "no_new_privs",
            Self::Landlock => "landlock",
            Self::SocketFilter => "socket filter",
            Self::Files => "file descriptors",
            Self::Exec => "exec",
            Self::Report => "report",
        }
    }
}

/// What a failure means to whoever runs the node or calls the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxReason {
    /// User namespaces are refused here.
    UserNamespacesBlocked(Blocker),
    /// The kernel has no Landlock, where there is nothing else.
    LandlockUnavailable,
    /// Too many processes: podPidsLimit or RLIMIT_NPROC.
    PidLimit,
    /// The browser's binary could not be executed.
    ExecFailed,
    /// The child ended before it could say why.
    ChildLost,
    /// The profile directory could not be made (read-only or full).
    ProfileDirectory,
    /// The kernel refused something that works everywhere else: descriptors, memory.
    Resources,
    /// The request was out of range or of another version.
    BadRequest,
    /// No such jail.
    UnknownJail,
    /// [`MAX_JAILS`] live already.
    TooManyJails,
}

/// Who refuses user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocker {
    /// A seccomp filter: the shipped Localhost profile is not applied.
    SeccompFilter,
    /// A setting of the node, such as `kernel.unprivileged_userns_clone=0`.
    NodeSetting,
    /// `user.max_user_namespaces` is 0 or used up.
    Limit,
    /// The clone worked but the namespace is powerless: AppArmor's restriction.
    Confined,
}

impl SandboxReason {
    /// All of them, the first with one of its blockers.
    pub const ALL: [Self; 10] = [
        Self::UserNamespacesBlocked(Blocker::SeccompFilter),
        Self::LandlockUnavailable,
        Self::PidLimit,
        Self::ExecFailed,
        Self::ChildLost,
        Self::ProfileDirectory,
        Self::Resources,
        Self::BadRequest,
        Self::UnknownJail,
        Self::TooManyJails,
    ];

    /// A bounded word for conditions, events and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UserNamespacesBlocked(_) => "UserNamespacesBlocked",
            Self::LandlockUnavailable => "LandlockUnavailable",
            Self::PidLimit => "PidLimit",
            Self::ExecFailed => "ExecFailed",
            Self::ChildLost => "ChildLost",
            Self::ProfileDirectory => "ProfileDirectory",
            Self::Resources => "Resources",
            Self::BadRequest => "BadRequest",
            Self::UnknownJail => "UnknownJail",
            Self::TooManyJails => "TooManyJails",
        }
    }
}
