//! Every unsafe line of the project: the few kernel calls that no safe crate offers.
//!
//! In: plain values. Out: plain values or the kernel's errno. Each function is safe to call from anywhere in this crate;
//! where the kernel asks for a condition (one thread, a child about to exec) the function checks it or takes over.
//! It must not decide anything: no policy, no fallback, no classes of errors.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use rustix::process::Pid;

/// The namespaces of a jail.
pub const JAIL_NAMESPACES: i32 = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWPID;

/// The descriptors of the browser: CDP in, CDP out (Chromium's own numbers), and the report until exec closes it.
const CDP_IN: RawFd = 3;
const CDP_OUT: RawFd = 4;
const REPORT: RawFd = 5;

/// Which side of a clone this is.
pub enum Side {
    /// The new process.
    Child,
    /// The old one, with the child's pid.
    Parent(Pid),
}

/// Who is at the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its pid as seen from here; 0 if it lives in a pid namespace that cannot be seen from here.
    pub pid: i32,
    /// Its effective uid when it connected.
    pub uid: u32,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Copies this process into new `namespaces` (0: none). Not clone3: the seccomp profile answers it with ENOSYS.
///
/// # Errors
/// `Unsupported` if this process has more than one thread: the copy would hold the locks of threads that are not in it.
pub fn clone_process(namespaces: i32) -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is fork: the child gets a copy of all memory, so no pointer is shared. The stack
    // argument 0 means "go on with the copied stack"; the others are only read for flags that are not set. There is
    // one thread (checked above), so no lock is held by a thread that the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .map_or(Side::Child, Side::Parent))
}

/// Asks whether user namespaces are filtered, without making one: the kernel answers `CLONE_NEWUSER|CLONE_FS` with
/// EINVAL before it does anything; a seccomp filter answers EPERM first.
pub fn user_namespace_probe() -> i32 {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::CLONE_FS | libc::SIGCHLD);
    // SAFETY: the combination of flags is never valid (clone(2)), so no process is made and no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if result == 0 {
        exit(127); // Cannot be; but a second copy of this program must not run on.
    }
    if result < 0 {
        io::Error::last_os_error().raw_os_error().unwrap_or(0)
    } else {
        0
    }
}

/// Ends this process at once: no destructors, no buffers. The only way out of a cloned child.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(code) }
}

/// The Landlock ABI of the kernel; 0 if it has none or a filter refuses the question.
pub fn landlock_abi() -> u32 {
    const VERSION: libc::c_long = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the kernel wants a null pointer and size 0, makes nothing and returns a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// The peer of a Unix socket. (rustix's type has no pid 0, which is what a foreign pid namespace gives.)
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open (borrowed), the pointers are to locals of exactly the stated size.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            ptr::from_mut(&mut credentials).cast(),
            &raw mut length,
        )
    };
    check(result.into())?;
    Ok(Peer {
        pid: credentials.pid,
        uid: credentials.uid,
    })
}

/// Sets `IFF_UP` on `lo` of this network namespace, through a TCP socket: netlink and UDP sockets are filtered.
pub fn loopback_up(socket: impl AsFd) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: ifreq is a plain C struct of integers, bytes and pointers, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the descriptor is open; the kernel reads and writes one ifreq, which is what the pointer is to.
    check(unsafe { libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request) }.into())?;
    // SAFETY: SIOCGIFFLAGS has just filled this member of the union; it is a plain integer.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: as for SIOCGIFFLAGS; the kernel only reads.
    check(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// Turns SIGTERM and SIGINT into a readable descriptor.
pub fn termination_fd() -> io::Result<OwnedFd> {
    let set = signal_set(&[libc::SIGTERM, libc::SIGINT]);
    // SAFETY: the set is initialised; a null pointer for the old mask is allowed.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) }.into())?;
    // SAFETY: -1 makes a new descriptor; the set is initialised.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd.into())?;
    // SAFETY: the kernel has just given this descriptor to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that it gets; sigaddset works on an initialised one and only fails
    // for numbers that are no signals, which leaves the set as it was.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Gives back what a program expects at its start: no blocked signal, SIGPIPE not ignored (Rust's runtime ignores it).
pub fn default_signals() -> io::Result<()> {
    let set = signal_set(&[]);
    // SAFETY: the set is initialised; SIG_DFL is always a valid action; a null old mask is allowed.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()).into()).map(drop)
    }
}

/// Installs a classic BPF program as a seccomp filter of this process, for good. Needs no_new_privs.
pub fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from the pointer, which is to a slice of that length, and checks
    // the program itself. It never writes through it.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) }).map(drop)
}

/// The last call of a cloned child: CDP pipe to 3 and 4, everything else above closed, and the program takes over.
///
/// Comes back only if exec failed; then with the report channel and the errno, and with no other descriptor left open:
/// the caller may report and must then [`exit`]. That is why it takes the descriptors by value.
pub fn exec_browser(
    cdp: (OwnedFd, OwnedFd),
    report: OwnedFd,
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
) -> (OwnedFd, io::Error) {
    let argv = pointers(arguments);
    let envp = pointers(environment);
    if let Err((report, error)) = place(&cdp, report) {
        return (report, error);
    }
    // SAFETY: the kernel closes descriptors above REPORT. Their owners in this copy of the jailer never run again:
    // what follows is exec or, by the contract above, exit.
    let closed = check(unsafe { libc::syscall(libc::SYS_close_range, REPORT + 1, libc::c_uint::MAX, 0) });
    let error = match closed {
        Ok(_) => {
            // SAFETY: all strings are C strings that outlive the call, both arrays end in a null pointer.
            unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
            io::Error::last_os_error()
        }
        Err(error) => error,
    };
    std::mem::forget(cdp);
    // SAFETY: `place` put the report channel here; nothing else in this process owns the number.
    (unsafe { OwnedFd::from_raw_fd(REPORT) }, error)
}

/// Moves all three high first, so that none is overwritten while another is put in its place.
fn place(cdp: &(OwnedFd, OwnedFd), report: OwnedFd) -> Result<(), (OwnedFd, io::Error)> {
    let high = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 16).map_err(io::Error::from);
    let moved = high(&cdp.0).and_then(|input| Ok((input, high(&cdp.1)?, high(&report)?)));
    let (input, output, last) = match moved {
        Ok(moved) => moved,
        Err(error) => return Err((report, error)),
    };
    for (from, to, flags) in [
        (input.as_raw_fd(), CDP_IN, 0),
        (output.as_raw_fd(), CDP_OUT, 0),
        (last.as_raw_fd(), REPORT, libc::O_CLOEXEC),
    ] {
        // SAFETY: whatever had these numbers is closed; its owner in this copy of the jailer never runs again (see
        // `exec_browser`). The sources are open and lie at 16 or higher, so they are not overwritten.
        if let Err(error) = check(unsafe { libc::dup3(from, to, flags) }.into()) {
            return Err((last, error));
        }
    }
    std::mem::forget(report); // Its number may be one of the three by now.
    Ok(())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// The CPU time of a process so far, all its threads together: one call, where /proc takes a file. `None`: it is gone.
pub fn process_cpu(pid: i32) -> Option<Duration> {
    // The number that `clock_getcpuclockid` gives, which would ask the kernel whether it exists, as is done below: the
    // pid's complement, then three bits for a process and its time as the scheduler counts it.
    let clock: libc::clockid_t = (!pid << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local of the right type; a clock that does not exist any more is an error.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) }.into()).ok()?;
    Some(Duration::new(
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec).ok()?,
    ))
}

/// Lets a thread run only where nobody else wants to (`SCHED_IDLE`). It needs no privilege; the way back does.
///
/// # Errors
/// The kernel's: the thread is gone, or not of this user.
pub fn schedule_idle(thread: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a local of the right type; any number is a valid thread to ask for.
    check(unsafe { libc::sched_setscheduler(thread, libc::SCHED_IDLE, &raw const parameters) }.into()).map(drop)
}

/// Drops root for good: no groups, then gid, then uid, real, effective and saved. Keeps /proc/self writable to us.
///
/// # Errors
/// The kernel's; after an error the caller must exit (part of it may have happened).
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain numbers; size 0 with a null pointer is the empty list. glibc's wrappers change all threads.
    unsafe {
        check(libc::setgroups(0, ptr::null()).into())?;
        check(libc::setresgid(gid, gid, gid).into())?;
        check(libc::setresuid(uid, uid, uid).into())?;
        // A change of ids makes a process undumpable, and then root owns its /proc/self/uid_map: children could not
        // map themselves. Nothing secret is in this process.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0).into()).map(drop)
    }
}
