//! What the policy's upstream proxy is asked with: looked at once a second, swapped whole.
//!
//! In: a directory with `username`, `password` and `ca.crt`, as far as the policy says that they are needed. Out: what the
//! proxy's next connection asks with, and readiness. Bad new files keep the last good ones and say so; bad first ones keep
//! the server unready, as no page could be reached. Must not: log a byte of a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use capture_egress::{Access, AccessError, Credentials, MAX_CREDENTIAL};
use screenshot_policy::egress::UpstreamProxy;
use screenshot_policy::layout::{UPSTREAM_CA_FILE, UPSTREAM_PASSWORD_FILE, UPSTREAM_USERNAME_FILE};
use screenshot_policy::policy::EffectivePolicy;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::file::{self, Content, Followed, POLL, Unread};
use crate::state::{Component, Status};

/// A credential and a line's end after it.
const MAX_LINE: usize = MAX_CREDENTIAL + 2;
/// A bundle longer than this, in bytes, is refused unread.
const MAX_BUNDLE: usize = 1024 * 1024;

/// User name, password, bundle.
fn files(directory: &Path) -> [(PathBuf, usize); 3] {
    [
        (directory.join(UPSTREAM_USERNAME_FILE), MAX_LINE),
        (directory.join(UPSTREAM_PASSWORD_FILE), MAX_LINE),
        (directory.join(UPSTREAM_CA_FILE), MAX_BUNDLE),
    ]
}

/// What the files come to for this upstream, or a bounded word.
fn access([username, password, bundle]: &[Content; 3], upstream: &UpstreamProxy) -> Result<Access, &'static str> {
    let credentials = if upstream.authenticated {
        let (username, password) = (needed(username)?, needed(password)?);
        Some(Credentials::parse(username, password).map_err(AccessError::reason)?)
    } else {
        None
    };
    let bundle = match file::borrowed(bundle) {
        _ if !upstream.ca_bundle => None,
        Ok(bytes) => Some(bytes),
        Err(Unread::Missing) => return Err("upstream_ca_bundle_missing"),
        Err(Unread::TooLong | Unread::Unreadable) => return Err("upstream_ca_bundle_unreadable"),
    };
    Access::new(upstream.scheme, credentials, bundle).map_err(AccessError::reason)
}

fn needed(content: &Content) -> Result<&[u8], &'static str> {
    file::borrowed(content).map_err(|unread| match unread {
        Unread::Missing => "upstream_credentials_missing",
        Unread::TooLong => "upstream_credentials_invalid",
        Unread::Unreadable => "upstream_credentials_unreadable",
    })
}

/// What the upstream is asked with, now and later, and the work that keeps it so. Without an upstream there is neither.
pub fn start(
    policy: &EffectivePolicy,
    directory: Option<PathBuf>,
    status: &Arc<Status>,
) -> (watch::Receiver<Arc<Access>>, Option<AbortOnDropHandle<()>>) {
    let (sender, receiver) = watch::channel(Arc::default());
    let Some(upstream) = policy.upstream().filter(|_| policy.uses_upstream()).cloned() else {
        return (receiver, None);
    };
    let message = "what the upstream proxy is asked with has not been loaded yet";
    status.against(Component::Upstream, "upstream_not_loaded", message);
    let three = Followed::new(files(&directory.unwrap_or_default()));
    let follower = Follower {
        upstream,
        sender,
        status: Arc::clone(status),
        good: false,
    };
    (
        receiver,
        Some(AbortOnDropHandle::new(tokio::spawn(follower.run(three)))),
    )
}

struct Follower {
    upstream: UpstreamProxy,
    sender: watch::Sender<Arc<Access>>,
    status: Arc<Status>,
    good: bool,
}

impl Follower {
    async fn run(mut self, mut followed: Followed<3>) {
        loop {
            if let Some(contents) = followed.look().await {
                self.take(contents);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn take(&mut self, contents: &[Content; 3]) {
        match access(contents, &self.upstream) {
            Ok(access) => {
                self.sender.send_replace(Arc::new(access));
                self.good = true;
                self.status.cleared(Component::Upstream);
                tracing::info!("what the upstream proxy is asked with is in force");
            }
            Err(reason) if self.good => {
                tracing::warn!(
                    reason,
                    "what the upstream proxy shall be asked with is refused; the old stays"
                );
            }
            Err(reason) => {
                let message = "there is nothing usable to ask the upstream proxy with";
                self.status.against(Component::Upstream, reason, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use screenshot_policy::egress::{Resolution, UpstreamScheme};
    use screenshot_policy::policy::{Ceiling, PolicyDocument};
    use screenshot_policy::unit::Port;

    use super::*;

    fn upstream(authenticated: bool, ca_bundle: bool) -> UpstreamProxy {
        UpstreamProxy {
            scheme: UpstreamScheme::Https,
            host: "proxy.example.com".parse().unwrap(),
            port: Port::HTTPS,
            cidr: None,
            resolve: Resolution::Local,
            authenticated,
            ca_bundle,
        }
    }

    #[test]
    fn what_is_needed_and_not_there_or_wrong_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let read = |authenticated, bundle| {
            let contents = files(directory.path()).map(|(path, most)| file::read(&path, most));
            let access = access(&contents, &upstream(authenticated, bundle));
            access.map(drop).err()
        };
        assert_eq!(read(false, false), None);
        assert_eq!(read(true, false), Some("upstream_credentials_missing"));
        assert_eq!(read(false, true), Some("upstream_ca_bundle_missing"));
        write("username", "ada\n");
        assert_eq!(read(true, false), Some("upstream_credentials_missing"));
        write("password", "secret");
        assert_eq!(read(true, false), None);
        write("username", "a:b");
        assert_eq!(read(true, false), Some("upstream_credentials_invalid"));
        write("username", &"x".repeat(MAX_LINE + 1));
        assert_eq!(read(true, false), Some("upstream_credentials_invalid"));
        write("ca.crt", "none");
        assert_eq!(read(false, true), Some("upstream_ca_bundle_invalid"));
        assert_eq!(read(false, false), None, "what is not asked for is not looked at");
    }

    #[tokio::test]
    async fn the_server_is_unready_until_they_are_there_and_then_keeps_the_last_good_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
        document.egress.upstream_proxy = Some(upstream(true, false));
        let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
        let status = Arc::new(Status::default());
        let against = || {
            let reasons = status.not_ready().into_iter().map(|not| not.reason);
            reasons
                .filter(|reason| reason.starts_with("upstream_"))
                .collect::<Vec<_>>()
        };
        let (mut access, task) = start(&policy, Some(directory.path().to_owned()), &status);
        assert_eq!(against(), ["upstream_not_loaded"]);
        while against() != ["upstream_credentials_missing"] {
            tokio::time::sleep(POLL / 20).await;
        }
        for (name, text) in [("username", "ada"), ("password", "first")] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        access.changed().await.unwrap();
        assert!(against().is_empty());
        std::fs::remove_file(directory.path().join("password")).unwrap();
        tokio::time::sleep(POLL * 2).await;
        assert!(against().is_empty() && !access.has_changed().unwrap());
        std::fs::write(directory.path().join("password"), "second").unwrap();
        access.changed().await.unwrap();
        drop(task);
    }

    #[tokio::test]
    async fn without_an_upstream_nothing_is_needed() {
        let document = PolicyDocument::secure_default("web", "shots").unwrap();
        let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
        let status = Arc::new(Status::default());
        let before = status.not_ready().len();
        assert!(start(&policy, None, &status).1.is_none());
        assert_eq!(status.not_ready().len(), before);
    }
}
