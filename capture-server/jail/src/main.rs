//! `capture-jail`: the jailer, its seccomp profile, and a test of what the node allows.
//!
//! In: the command line. Out: `serve` runs until SIGTERM; `seccomp-profile` and `probe` print JSON and end.
//! It must stay single-threaded from its first to its last line.

use std::path::PathBuf;
use std::process::ExitCode;

use capture_jail::child::Layers;
use capture_jail::launch::Settings;
use capture_jail::seccomp::{self, Arch};
use capture_jail::{probe, server, sys};
use clap::{Args, Parser, Subcommand};

/// Debian's chromium-headless-shell: the binary itself, not the wrapper (which adds flags and API keys).
const BROWSER: &str = "/usr/lib/chromium/chromium-headless-shell";
/// The unprivileged id that root turns into.
const UNPRIVILEGED: u32 = 65532;

/// Browser jails over one Unix socket.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one peer at a time on a Unix socket.
    Serve(Serve),
    /// Print the seccomp profile for the container that this runs in (plain OCI JSON).
    SeccompProfile {
        /// The node's architecture.
        #[arg(long, value_enum, default_value_t = Arch::NATIVE)]
        arch: Arch,
    },
    /// Print what this node allows; changes nothing.
    Probe,
    /// In a container: end its jailer, and with it every jail. The kubelet starts it anew.
    Stop,
}

#[derive(Args)]
struct Serve {
    /// Where to listen; unlinked while a peer is connected.
    socket: PathBuf,
    /// The browser's binary.
    #[arg(long, default_value = BROWSER)]
    browser: PathBuf,
    /// Where the browsers' private directories are made.
    #[arg(long, default_value = "/tmp")]
    profile_dir: PathBuf,
    /// Become this user first; 65532 if started as root.
    #[arg(long)]
    uid: Option<u32>,
    /// Become this group first; the uid's number if started as root.
    #[arg(long)]
    gid: Option<u32>,
    /// Another uid than the own that may connect; may be repeated.
    #[arg(long = "allow-peer-uid")]
    allow_peer_uids: Vec<u32>,
    /// Where a Secret lies, besides where a pod has them: each jail tries whether it could open it. May be repeated.
    #[arg(long = "secret")]
    secrets: Vec<PathBuf>,
    /// MiB of memory that all browsers together may hold, where no container's limit bounds them.
    #[arg(long)]
    memory_limit_mb: Option<u32>,
    /// Keep the browser's log, on standard error. It can hold URLs.
    #[arg(long)]
    browser_log: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(options) => serve(options),
        Command::SeccompProfile { arch } => print(&seccomp::profile(arch)),
        Command::Probe => print(&probe::probe()),
        Command::Stop => stop(),
    }
}

/// Asks process 1 to end, and only if that is a jailer: on a machine of its own it is something else.
fn stop() -> ExitCode {
    let jailer = std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "capture-jail");
    if !jailer {
        eprintln!("capture-jail: process 1 is not a jailer");
        return ExitCode::FAILURE;
    }
    match rustix::process::kill_process(rustix::process::Pid::INIT, rustix::process::Signal::TERM) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capture-jail: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(options: Serve) -> ExitCode {
    if let Err(error) = drop_root(options.uid, options.gid) {
        eprintln!("capture-jail: cannot change to the unprivileged user: {error}");
        return ExitCode::FAILURE;
    }
    // The child changes its directory before it uses these.
    let (Ok(browser), Ok(profile_root)) = (
        std::path::absolute(options.browser),
        std::path::absolute(options.profile_dir),
    ) else {
        eprintln!("capture-jail: --browser and --profile-dir need a path");
        return ExitCode::FAILURE;
    };
    let config = server::Config {
        socket: options.socket,
        allow_peer_uids: options.allow_peer_uids,
        settings: Settings {
            browser,
            profile_root,
            secrets: options.secrets,
            keep_stderr: options.browser_log,
            memory_limit: options.memory_limit_mb.map(|mb| u64::from(mb) << 20),
            layers: Layers::default(),
            withheld: Vec::new(),
        },
    };
    match server::serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capture-jail: {error}");
            ExitCode::FAILURE
        }
    }
}

fn drop_root(uid: Option<u32>, gid: Option<u32>) -> std::io::Result<()> {
    if uid.is_none() && gid.is_none() && !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let uid = uid.unwrap_or(UNPRIVILEGED);
    sys::become_user(uid, gid.unwrap_or(uid))
}
