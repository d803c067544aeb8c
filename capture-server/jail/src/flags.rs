//! The browser's command line: one fixed table plus a few typed numbers.
//!
//! In: the profile directory, the proxy's port, options. Out: argv without the program.
//! It must not take free-form arguments from the peer. Each flag was tested to matter or to do no harm; Chromium obeys
//! only the last `--disable-features`, so that list is merged here and written once.

use std::path::Path;

/// Features that are off, and why: first group no traffic past the proxy, second group less work per page.
const DISABLED_FEATURES: &[&str] = &[
    "WebRtcHideLocalIpsWithMdns", // mDNS multicast
    "AsyncDns",
    "DnsOverHttps",
    "OptimizationHints",
    "Translate",
    "MediaRouter", // would look for devices
    "RenderDocument",
    "PaintHolding",
    "BackForwardCache",
];

/// Flags without a value of ours.
const FIXED: &[&str] = &[
    "--remote-debugging-pipe",
    // Both: --disable-gpu alone leaves the GPU process unsandboxed, reachable through software WebGL.
    "--disable-gpu",
    "--disable-software-rasterizer",
    // Off by default in the headless shell.
    "--site-per-process",
    "--block-new-web-contents",
    // No way around the proxy. `<-loopback>` takes away the implicit bypass of loopback and link-local addresses.
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-quic",
    // The headless shell obeys the first, full Chromium the second.
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    // No chatter of its own.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-default-apps",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    // A picture shows the page, not the window around it.
    "--hide-scrollbars",
    "--mute-audio",
    // Shared memory goes to TMPDIR, which is the jail's own, instead of a /dev/shm that all jails share.
    "--disable-dev-shm-usage",
];

/// The numbers that differ from jail to jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The first listener's port: the browser's own proxy.
    pub proxy_port: u16,
    /// V8's old-space limit in MiB.
    pub max_old_space_mb: Option<u16>,
    /// Whether the browser's own sandbox stays on; off only in a degraded jail.
    pub sandbox: bool,
}

/// The arguments of the browser, without the program's name.
pub fn arguments(profile: &Path, options: Options) -> Vec<String> {
    let mut all: Vec<String> = FIXED.iter().map(ToString::to_string).collect();
    all.push(format!("--disable-features={}", DISABLED_FEATURES.join(",")));
    all.push(format!("--proxy-server=http://127.0.0.1:{}", options.proxy_port));
    all.push(format!("--user-data-dir={}", profile.display()));
    if let Some(mb) = options.max_old_space_mb {
        all.push(format!("--js-flags=--max-old-space-size={mb}"));
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

    fn sample(sandbox: bool) -> Vec<String> {
        arguments(
            Path::new("/tmp/p"),
            Options {
                proxy_port: 4001,
                max_old_space_mb: Some(256),
                sandbox,
            },
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
    fn everything_goes_to_the_proxy_and_nothing_past_it() {
        let arguments = sample(true);
        for needed in [
            "--proxy-server=http://127.0.0.1:4001",
            "--proxy-bypass-list=<-loopback>",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
            "--disable-software-rasterizer",
            "--site-per-process",
            "--block-new-web-contents",
            "--remote-debugging-pipe",
            "--js-flags=--max-old-space-size=256",
        ] {
            assert!(arguments.iter().any(|argument| argument == needed), "{needed}");
        }
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
