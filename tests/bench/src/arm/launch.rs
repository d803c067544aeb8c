//! Starts the headless shell as the jailer would, but without the jail and without the proxy.
//!
//! In: the program. Out: a running browser whose pipe stands. The flags are the jailer's own, except the three that name
//! the proxy; so are environment and user. Must not: need a line of unsafe code to place descriptors 3 and 4: a shell does.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use capture_jail::flags::{self, Options};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use super::pipe::Pipe;
use crate::Failure;

/// The user that root turns into, as the jailer does.
const UNPRIVILEGED: u32 = 65532;

#[derive(Deserialize)]
struct Version {
    product: String,
}

/// A browser of the benchmark's own. Ends with its value.
pub struct Browser {
    /// Its pipe.
    pub pipe: Pipe,
    /// As it calls itself.
    pub product: String,
    process: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts it; returns once it answers.
    pub async fn start(program: &Path, site: std::net::IpAddr) -> Result<Self, Failure> {
        let profile = tempfile::Builder::new().prefix("bench-profile-").tempdir()?;
        let mut command = Command::new("sh");
        // The browser reads commands from descriptor 3 and writes to 4.
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"])
            .arg(program)
            .args(arguments(profile.path(), site))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(environment(profile.path()))
            .current_dir(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            std::fs::set_permissions(profile.path(), std::fs::Permissions::from_mode(0o700))?;
            chown(profile.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED))?;
            command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        }
        let mut process = command.spawn()?;
        let ends = (process.stdout.take(), process.stdin.take());
        let (Some(from), Some(to)) = ends else {
            return Err("the browser has no pipe".into());
        };
        let pipe = Pipe::start(OwnedFd::from(from), OwnedFd::from(to))?;
        let mut browser = Self {
            pipe,
            product: String::new(),
            process,
            _profile: profile,
        };
        let version: Version = browser.pipe.call(None, "Browser.getVersion", json!({})).await?;
        browser.product = version.product;
        Ok(browser)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end by themselves within milliseconds once their parent is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The jailer's flags without the proxy: names still lead nowhere, the site's literal address excepted.
fn arguments(profile: &Path, site: std::net::IpAddr) -> Vec<String> {
    let options = Options {
        proxy_port: 0,
        max_old_space_mb: None,
        accepted_key: None,
        sandbox: true,
    };
    let mut arguments = flags::arguments(profile, options, &[]);
    arguments.retain(|argument| {
        let proxy = ["--proxy-server=", "--proxy-bypass-list=", "--host-resolver-rules="];
        !proxy.iter().any(|prefix| argument.starts_with(prefix))
    });
    arguments.push(format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {site}"));
    arguments
}

fn environment(profile: &Path) -> Vec<(String, String)> {
    let pairs = flags::environment(profile).into_iter();
    pairs
        .filter_map(|pair| {
            pair.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Where the browser is, if nothing else is said.
pub fn default_program() -> PathBuf {
    PathBuf::from("/usr/lib/chromium/chromium-headless-shell")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_the_jailers_but_for_the_proxy() {
        let site = "192.168.77.10".parse().unwrap();
        let ours = arguments(Path::new("/p"), site);
        let options = Options {
            proxy_port: 0,
            max_old_space_mb: None,
            accepted_key: None,
            sandbox: true,
        };
        let jailers = flags::arguments(Path::new("/p"), options, &[]);
        let added: Vec<_> = ours.iter().filter(|argument| !jailers.contains(argument)).collect();
        assert_eq!(added, ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 192.168.77.10"]);
        assert_eq!(ours.len() + 2, jailers.len());
        assert!(!ours.iter().any(|argument| argument == "--no-sandbox"));
    }
}
