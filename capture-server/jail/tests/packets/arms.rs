//! The arms: which browser, and what is heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use capture_jail::client::{Jailer, Spawned};
use capture_jail::switches::{self, Without};
use serde_json::{Value, json};

use crate::proxy::{self, Proxy, START};
use crate::rig::{CHROMIUM, Kind, Pipe, Rig, spawn};
use crate::uplink::Ear;
use crate::weak::ON_THE_COMMAND_LINE;

type Test = (&'static str, fn());

pub const TESTS: &[Test] = &[
    (
        "by_its_flags_alone_a_page_that_tries_everything_reaches_its_proxy_and_nothing_else",
        flags_alone,
    ),
    (
        "without_any_one_of_these_switches_something_gets_past_and_is_noticed",
        one_by_one,
    ),
    ("without_any_of_them_the_jail_still_lets_nothing_out", jail_alone),
];

/// Layers that hold a browser whatever its flags are. Without them only the flags are left.
const LAYERS: [&str; 3] = ["namespaces", "landlock", "socket-filter"];

/// What the page must have asked its proxy for, or it has not tried everything and silence proves nothing.
const TRIED: &[&str] = &[
    "/action.pdf",
    "/failed/webtransport/203.0.113.3",
    "/failed/webtransport/webtransport.vector.test",
    "/prerender",
    "/speculation",
    "/use.svg",
    "0.0.0.0:99",
    "127.0.0.1",
    "127.0.0.1:81",
    "127.0.0.1:82",
    "127.0.0.1:91",
    "127.0.0.1:92",
    "127.0.0.1:93",
    "127.0.0.1:94",
    "127.0.0.1:96",
    "127.0.0.1:97",
    "127.0.0.1:98",
    "127.0.0.1:118",
    "169.254.169.254",
    "169.254.169.254:84",
    "169.254.169.254:88",
    "203.0.113.1",
    "203.0.113.10",
    "203.0.113.2",
    "203.0.113.6:3478",
    "203.0.113.9:443",
    "[2001:db8::7]",
    "[::1]:81",
    "[::1]:83",
    "[::1]:86",
    "[::1]:89",
    "[::7f00:1]:106",
    "[::]:100",
    "[::ffff:7f00:1]:105",
    "[fe80::1]:112",
    "aia.vector.test",
    "audio.vector.test",
    "background.vector.test",
    "beacon.vector.test",
    "csp-report.vector.test",
    "css-import.vector.test",
    "embed.vector.test",
    "eventsource.vector.test",
    "fetch-later.vector.test:443",
    "fetch.vector.test",
    "font.vector.test",
    "form.vector.test",
    "frame-socket.vector.test",
    "frame.vector.test",
    "header.vector.test",
    "image.vector.test",
    "input.vector.test",
    "keepalive.vector.test",
    "link-header.vector.test",
    "localhost.:107",
    "localhost:108",
    "location.vector.test",
    "modulepreload.vector.test",
    "name.localhost:81",
    "object.vector.test",
    "ping.vector.test",
    "prefetch.vector.test",
    "preload.vector.test",
    "r301.vector.test",
    "r303.vector.test",
    "r307.vector.test",
    "r308.vector.test",
    "refresh.vector.test",
    "script.vector.test",
    "service-socket.vector.test",
    "service-worker.vector.test",
    "stylesheet.vector.test",
    "svg-inline.vector.test",
    "tls.vector.test:443",
    "track.vector.test",
    "turn.vector.test",
    "turns.vector.test:443",
    "video.vector.test",
    "websocket-tls.vector.test:443",
    "websocket.vector.test",
    "worker-socket.vector.test",
    "worker.vector.test",
    "xhr.vector.test",
];

/// What stands in the page and its headers and does not come to the proxy, so that silence proves nothing about it, and why
/// not. One of a newer browser that does come belongs above.
const NEVER_ASKED_FOR: &[(&str, &str)] = &[
    (
        "dns-prefetch.vector.test",
        "names are not looked up where there is a proxy",
    ),
    ("icon.vector.test", "the headless shell shows no icons"),
    (
        "manifest.vector.test",
        "a manifest is read when an app is installed from it",
    ),
    ("nel.vector.test", "network errors are reported by pages with TLS alone"),
    (
        "pdf-action.vector.test",
        "the headless shell has no viewer: a PDF is a download",
    ),
    (
        "pdf.vector.test",
        "the headless shell has no viewer: a PDF that is embedded is not loaded",
    ),
    (
        "preconnect.vector.test",
        "through a proxy nothing is connected in advance",
    ),
    (
        "speculation-tls.vector.test",
        "of other sites nothing is prefetched through a proxy: /speculation is the page's own",
    ),
    ("popup.vector.test", "there are no new windows"),
    ("reporting.vector.test", "reports are sent by pages with TLS alone"),
    ("shared-socket.vector.test", "there are no shared workers"),
    ("shared-worker.vector.test", "there are no shared workers"),
    (
        "speculation.vector.test",
        "other sites are never prefetched without TLS",
    ),
    ("svg.vector.test", "a picture loads nothing"),
    (
        "svg-use.vector.test",
        "a part of a picture comes from the page's own site alone: /use.svg",
    ),
];

/// Of what is tried, what WebRTC tries only where there is an interface besides the loopback: not in a jail.
const NEEDS_AN_INTERFACE: &[&str] = &[
    "203.0.113.6:3478",
    "203.0.113.9:443",
    "turn.vector.test",
    "turns.vector.test:443",
];

/// How long it may take until a page has tried everything.
const PATIENCE: Duration = Duration::from_mins(1);
/// After this it is loaded again: a browser that is starved of its processor gives some requests up.
const AGAIN: Duration = Duration::from_secs(10);
/// How long it is listened to when it has.
const SILENCE: Duration = Duration::from_secs(3);

/// A browser with the page open, and whoever hears of it.
struct Arm {
    _rig: Rig,
    _jailer: Jailer,
    pipe: Pipe,
    session: Value,
    proxy: Proxy,
    ear: Ear,
}

impl Arm {
    /// Opens the page: in a context with a proxy of its own, as the product does, or by the command line's proxy alone.
    fn open(kind: Kind, own_context: bool) -> Self {
        let rig = Rig::start(kind);
        let mut jailer = rig.connect();
        let Spawned {
            cdp_read,
            cdp_write,
            listeners,
            ..
        } = spawn(&mut jailer, 2);
        let ports: Vec<u16> = listeners.iter().map(|(_, port)| *port).collect();
        let ear = Ear::open(ports.clone());
        let mut listeners = listeners.into_iter().map(|(fd, _)| TcpListener::from(fd));
        let (whole, context) = (listeners.next().unwrap(), listeners.next().unwrap());
        let mut pipe = Pipe::new(cdp_read, cdp_write);
        let mut target = json!({"url": "about:blank"});
        let proxy = if own_context {
            let server = format!("http://127.0.0.1:{}", ports[1]);
            let parameters = json!({"proxyServer": server, "proxyBypassList": "<-loopback>"});
            target["browserContextId"] =
                pipe.call("Target.createBrowserContext", &parameters)["browserContextId"].clone();
            Proxy::serve(context)
        } else {
            Proxy::serve(whole)
        };
        let page = pipe.call("Target.createTarget", &target);
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = pipe.call("Target.attachToTarget", &attach)["sessionId"].clone();
        let mut arm = Self {
            _rig: rig,
            _jailer: jailer,
            pipe,
            session,
            proxy,
            ear,
        };
        arm.load();
        arm
    }

    /// Not waited for: a page that went past its proxy is never answered.
    fn load(&mut self) {
        let parameters = json!({"url": START});
        let call = json!({"id": 1_000_000, "method": "Page.navigate", "params": parameters, "sessionId": self.session});
        self.pipe.send(&call.to_string());
    }

    /// Waits until the page has tried everything `but` that; panics if it does not.
    fn tried(&mut self, but: &[&str]) {
        let (began, mut loaded) = (Instant::now(), Instant::now());
        loop {
            let asked = self.proxy.asked();
            let left: Vec<_> = TRIED
                .iter()
                .filter(|vector| !but.contains(vector) && !asked.contains(**vector))
                .collect();
            if left.is_empty() {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "the page has not tried {left:?}, only {asked:?}"
            );
            if loaded.elapsed() > AGAIN {
                self.load();
                loaded = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it is so.
    fn until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: nothing seen, but {:?}",
                self.ear.heard()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn targets(&mut self, kind: &str) -> usize {
        let targets = self.pipe.call("Target.getTargets", &json!({}));
        let targets = targets["targetInfos"].as_array().unwrap().iter();
        targets.filter(|target: &&Value| target["type"] == kind).count()
    }

    /// Nothing but the proxy was heard of a page that tried everything, and it has no pop-up.
    fn silent(mut self, what: &str, but: &[&str]) {
        self.tried(but);
        std::thread::sleep(SILENCE);
        assert_eq!(self.ear.heard(), BTreeMap::new(), "{what}");
        for (vector, why) in NEVER_ASKED_FOR {
            assert!(proxy::is_in_the_page(vector), "{vector} is not tried");
            let asked = self.proxy.asked();
            let came = asked.iter().any(|asked| asked.split(':').next() == Some(vector));
            assert!(!came, "{what}: {vector} was asked for, though {why}");
        }
        assert_eq!(self.targets("page"), 1, "{what}");
        assert!(
            self.targets("iframe") >= 4,
            "{what}: frames of other sites share the page's process"
        );
    }
}

fn without(layers: &[&str], switches: &[&str]) -> Kind {
    let names = layers.iter().chain(switches).map(ToString::to_string);
    Kind::WeakBy(CHROMIUM.into(), names.collect())
}

fn flags_alone() {
    Arm::open(without(&LAYERS, &[]), false).silent("the browser's own context", &[]);
    Arm::open(without(&LAYERS, &[]), true).silent("a context with a proxy of its own", &[]);
}

/// Something that is seen of a browser that lacks a switch.
type Sight = fn(&mut Arm) -> bool;

fn heard(arm: &mut Arm, kind: &str, about: &str) -> bool {
    let mut packets = arm.ear.heard().into_keys();
    packets.any(|packet| packet.starts_with(kind) && packet.contains(about))
}

const SIGHTS: &[(&str, Sight)] = &[
    ("--proxy-server", |arm| heard(arm, "tcp", "127.0.0.1 80")),
    ("--proxy-bypass-list=<-loopback>", |arm| {
        heard(arm, "tcp", "127.0.0.1 80")
    }),
    ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", |arm| {
        heard(arm, "dns", "turns.vector.test")
    }),
    ("--force-webrtc-ip-handling-policy=disable_non_proxied_udp", |arm| {
        heard(arm, "udp", "203.0.113.4 3478")
            && heard(arm, "udp", "203.0.113.5 3478")
            && heard(arm, "udp", "203.0.113.8 9999")
            && heard(arm, "udp", "127.0.0.1 3478")
    }),
    ("--block-new-web-contents", |arm| {
        arm.targets("page") > 1 && arm.proxy.asked().contains("popup.vector.test")
    }),
    ("WebRtcHideLocalIpsWithMdns", |arm| {
        heard(arm, "udp", "224.0.0.251 5353")
    }),
];

fn one_by_one() {
    for (name, sight) in SIGHTS {
        let mut arm = Arm::open(without(&LAYERS, &[name]), false);
        arm.until(name, sight);
    }
    // Seen by what is not there.
    let name = "--site-per-process";
    let mut arm = Arm::open(without(&LAYERS, &[name]), false);
    arm.tried(&[]);
    assert_eq!(arm.targets("iframe"), 0, "{name}");
    // Each switch whose absence is said to be seen is in a table of arms, and no other.
    let seen = switches::all().filter(|switch| matches!(switch.without, Without::Seen(_)));
    let seen: BTreeSet<&str> = seen.map(|switch| switch.name).collect();
    let arms = SIGHTS
        .iter()
        .map(|(name, _)| *name)
        .chain([name])
        .chain(ON_THE_COMMAND_LINE.iter().copied());
    assert_eq!(arms.collect::<BTreeSet<_>>(), seen);
}

fn jail_alone() {
    let names: Vec<&str> = SIGHTS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "--block-new-web-contents")
        .collect();
    Arm::open(without(&[], &names), true).silent("a jail whose browser has none of the flags", NEEDS_AN_INTERFACE);
    Arm::open(Kind::Product(CHROMIUM.into()), true).silent("a jail as it is shipped", NEEDS_AN_INTERFACE);
}
