//! The browser's command line: the tables of [`crate::switches`] plus a few typed numbers.
//!
//! In: the profile directory, the proxy's port, options. Out: argv without the program.
//! It must not take free-form arguments from the peer. Chromium obeys only the last `--disable-features`, so that list is
//! merged here and written once.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::switches::{ACCEPTED_KEY, FEATURES, FLAGS, HEAP, PROXY};

/// The numbers that differ from jail to jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The first listener's port: the browser's own proxy.
    pub proxy_port: u16,
    /// V8's old-space limit in MiB.
    pub max_old_space_mb: Option<u16>,
    /// Digest of the key whose certificates are taken.
    pub accepted_key: Option<[u8; 32]>,
    /// Whether the browser's own sandbox stays on; off only in a degraded jail.
    pub sandbox: bool,
}

/// The arguments of the browser, without the program's name. `withheld` are names of switches that are left out: none,
/// outside of tests.
pub fn arguments(profile: &Path, options: Options, withheld: &[String]) -> Vec<String> {
    let given = |name: &str| !withheld.iter().any(|other| other == name);
    let names = |table: &[crate::switches::Switch]| -> Vec<&'static str> {
        table
            .iter()
            .map(|switch| switch.name)
            .filter(|name| given(name))
            .collect()
    };
    let mut all: Vec<String> = names(FLAGS).into_iter().map(str::to_owned).collect();
    all.push(format!("--disable-features={}", names(FEATURES).join(",")));
    if given(PROXY.name) {
        all.push(format!("{}=http://127.0.0.1:{}", PROXY.name, options.proxy_port));
    }
    all.push(format!("--user-data-dir={}", profile.display()));
    if let Some(mb) = options.max_old_space_mb.filter(|_| given(HEAP.name)) {
        all.push(format!("{}={mb}", HEAP.name));
    }
    if let Some(key) = options.accepted_key.filter(|_| given(ACCEPTED_KEY.name)) {
        all.push(format!("{}={}", ACCEPTED_KEY.name, STANDARD.encode(key)));
    }
    if !options.sandbox {
        all.push("--no-sandbox".to_owned());
    }
    all
}

/// The whole environment of the browser: nothing of the jailer's.
pub fn environment(profile: &Path) -> Vec<String> {
    let profile = profile.display();
    vec![
        format!("HOME={profile}"),
        format!("TMPDIR={profile}"),
        format!("XDG_CONFIG_HOME={profile}"),
        format!("XDG_CACHE_HOME={profile}"),
        "DBUS_SESSION_BUS_ADDRESS=disabled:".to_owned(),
        "LANG=C.UTF-8".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switches::Switch;

    fn sample(sandbox: bool) -> Vec<String> {
        arguments(
            Path::new("/tmp/p"),
            Options {
                proxy_port: 4001,
                max_old_space_mb: Some(256),
                accepted_key: Some([0; 32]),
                sandbox,
            },
            &[],
        )
    }

    fn count(arguments: &[String], prefix: &str) -> usize {
        arguments.iter().filter(|argument| argument.starts_with(prefix)).count()
    }

    #[test]
    fn every_flag_is_given_once_because_the_last_one_wins() {
        let mut names: Vec<_> = sample(false)
            .iter()
            .map(|a| a.split('=').next().unwrap_or(a).to_owned())
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_sandbox_is_on_unless_the_jail_is_degraded() {
        assert_eq!(count(&sample(true), "--no-sandbox"), 0);
        assert_eq!(count(&sample(false), "--no-sandbox"), 1);
        for harmful in [
            "--no-zygote",
            "--single-process",
            "--disable-seccomp",
            "--disable-namespace-sandbox",
            "--remote-debugging-port",
        ] {
            assert_eq!(count(&sample(true), harmful), 0, "{harmful}");
        }
    }

    #[test]
    fn every_switch_of_the_tables_is_on_the_command_line() {
        let arguments = sample(true);
        let features = arguments
            .iter()
            .find_map(|argument| argument.strip_prefix("--disable-features="))
            .unwrap();
        let features: Vec<&str> = features.split(',').collect();
        for Switch { name, .. } in FLAGS {
            assert!(arguments.iter().any(|argument| argument == name), "{name}");
        }
        for Switch { name, .. } in FEATURES {
            assert!(features.contains(name), "{name}");
        }
        for needed in [
            "--proxy-server=http://127.0.0.1:4001",
            "--js-flags=--max-old-space-size=256",
            "--ignore-certificate-errors-spki-list=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "--user-data-dir=/tmp/p",
        ] {
            assert!(arguments.iter().any(|argument| argument == needed), "{needed}");
        }
    }

    #[test]
    fn only_what_is_withheld_is_left_out() {
        let options = Options {
            proxy_port: 4001,
            max_old_space_mb: None,
            accepted_key: None,
            sandbox: true,
        };
        let withheld = ["--disable-quic", "AsyncDns", "--proxy-server"].map(str::to_owned);
        let (all, less) = (
            arguments(Path::new("/p"), options, &[]),
            arguments(Path::new("/p"), options, &withheld),
        );
        assert_eq!(all.len(), less.len() + 2);
        let text = less.join(" ");
        assert!(!text.contains("quic") && !text.contains("AsyncDns") && !text.contains("proxy-server"));
        assert!(text.contains("DnsOverHttps") && text.contains("--proxy-bypass-list"));
    }

    #[test]
    fn certificate_errors_are_never_overlooked_but_for_one_key_and_only_if_there_is_one() {
        let with = sample(true);
        assert_eq!(count(&with, "--ignore-certificate-errors"), 1);
        assert_eq!(count(&with, "--allow-insecure"), 0);
        let options = Options {
            proxy_port: 4001,
            max_old_space_mb: None,
            accepted_key: None,
            sandbox: true,
        };
        assert_eq!(
            count(&arguments(Path::new("/p"), options, &[]), "--ignore-certificate"),
            0
        );
    }

    #[test]
    fn the_environment_holds_only_the_profile_and_constants() {
        let names: Vec<_> = environment(Path::new("/p"))
            .iter()
            .map(|e| e.split('=').next().unwrap_or("").to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "HOME",
                "TMPDIR",
                "XDG_CONFIG_HOME",
                "XDG_CACHE_HOME",
                "DBUS_SESSION_BUS_ADDRESS",
                "LANG"
            ]
        );
    }
}
