//! The command line and the files that it names. The only reader of arguments, environment and the policy file.
//!
//! In: arguments, environment. Out: [`ServeArgs`] and a policy or the reason why there is none. A file that is missing
//! or wrong is no reason to end: the server stays up, unready, and says why. Must not: log a file's contents.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use screenshot_policy::layout;
use screenshot_policy::policy::{EffectivePolicy, PolicyError};

/// Takes screenshots of web pages in jailed browsers.
#[derive(Debug, Parser)]
#[command(name = "capture-server", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve captures.
    Serve(Box<ServeArgs>),
    /// Ask a running server whether it is ready; exits 0 if so.
    Health(HealthArgs),
}

/// Where the jailer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JailerMode {
    /// It runs in another container; wait for its socket.
    Connect,
    /// Start it as a child of this server (laptop, tests).
    Spawn,
}

/// Arguments of `serve`. The defaults are the pod's layout.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address of the API.
    #[arg(long, default_value_t = any(layout::API_PORT))]
    pub listen: SocketAddr,
    /// Address of health and attestation.
    #[arg(long, default_value_t = any(layout::HEALTH_PORT))]
    pub health_listen: SocketAddr,
    /// Address of metrics.
    #[arg(long, default_value_t = any(layout::METRICS_PORT))]
    pub metrics_listen: SocketAddr,
    /// The policy file.
    #[arg(long, default_value = layout::POLICY_PATH)]
    pub policy: PathBuf,
    /// Digest that the policy must have (`sha256:…`).
    #[arg(long, env = layout::ENV_POLICY_DIGEST)]
    pub policy_digest: Option<String>,
    /// The keyset file.
    #[arg(long, default_value = layout::KEYSET_PATH)]
    pub keyset: PathBuf,
    /// The attestation key's file; without it nothing is attested.
    #[arg(long, default_value = layout::INTERNAL_KEY_PATH)]
    pub internal_key: PathBuf,
    /// Directory with what the policy's upstream proxy is asked with: `username`, `password`, `ca.crt`.
    #[arg(long, default_value = layout::UPSTREAM_DIR)]
    pub upstream: PathBuf,
    /// The jailer's socket.
    #[arg(long, default_value = layout::JAIL_SOCKET)]
    pub jail_socket: PathBuf,
    /// Where the jailer comes from.
    #[arg(long, value_enum, default_value = "connect")]
    pub jailer: JailerMode,
    /// The jailer's program for `--jailer spawn`; beside this program if not given.
    #[arg(long)]
    pub jailer_program: Option<PathBuf>,
    /// The browser's program, handed on to a spawned jailer.
    #[arg(long)]
    pub browser: Option<PathBuf>,
    /// What the image says of the browser in it.
    #[arg(long, default_value = layout::BROWSER_BUILD_PATH)]
    pub browser_build: PathBuf,
    /// This pod's name, for attestation.
    #[arg(long, env = layout::ENV_POD_NAME, default_value = "")]
    pub pod_name: String,
}

/// Arguments of `health`.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// Address of the health port.
    #[arg(long, default_value_t = SocketAddr::from(([127, 0, 0, 1], layout::HEALTH_PORT)))]
    pub address: SocketAddr,
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// Loads the policy; the error is a bounded word and a sentence.
pub fn load_policy(path: &Path, digest: Option<&str>) -> Result<Arc<EffectivePolicy>, (&'static str, String)> {
    let bytes = std::fs::read(path).map_err(|_| ("policy_missing", "the policy file cannot be read".to_owned()))?;
    let loaded = match digest {
        Some(digest) => EffectivePolicy::load_expecting(&bytes, digest),
        None => EffectivePolicy::load(&bytes),
    };
    loaded
        .map(Arc::new)
        .map_err(|error: PolicyError| (error.reason(), error.to_string()))
}

/// The jailer's program: the one named, or the one beside this program.
pub fn jailer_program(named: Option<&Path>) -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("capture-jail"));
    named
        .map(Path::to_path_buf)
        .or_else(beside)
        .unwrap_or_else(|| PathBuf::from("capture-jail"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use screenshot_policy::policy::{Ceiling, PolicyDocument};

    #[test]
    fn the_command_line_is_sound_and_defaults_to_the_pods_layout() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["capture-server", "serve"]).unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("not serve")
        };
        assert_eq!(args.policy, Path::new(layout::POLICY_PATH));
        assert_eq!(
            (args.listen.port(), args.jailer),
            (layout::API_PORT, JailerMode::Connect)
        );
    }

    #[test]
    fn a_policy_that_is_missing_wrong_or_another_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        assert_eq!(load_policy(&path, None).unwrap_err().0, "policy_missing");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(load_policy(&path, None).unwrap_err().0, "policy_syntax");
        let policy =
            EffectivePolicy::resolve(&Ceiling::compiled(), PolicyDocument::secure_default("a", "b").unwrap()).unwrap();
        std::fs::write(&path, policy.canonical_json()).unwrap();
        assert_eq!(load_policy(&path, Some("sha256:00")).unwrap_err().0, "policy_digest");
        assert_eq!(
            load_policy(&path, Some(policy.digest())).unwrap().digest(),
            policy.digest()
        );
        std::fs::write(
            &path,
            policy.canonical_json().replacen("\"version\":1", "\"version\":9", 1),
        )
        .unwrap();
        assert_eq!(load_policy(&path, None).unwrap_err().0, "policy_version");
    }
}
