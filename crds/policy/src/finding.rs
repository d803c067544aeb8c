//! What a pod can find wrong with the confinement of its browsers: one list of words for both sides.
//!
//! In: nothing. Out: [`Finding`]s by name. The server attests one as the reason why a sandbox is not verified
//! ([`SandboxFacts::reason`](crate::attest::SandboxFacts::reason)); the operator shows it as the reason of `SandboxVerified`
//! and takes no word that is not here. Must not: say what follows from one.

use std::fmt;

macro_rules! findings {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// One finding. Its word is its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Finding {
            $($(#[doc = $text])+ $name,)+
        }

        impl Finding {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

findings! {
    /// A jail without namespaces, its browser without a sandbox of its own.
    SandboxDegraded,
    /// No browser process was found.
    NoBrowser,
    /// No process of a page was found.
    NoRenderer,
    /// No GPU process was found.
    NoGpuProcess,
    /// More processes than are looked at.
    TooManyProcesses,
    /// A page's process has no filter of its own.
    RendererUnfiltered,
    /// The GPU process has no filter of its own.
    GpuUnsandboxed,
    /// A user namespace that must be a process's own is shared.
    SharedUserNamespace,
    /// A pid namespace that must be a process's own is shared.
    SharedPidNamespace,
    /// A network namespace that must be a process's own is shared.
    SharedNetworkNamespace,
    /// A page's process sees the container's files.
    RendererSeesRoot,
    /// A process has capabilities.
    CapabilitiesHeld,
    /// A process could gain privileges.
    PrivilegesMayGrow,
    /// A network interface besides the loopback.
    ExtraInterface,
    /// A route out.
    RoutePresent,
    /// Landlock confines no files.
    LandlockUnavailable,
    /// Landlock does not confine all that the kernel's could.
    LandlockIncomplete,
    /// A file that must be out of reach could be opened from inside.
    SecretsReadable,
    /// There was no file to try that with.
    SecretsUntried,
    /// Something besides the proxy answers in the browser's network.
    DevtoolsReachable,
    /// The browser's network could not be asked.
    DevtoolsUntried,
    /// User namespaces are refused.
    UserNamespacesBlocked,
    /// No more processes or threads could be had.
    PidLimit,
    /// The browser's program could not be started.
    ExecFailed,
    /// A jail ended before it could say why.
    ChildLost,
    /// The browser's private directory could not be made.
    ProfileDirectory,
    /// Descriptors or memory could not be had.
    Resources,
    /// The jailer did not understand the server.
    BadRequest,
    /// A jail was gone when it was asked about.
    UnknownJail,
    /// More jails than the jailer holds.
    TooManyJails,
    /// The jailer's socket is not there.
    JailerAbsent,
    /// The jailer takes no connection.
    JailerRefused,
    /// The jailer is gone.
    JailerClosed,
    /// The jailer was not understood.
    JailerProtocol,
    /// The browser ended while it started.
    BrowserDiedEarly,
    /// The browser ended later.
    BrowserDied,
    /// The browser was ended for its memory.
    MemoryBudget,
    /// The browser was ended for its processes and threads.
    TaskBudget,
    /// The browser did not do as it was told.
    BrowserFailed,
    /// The browser did not answer in time.
    BrowserTimeout,
}

impl Finding {
    /// The finding with this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|finding| finding.word() == word)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kubernetes wants the reason of a condition.
    #[test]
    fn every_finding_is_found_by_its_word_which_is_fit_for_a_condition() {
        for finding in Finding::ALL {
            let word = finding.to_string();
            assert_eq!(Finding::named(&word), Some(*finding));
            assert!(
                word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric())
            );
        }
        assert_eq!(Finding::named("anything"), None);
    }
}
