//! Every switch that a browser gets, what it protects, and what is known of a browser without it.
//!
//! In: nothing. Out: tables, the only place where these names stand ([`crate::flags`] makes the command line of them).
//! `tests/packets` and `tests/isolation` start a browser without each switch whose [`Without`] says that something is
//! seen, and see it; a switch that no test goes without must say why. Must not: hold a value that differs from jail to
//! jail.

/// One switch.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// As it stands on the command line, or the feature's name.
    pub name: &'static str,
    /// What it is for.
    pub protects: &'static str,
    /// What becomes of a browser that does not get it.
    pub without: Without,
}

/// What is known of a browser without a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// A test starts one and sees this.
    Seen(&'static str),
    /// Nothing that can be seen from outside, because of this. That it is given is tested all the same.
    Unseen(&'static str),
    /// It protects nothing.
    Harmless,
}

use Without::{Harmless, Seen, Unseen};

const fn switch(name: &'static str, protects: &'static str, without: Without) -> Switch {
    Switch {
        name,
        protects,
        without,
    }
}

const NOT_IN_SHELL: Without = Unseen("the headless shell does not have it; a full Chromium in its place would");

/// Flags without a value of ours.
pub const FLAGS: &[Switch] = &[
    switch(
        "--remote-debugging-pipe",
        "the browser is steered over two descriptors: no port that a page or a neighbour could reach",
        Seen("no answer on the pipe"),
    ),
    switch(
        "--disable-gpu",
        "with the next: no GPU process without a filter, within a page's reach through WebGL",
        Unseen("where there is no GPU the next one alone keeps the process filtered"),
    ),
    switch(
        "--disable-software-rasterizer",
        "the GPU process is filtered; the one before alone leaves it unfiltered",
        Seen("the preflight finds the GPU process without a filter"),
    ),
    switch(
        "--site-per-process",
        "a site's memory is out of another site's reach",
        Seen("frames of other sites share the page's process"),
    ),
    switch(
        "--block-new-web-contents",
        "no pop-ups, each of which would be a page that nobody watches",
        Seen("a pop-up opens and loads"),
    ),
    switch(
        "--disable-shared-workers",
        "no worker that belongs to several pages: what one unpacks and asks for would be counted with none",
        Seen("a page can start a shared worker"),
    ),
    switch(
        "--proxy-bypass-list=<-loopback>",
        "loopback and link-local addresses go to the proxy, too",
        Seen("a connection to the loopback, past the proxy"),
    ),
    switch(
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "the browser looks no name up",
        Seen("look-ups of names that a page chose"),
    ),
    switch(
        "--disable-quic",
        "no HTTP over UDP",
        Unseen("behind an HTTP proxy the browser has no use for QUIC"),
    ),
    switch(
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
        "no STUN, TURN or ICE over UDP",
        Seen("UDP to addresses that a page chose"),
    ),
    switch(
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
        "the same in a full Chromium, which does not know the other name",
        Unseen("the headless shell obeys the other name"),
    ),
    switch("--disable-background-networking", "no traffic of its own", NOT_IN_SHELL),
    switch("--disable-component-update", "no traffic of its own", NOT_IN_SHELL),
    switch("--disable-sync", "no traffic of its own", NOT_IN_SHELL),
    switch("--disable-breakpad", "no crash reports, which hold pages", NOT_IN_SHELL),
    switch("--disable-default-apps", "no traffic of its own", NOT_IN_SHELL),
    switch("--no-first-run", "no traffic of its own", NOT_IN_SHELL),
    switch("--no-default-browser-check", "no traffic of its own", NOT_IN_SHELL),
    switch(
        "--no-pings",
        "no pings of links; those that come anyhow are requests like any other",
        NOT_IN_SHELL,
    ),
    switch(
        "--hide-scrollbars",
        "a picture shows the page, not the window around it",
        Harmless,
    ),
    switch("--mute-audio", "no sound device is looked for", Harmless),
    switch(
        "--disable-dev-shm-usage",
        "no shared memory in a /dev/shm that all jails share",
        Unseen(
            "where the kernel has memfd, as all that are supported do, shared memory lies in no directory; the watchdog counts it",
        ),
    ),
];

/// Features that are off.
pub const FEATURES: &[Switch] = &[
    switch(
        "WebRtcHideLocalIpsWithMdns",
        "no multicast DNS",
        Seen("multicast to the network that the pod is in"),
    ),
    switch(
        "AsyncDns",
        "no resolver of the browser's own",
        Unseen("the rules for hosts leave it no name to look up"),
    ),
    switch(
        "DnsOverHttps",
        "no resolver of the browser's own",
        Unseen("the rules for hosts leave it no name to look up"),
    ),
    switch("OptimizationHints", "no traffic of its own", NOT_IN_SHELL),
    switch("Translate", "no traffic of its own", NOT_IN_SHELL),
    switch("MediaRouter", "no search for devices", NOT_IN_SHELL),
    switch("RenderDocument", "less work per page", Harmless),
    switch("PaintHolding", "less work per page", Harmless),
    switch("BackForwardCache", "less work per page", Harmless),
];

/// With the port of the jail's first listener.
pub const PROXY: Switch = switch(
    "--proxy-server",
    "what belongs to no page has a proxy that refuses everything",
    Seen("connections past any proxy"),
);

/// With V8's old-space limit in MiB; given only to jails that are asked for with one.
pub const HEAP: Switch = switch(
    "--js-flags=--max-old-space-size",
    "a page's scripts have a bound of their own below the process's",
    Seen("a heap limit of the browser's choice"),
);

/// With the digest of the proxy's key, in base64; given only to jails that are asked for with one. It is about one key that
/// nobody but the proxy has, and needs a profile directory of its own to be obeyed.
pub const ACCEPTED_KEY: Switch = switch(
    "--ignore-certificate-errors-spki-list",
    "hosts whose keys the policy names are checked by the proxy, whose certificate for them the browser takes",
    Seen("such hosts have a certificate that nobody vouches for"),
);

/// Every switch.
pub fn all() -> impl Iterator<Item = &'static Switch> {
    FLAGS.iter().chain(FEATURES).chain([&PROXY, &HEAP, &ACCEPTED_KEY])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no other test would miss: a switch without an effect that can be seen goes by decision, not by accident.
    #[test]
    fn the_switches_that_nothing_is_seen_without_are_these() {
        let unseen: Vec<_> = all()
            .filter(|switch| matches!(switch.without, Unseen(_)))
            .map(|switch| switch.name)
            .collect();
        let expected = [
            "--disable-gpu",
            "--disable-quic",
            "--webrtc-ip-handling-policy=disable_non_proxied_udp",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
            "--disable-default-apps",
            "--no-first-run",
            "--no-default-browser-check",
            "--no-pings",
            "--disable-dev-shm-usage",
            "AsyncDns",
            "DnsOverHttps",
            "OptimizationHints",
            "Translate",
            "MediaRouter",
        ];
        assert_eq!(unseen, expected);
    }

    #[test]
    fn every_switch_says_what_it_is_for_and_no_name_stands_twice() {
        let mut names: Vec<_> = all().map(|switch| switch.name).collect();
        assert!(all().all(|switch| !switch.protects.is_empty()));
        let reasons = all().filter_map(|switch| match switch.without {
            Seen(text) | Unseen(text) => Some(text),
            Harmless => None,
        });
        assert!(reasons.into_iter().all(|text| text.len() > 10));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
