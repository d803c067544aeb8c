//! Landlock around one jail: which files, which ports, no signals and abstract sockets outwards.
//!
//! In: the browser's binary, its profile directory, the jail's own ports. Out: which parts the kernel enforces.
//! Best effort by design: an older kernel enforces less and the facts say so. It must not allow a path that could hold
//! a Secret or the jailer's socket. It never covers path-name Unix sockets (no kernel in use does).

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::facts::LandlockFacts;
use crate::sys;

/// The newest ABI that was tested; newer kernels enforce this set, older ones what they know of it.
const TESTED: ABI = ABI::V7;

/// Libraries, fonts, certificates, time zones: the same for everybody, nothing secret.
const READABLE: &[&str] = &[
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/usr/share/fontconfig",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/usr/share/mime",
    "/etc/fonts",
    "/etc/ssl/certs",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/var/cache/fontconfig",
    "/sys/devices/system/cpu",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
];

/// The program loader is executed too (as the ELF interpreter).
const LOADERS: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];

/// Confines this process and its children, for good, in the parts that are `wanted`: all, outside of tests. Needs
/// no_new_privs.
///
/// # Errors
/// The kernel's, if it has Landlock and refuses these rules.
pub fn confine(
    program: &Path,
    profile: &Path,
    ports: &[u16],
    wanted: LandlockFacts,
) -> Result<LandlockFacts, RulesetError> {
    let mut rules = Ruleset::default();
    if wanted.files {
        rules = rules.handle_access(AccessFs::from_all(TESTED))?;
    }
    if wanted.tcp {
        rules = rules.handle_access(AccessNet::from_all(TESTED))?;
    }
    if wanted.scopes {
        rules = rules.scope(Scope::from_all(TESTED))?;
    }
    let mut rules = rules.create()?;
    if wanted.files {
        rules = allow_files(rules, program, profile)?;
    }
    for port in ports.iter().filter(|_| wanted.tcp) {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    let status = rules.restrict_self()?;
    let abi = if status.ruleset == RulesetStatus::NotEnforced {
        0
    } else {
        sys::landlock_abi()
    };
    let offered = LandlockFacts::offered(abi);
    Ok(LandlockFacts {
        files: wanted.files && offered.files,
        tcp: wanted.tcp && offered.tcp,
        scopes: wanted.scopes && offered.scopes,
    })
}

fn allow_files(mut rules: RulesetCreated, program: &Path, profile: &Path) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for path in READABLE {
        rules = allow(rules, Path::new(path), read)?;
    }
    for path in LOADERS {
        rules = allow(rules, Path::new(path), read | AccessFs::Execute)?;
    }
    if let Some(directory) = program.parent() {
        rules = allow(rules, directory, read | AccessFs::Execute)?;
    }
    rules = allow(
        rules,
        profile,
        AccessFs::from_all(TESTED) & !BitFlags::from(AccessFs::Execute),
    )?;
    rules = allow(rules, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    // Chromium's sandbox writes the uid_map of its own namespace.
    allow(rules, Path::new("/proc"), read | AccessFs::WriteFile)
}

/// A path that is not there needs no rule.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(TESTED)
    };
    rules.add_rule(PathBeneath::new(fd, access))
}
