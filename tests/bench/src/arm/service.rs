//! The files of one capture server: policy, keyset, key, socket directory.
//!
//! In: the site and the isolation. Out: a directory that a server can be started on, and the token that it accepts. The
//! policy is the product's own with one named exception, the site: there is no other door. Must not: weaken a limit.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capture_server::config::{JailerMode, ServeArgs};
use clap::ValueEnum;
use screenshot_policy::attest::InternalKey;
use screenshot_policy::egress::EgressException;
use screenshot_policy::host::Host;
use screenshot_policy::keyset::{Key, KeyState, Keyset, Scope, VERSION};
use screenshot_policy::policy::{EffectivePolicy, PolicyDocument};
use screenshot_policy::token::{Kid, Token};
use tempfile::TempDir;

use super::Setup;
use crate::Failure;
use crate::protocol::{Format, Job, QUALITY};

/// What the policy's probe takes for a deadline; arms bring their own.
const ANY_DEADLINE_MS: u64 = 20_000;
/// When the exception ends: runs do not last that long.
const LIFETIME: Duration = Duration::from_hours(24);

/// How captures are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Isolation {
    /// A client's captures share a jail, a context each.
    PerClient,
    /// A jail for each capture.
    PerCapture,
}

impl Isolation {
    /// As the policy and the resource spell it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PerClient => "PerClient",
            Self::PerCapture => "PerCapture",
        }
    }
}

/// The isolations that this build's policy knows.
pub fn isolations(site: SocketAddr) -> Vec<Isolation> {
    let mut known = vec![Isolation::PerClient, Isolation::PerCapture];
    known.retain(|isolation| policy(site, *isolation, ANY_DEADLINE_MS).is_ok());
    known
}

/// The policy's text. A policy without the field isolates each capture.
fn policy(site: SocketAddr, isolation: Isolation, deadline_ms: u64) -> Result<String, Failure> {
    let mut document = PolicyDocument::secure_default("bench", "bench")?;
    document.egress.exceptions.push(EgressException {
        host: Host::Ip(site.ip()),
        ports: vec![site.port().try_into()?],
        cidr: None,
        reason: "the benchmark's own site".parse()?,
        expires: jiff::Timestamp::now().checked_add(LIFETIME)?,
    });
    document.capture.deadline_ms = deadline_ms.try_into()?;
    document.capture.concurrency = u64::try_from(std::thread::available_parallelism()?.get())?.try_into()?;
    let mut value = serde_json::to_value(&document)?;
    value["sandbox"]["isolation"] = isolation.word().into();
    match EffectivePolicy::load(value.to_string().as_bytes()) {
        Ok(policy) => Ok(policy.canonical_json()),
        Err(_) if isolation == Isolation::PerCapture => {
            let plain = serde_json::to_vec(&document)?;
            Ok(EffectivePolicy::load(&plain)?.canonical_json())
        }
        Err(error) => Err(error.into()),
    }
}

/// A server's directory.
pub struct Files {
    dir: TempDir,
    /// What the API accepts: of the client that is measured, and of another one.
    tokens: [Token; 2],
}

impl Files {
    /// Writes everything.
    pub fn new(setup: &Setup) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("bench-server-").tempdir()?;
        // The jailer may run as another user, which must be able to make its socket.
        let run = dir.path().join("run");
        std::fs::create_dir(&run)?;
        for open in [dir.path(), &run] {
            std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777))?;
        }
        let kids = [1, 2].map(|n| Kid::from_bytes([n; 5]));
        let tokens = [0, 1].map(|n: u8| Token::generate(&kids[usize::from(n)], [n; 32]));
        let key = |((kid, token), client): ((Kid, &Token), &str)| Key {
            kid,
            client: client.into(),
            scopes: Scope::ALL.into(),
            digest: token.digest_hex(),
            state: KeyState::Active,
            not_before: None,
            retire_after: None,
        };
        let keys = kids.into_iter().zip(&tokens).zip(["bench", "another"]).map(key);
        let keyset = Keyset {
            version: VERSION,
            revision: 1,
            keys: keys.collect(),
        };
        let files = Self { dir, tokens };
        let policy = policy(setup.site, setup.isolation, setup.deadline_ms)?;
        std::fs::write(files.path("policy.json"), policy)?;
        std::fs::write(files.path("keyset.json"), keyset.canonical_json())?;
        std::fs::write(files.path("key"), InternalKey::from_bytes([9; 32]).to_text())?;
        Ok(files)
    }

    /// The values of `Authorization`; see [`Job::of_another`] for which is whose.
    pub fn authorizations(&self) -> [String; 2] {
        self.tokens.each_ref().map(|token| format!("Bearer {}", token.text()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How the server is started: free ports of loopback, a jailer of its own.
    pub fn arguments(&self, setup: &Setup) -> ServeArgs {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        ServeArgs {
            listen: any,
            health_listen: any,
            metrics_listen: any,
            policy: self.path("policy.json"),
            policy_digest: None,
            keyset: self.path("keyset.json"),
            internal_key: self.path("key"),
            jail_socket: self.path("run/jailer.sock"),
            jailer: JailerMode::Spawn,
            jailer_program: Some(program(setup, "capture-jail")),
            browser: Some(setup.browser.clone()),
            browser_build: self.path("build.json"),
            upstream: self.path("upstream"),
            pod_name: "bench".into(),
        }
    }
}

/// Where a program of this build is.
pub fn program(setup: &Setup, name: &str) -> PathBuf {
    Path::new(&setup.programs).join(name)
}

/// The request's body.
pub fn body(job: &Job) -> String {
    let mut body = serde_json::json!({
        "url": job.url, "window_width": job.width, "window_height": job.height, "full_page": job.full_page,
    });
    match job.format {
        Format::Png => {}
        Format::PngSmall => body["png_compression"] = "small".into(),
        Format::Jpeg | Format::Webp => {
            body["format"] = job.format.name().into();
            body["quality"] = QUALITY.into();
        }
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_isolation_has_a_policy_that_opens_the_site_alone() {
        let site = "192.168.77.10:8088".parse().unwrap();
        let known = isolations(site);
        assert!(known.contains(&Isolation::PerCapture));
        for isolation in known {
            let text = policy(site, isolation, 5_000).unwrap();
            let policy = EffectivePolicy::load(text.as_bytes()).unwrap();
            let [exception] = policy.exceptions() else {
                panic!("not one exception")
            };
            assert_eq!(
                (exception.host.to_string(), exception.ports[0].get()),
                ("192.168.77.10".to_owned(), 8088)
            );
        }
    }

    #[test]
    fn loopback_is_no_site() {
        assert!(isolations("127.0.0.1:80".parse().unwrap()).is_empty());
    }
}
