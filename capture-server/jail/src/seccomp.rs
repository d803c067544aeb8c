//! The seccomp profile of the container that holds the jailer and its browsers.
//!
//! In: the node's architecture. Out: plain OCI JSON (no Docker-style conditions, which containerd ignores, turning every
//! "only with a capability" into an unconditional yes), for a Localhost profile under Pod Security `restricted`.
//! It is containerd's default for a container without capabilities, minus what a browser does not need, plus the three
//! calls of Chromium's sandbox and of the jail with their arguments filtered.
//! Only the native architecture is listed: with the compat ones, `int 0x80` walks past the argument filters.

use clap::ValueEnum;
use serde::Serialize;

/// A node's architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// amd64.
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// arm64.
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    /// What this program was built for.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    fn seccomp_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
        }
    }
}

/// The profile, as the OCI runtime specification has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: &'static str,
    default_errno_ret: u32,
    architectures: Vec<&'static str>,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<&'static str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    /// Of a masked comparison `value` is the mask and this is what must be left.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_two: Option<u64>,
    op: &'static str,
}

/// NEWNS, NEWCGROUP, NEWUTS and NEWIPC must be absent; NEWUSER, NEWPID and NEWNET are what jail and sandbox are made of.
const FORBIDDEN_NAMESPACES: u64 = 0x0E02_0000;
const NEW_USER_NAMESPACE: u64 = 0x1000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Allowed without a look at the arguments.
#[rustfmt::skip] // One name a line would hide the groups.
const PLAIN: &[&str] = &[
    // Chromium's sandbox: its helper goes to an empty root. Needs a capability, so only inside a user namespace.
    "chroot",
    // Landlock: the jail's own.
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self",
    // Only on x86_64; see `names`.
    "arch_prctl",
    // Files: open, read, write, status.
    "_llseek", "access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range", "creat",
    "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fchdir", "fchmod",
    "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "flock", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futimesat", "getcwd",
    "getdents", "getdents64", "ioctl", "lchown", "lchown32", "link", "linkat", "lseek", "lstat", "lstat64", "mkdir",
    "mkdirat", "mknod", "mknodat", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv",
    "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "rename",
    "renameat", "renameat2", "rmdir", "sendfile", "sendfile64", "splice", "stat", "stat64", "statfs", "statfs64",
    "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "truncate", "truncate64", "umask",
    "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64", "utimes", "write", "writev",
    // Extended attributes and security attributes (ordinary ones; the privileged need capabilities).
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr", "listxattr",
    "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "lsm_get_self_attr", "lsm_list_modules",
    "lsm_set_self_attr", "removexattr", "removexattrat", "setxattr", "setxattrat",
    // Waiting for events, and being told of them.
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select",
    "signalfd", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64",
    // Memory.
    "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mmap2",
    "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    // Sockets of the kinds that `socket` below lets through.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv",
    "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt",
    "shutdown", "socketpair",
    // Signals.
    "alarm", "kill", "pause", "pidfd_open", "pidfd_send_signal", "restart_syscall", "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "sigprocmask", "sigreturn", "tgkill", "tkill",
    // Clocks and timers (reading and waiting, never setting).
    "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep", "setitimer", "time", "timer_create",
    "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
    "times",
    // Threads and locks.
    "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list",
    "get_thread_area", "getcpu", "gettid", "rseq", "set_robust_list", "set_thread_area", "set_tid_address",
    // Scheduling and priorities (raising them needs capabilities).
    "getpriority", "ioprio_get", "ioprio_set", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "setpriority",
    // Processes.
    "execve", "execveat", "exit", "exit_group", "fork", "getpgid", "getpgrp", "getpid", "getppid", "getsid",
    "prctl", "process_mrelease", "seccomp", "setpgid", "setsid", "vfork", "wait4", "waitid", "waitpid",
    // Identities and capabilities (without a capability only downwards).
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
    "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32", "setfsgid",
    "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setregid",
    "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid",
    "setuid32",
    // Limits, usage, the machine's name.
    "getrandom", "getrlimit", "getrusage", "prlimit64", "setrlimit", "sysinfo", "ugetrlimit", "uname",
];

/// `personality` values that only ask or set the ordinary Linux ones.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

const fn equals(index: u32, value: u64) -> Argument {
    Argument {
        index,
        value,
        value_two: None,
        op: "SCMP_CMP_EQ",
    }
}

const fn masked(index: u32, mask: u64, wanted: u64) -> Argument {
    Argument {
        index,
        value: mask,
        value_two: Some(wanted),
        op: "SCMP_CMP_MASKED_EQ",
    }
}

fn allow(name: &'static str, args: Vec<Argument>) -> Rule {
    Rule {
        names: vec![name],
        action: "SCMP_ACT_ALLOW",
        errno_ret: None,
        args,
    }
}

/// The profile for one architecture.
pub fn profile(arch: Arch) -> Profile {
    let mut names: Vec<_> = PLAIN.to_vec();
    names.retain(|name| arch == Arch::X86_64 || *name != "arch_prctl");
    names.sort_unstable();
    let mut syscalls = vec![Rule {
        names,
        action: "SCMP_ACT_ALLOW",
        errno_ret: None,
        args: vec![],
    }];
    syscalls.extend(PERSONALITIES.map(|value| allow("personality", vec![equals(0, value)])));
    syscalls.push(allow("clone", vec![masked(0, FORBIDDEN_NAMESPACES, 0)]));
    syscalls.push(allow("unshare", vec![equals(0, NEW_USER_NAMESPACE)]));
    syscalls.extend(sockets());
    // Its arguments cannot be filtered (they are in memory). ENOSYS makes glibc use clone; EPERM breaks threads.
    syscalls.push(Rule {
        names: vec!["clone3"],
        action: "SCMP_ACT_ERRNO",
        errno_ret: Some(ENOSYS),
        args: vec![],
    });
    Profile {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: EPERM,
        architectures: vec![arch.seccomp_name()],
        syscalls,
    }
}

/// AF_UNIX of any type; AF_INET and AF_INET6 only SOCK_STREAM with the protocol left open or TCP (else MPTCP opens).
/// No UDP, raw, netlink, packet, vsock or crypto sockets.
fn sockets() -> impl Iterator<Item = Rule> {
    let inet = [2, 10]
        .into_iter()
        .flat_map(|family| [0, 6].map(|protocol| (family, protocol)));
    let tcp = inet.map(|(family, protocol)| {
        allow(
            "socket",
            vec![equals(0, family), masked(1, 0xf, 1), equals(2, protocol)],
        )
    });
    std::iter::once(allow("socket", vec![equals(0, 1)])).chain(tcp)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn allowed(profile: &Profile) -> BTreeSet<&'static str> {
        let rules = profile.syscalls.iter().filter(|rule| rule.action == "SCMP_ACT_ALLOW");
        rules.flat_map(|rule| rule.names.iter().copied()).collect()
    }

    fn arguments(profile: &Profile, name: &str) -> Vec<Vec<Argument>> {
        profile
            .syscalls
            .iter()
            .filter(|rule| rule.names.contains(&name))
            .map(|rule| rule.args.clone())
            .collect()
    }

    /// FNV-1a over the sorted names: any name that comes or goes must be a decision, not an accident.
    fn fingerprint(names: &BTreeSet<&'static str>) -> u64 {
        let text = names.iter().copied().collect::<Vec<_>>().join("\n");
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    #[test]
    fn the_set_of_names_is_the_one_that_was_measured() {
        let names = allowed(&profile(Arch::X86_64));
        assert_eq!(names.len(), 325);
        assert_eq!(fingerprint(&names), 0xcbc2_83a7_e5c1_0f5e);
        let arm = allowed(&profile(Arch::Aarch64));
        assert_eq!(names.difference(&arm).copied().collect::<Vec<_>>(), ["arch_prctl"]);
        assert_eq!(arm.difference(&names).count(), 0);
    }

    /// The runtime's own profile for a container without capabilities.
    const RUNTIME_DEFAULT: &str = include_str!("seccomp/containerd-2.4.2-x86_64.txt");
    /// What its list has on an arm64 node instead of `arch_prctl` and `modify_ldt`.
    const ON_ARM: [&str; 6] = [
        "arm_fadvise64_64",
        "arm_sync_file_range",
        "breakpoint",
        "cacheflush",
        "set_tls",
        "sync_file_range2",
    ];
    const ADDED: [&str; 2] = ["chroot", "unshare"];
    #[rustfmt::skip] // One name a line would hide the groups.
    const REMOVED: [&str; 48] = [
        "adjtimex", "cachestat", "clock_adjtime", "clock_adjtime64",
        "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
        "ipc", "listmount", "map_shadow_stack", "memfd_secret", "modify_ldt",
        "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
        "mq_timedsend_time64", "mq_unlink", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "name_to_handle_at",
        "process_vm_readv", "process_vm_writev", "ptrace", "remap_file_pages",
        "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
        "socketcall", "statmount", "tee", "uretprobe", "vmsplice",
    ];

    fn runtime_default(arch: Arch) -> BTreeSet<&'static str> {
        let names = RUNTIME_DEFAULT.lines().filter(|line| !line.starts_with('#'));
        match arch {
            Arch::X86_64 => names.collect(),
            Arch::Aarch64 => names
                .filter(|name| !["arch_prctl", "modify_ldt"].contains(name))
                .chain(ON_ARM)
                .collect(),
        }
    }

    #[test]
    fn against_the_runtime_s_default_the_profile_adds_these_calls_and_removes_those() {
        let (ours, theirs) = (allowed(&profile(Arch::X86_64)), runtime_default(Arch::X86_64));
        assert_eq!(theirs.len(), 371);
        assert_eq!(ours.difference(&theirs).copied().collect::<Vec<_>>(), ADDED);
        assert_eq!(theirs.difference(&ours).copied().collect::<Vec<_>>(), REMOVED);
        let (ours, theirs) = (allowed(&profile(Arch::Aarch64)), runtime_default(Arch::Aarch64));
        assert_eq!(theirs.len(), 375);
        assert_eq!(ours.difference(&theirs).copied().collect::<Vec<_>>(), ADDED);
        let removed = REMOVED.into_iter().filter(|name| *name != "modify_ldt").chain(ON_ARM);
        assert_eq!(
            theirs.difference(&ours).copied().collect::<BTreeSet<_>>(),
            removed.collect()
        );
    }

    #[test]
    fn no_name_is_listed_twice() {
        assert_eq!(PLAIN.iter().collect::<BTreeSet<_>>().len(), PLAIN.len());
    }

    #[test]
    fn what_needs_arguments_is_never_allowed_without_them() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let profile = profile(arch);
            assert_eq!(arguments(&profile, "clone"), [[masked(0, 0x0E02_0000, 0)]]);
            assert_eq!(arguments(&profile, "unshare"), [[equals(0, 0x1000_0000)]]);
            let stream = masked(1, 0xf, 1);
            assert_eq!(
                arguments(&profile, "socket"),
                [
                    vec![equals(0, 1)],
                    vec![equals(0, 2), stream, equals(2, 0)],
                    vec![equals(0, 2), stream, equals(2, 6)],
                    vec![equals(0, 10), stream, equals(2, 0)],
                    vec![equals(0, 10), stream, equals(2, 6)],
                ]
            );
            assert!(arguments(&profile, "personality").iter().all(|args| args.len() == 1));
        }
    }

    #[test]
    fn calls_that_widen_the_kernel_s_surface_are_not_there() {
        let names = allowed(&profile(Arch::X86_64));
        for absent in [
            "clone3",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "socketcall",
            "setns",
            "mount",
            "pivot_root",
            "bpf",
            "perf_event_open",
            "open_by_handle_at",
            "name_to_handle_at",
            "io_uring_setup",
            "userfaultfd",
            "keyctl",
            "add_key",
            "memfd_secret",
            "modify_ldt",
            "vmsplice",
            "tee",
            "shmget",
            "mq_open",
            "kexec_load",
            "init_module",
        ] {
            assert!(!names.contains(absent), "{absent}");
        }
    }

    #[test]
    fn the_profile_is_plain_oci_json_for_the_native_architecture_only() {
        let json = serde_json::to_value(profile(Arch::X86_64)).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["architectures", "defaultAction", "defaultErrnoRet", "syscalls"]);
        assert_eq!(json["architectures"], serde_json::json!(["SCMP_ARCH_X86_64"]));
        assert_eq!(json["defaultAction"], "SCMP_ACT_ERRNO");
        let clone3 = json["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .find(|rule| rule["names"][0] == "clone3")
            .unwrap();
        assert_eq!(
            clone3,
            &serde_json::json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})
        );
    }
}
