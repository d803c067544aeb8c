//! With the real Chromium.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use capture_jail::client::{ClientError, Spawned};
use capture_jail::facts::{self, Reason, Role};
use capture_jail::inspect;
use capture_jail::protocol::{Blocker, ExitCause, JailError, LandlockFacts, Mode, SandboxReason, SpawnSpec, Step};
use serde_json::json;

use crate::Test;
use crate::rig::{CHROMIUM, Kind, Pipe, Rig, eventually, gone, spawn};
use crate::weak;

pub const TESTS: &[Test] = &[
    ("a_real_browser_answers_and_is_confined_as_promised", confined),
    (
        "a_page_s_requests_arrive_at_its_own_context_s_listener_in_absolute_form",
        listeners,
    ),
    ("a_page_is_painted_with_fonts_and_its_picture_is_a_png", painted),
    ("a_killed_browser_leaves_no_process_and_no_profile_directory", killed),
    ("a_page_that_computes_stands_back_and_nobody_else", stands_back),
    (
        "the_shared_memory_that_a_page_s_layers_lie_in_counts_against_its_jail_s_budget",
        shared,
    ),
    (
        "where_user_namespaces_are_filtered_a_required_jail_says_who_refuses",
        refused,
    ),
    (
        "where_user_namespaces_are_filtered_a_degraded_jail_runs_and_is_never_verified",
        degraded,
    ),
    (
        "without_any_one_call_that_the_profile_is_about_no_browser_comes_up_and_it_is_said",
        calls,
    ),
];

fn pipe(spawned: Spawned) -> Pipe {
    Pipe::new(spawned.cdp_read, spawned.cdp_write)
}

fn confined() {
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 2);
    let id = spawned.id;
    assert!(!spawned.degraded);
    let mut cdp = pipe(spawned);
    let version = cdp.call("Browser.getVersion", &json!({}));
    assert!(version["product"].as_str().unwrap().contains("Chrome/"), "{version}");
    cdp.call("Target.createTarget", &json!({"url": "about:blank"}));
    let mut last = jailer.facts(Some(id)).unwrap();
    eventually("the facts are as promised", || {
        last = jailer.facts(Some(id)).unwrap();
        let verdict = facts::verify(&last);
        if std::env::var_os("BROWSER_LOG").is_some() {
            eprintln!("{verdict:?} {last:#?}");
        }
        verdict.is_ok()
    });
    let count = |role| last.processes.iter().filter(|process| process.role == role).count();
    assert_eq!((count(Role::Browser), count(Role::Network)), (1, 1), "{last:#?}");
    assert!(
        count(Role::Renderer) >= 1 && count(Role::Gpu) >= 1 && count(Role::Zygote) >= 2,
        "{last:#?}"
    );
    assert_eq!(last.interfaces, ["lo"]);
    assert!(last.secrets.witnesses > 0 && last.secrets.opened == 0, "{last:#?}");
    let stats = jailer.stats(id).unwrap();
    assert!(
        stats.processes >= 5 && stats.tasks > stats.processes && stats.anonymous_bytes > 10 << 20,
        "{stats:?}"
    );
    assert_eq!(stats.exit, None);
}

fn listeners() {
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let mut spawned = spawn(&mut jailer, 2);
    let (fd, port) = spawned.listeners.remove(1);
    let listener = TcpListener::from(fd);
    let mut cdp = pipe(spawned);
    let proxy = json!({"proxyServer": format!("http://127.0.0.1:{port}"), "proxyBypassList": "<-loopback>"});
    let context = cdp.call("Target.createBrowserContext", &proxy)["browserContextId"].clone();
    cdp.call(
        "Target.createTarget",
        &json!({"url": "http://127.0.0.1:81/x", "browserContextId": context}),
    );
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    eventually("a request arrives", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = [0; 32];
    stream.read_exact(&mut head).unwrap();
    assert!(
        head.starts_with(b"GET http://127.0.0.1:81/x HTTP/1"),
        "{}",
        String::from_utf8_lossy(&head)
    );
}

fn painted() {
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let mut cdp = pipe(spawn(&mut jailer, 1));
    let url = "data:text/html,<body style='margin:0;background:%23f00'><span id=a>mmmm</span>";
    let target = cdp.call(
        "Target.createTarget",
        &json!({"url": "about:blank", "width": 320, "height": 200}),
    );
    let attach = json!({"targetId": target["targetId"], "flatten": true});
    let session = cdp.call("Target.attachToTarget", &attach)["sessionId"].clone();
    // Answers when the page is committed; before that the context of a question could be destroyed.
    cdp.call_page(&session, "Page.navigate", &json!({"url": url}));
    let width = "document.fonts.ready.then(() => document.getElementById('a')?.getBoundingClientRect().width ?? 0)";
    let question = json!({"expression": width, "awaitPromise": true, "returnByValue": true});
    eventually("the text has a width", || {
        let answer = cdp.call_page(&session, "Runtime.evaluate", &question);
        answer["result"]["value"].as_f64().is_some_and(|width| width > 10.0)
    });
    let picture = cdp.call_page(&session, "Page.captureScreenshot", &json!({"format": "png"}));
    let data = picture["data"].as_str().unwrap();
    assert!(
        data.starts_with("iVBORw0KGgo") && data.len() > 400,
        "{} characters",
        data.len()
    );
}

/// No limit of the kernel's counts it: ten canvases of 16 MB that change have 450 MB of it.
fn shared() {
    const BUDGET_MB: u32 = 400;
    const LAYERS: &str = "data:text/html,<body><script>const all=[...Array(10)].map(()=>{\
        const c=document.createElement('canvas');c.width=c.height=2000;c.style='position:absolute;left:0;top:0';\
        document.body.append(c);return c.getContext('2d')});\
        const f=()=>{for(const g of all)g.fillRect(Math.random()*100,0,10,10);requestAnimationFrame(f)};f()</script>";
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let spec = SpawnSpec {
        memory_budget_mb: BUDGET_MB,
        ..SpawnSpec::new(1, Mode::Required)
    };
    let spawned = jailer.spawn(&spec, Duration::from_secs(20)).unwrap();
    let id = spawned.id;
    let mut cdp = pipe(spawned);
    cdp.call("Target.createTarget", &json!({"url": LAYERS}));
    let (mut exit, mut anonymous, mut shared) = (None, 0, 0);
    eventually("the watchdog ends it", || {
        let stats = jailer.stats(id).unwrap();
        (exit, anonymous) = (stats.exit, anonymous.max(stats.anonymous_bytes));
        shared = shared.max(stats.shared_bytes);
        exit.is_some()
    });
    assert_eq!(exit.unwrap().cause, ExitCause::MemoryBudget);
    assert!(
        anonymous < u64::from(BUDGET_MB) << 20,
        "{anonymous} bytes alone are too much"
    );
    assert!(shared > 100 << 20, "{shared} bytes are told");
}

/// Nice value and scheduling policy of a process.
fn standing(pid: i32) -> Option<(i32, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields[16].parse().ok()?, fields[38].parse().ok()?))
}

fn stands_back() {
    const IDLE: i32 = 5; // SCHED_IDLE
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let mut cdp = pipe(spawn(&mut jailer, 1));
    for body in ["<p>harmless", "<script>for(;;);</script>"] {
        let context = cdp.call("Target.createBrowserContext", &json!({}))["browserContextId"].clone();
        let page = json!({"url": format!("data:text/html,{body}"), "browserContextId": context});
        cdp.call("Target.createTarget", &page);
    }
    let standings = |pages: bool| -> Vec<_> {
        let some = rig
            .below()
            .into_iter()
            .filter(|pid| inspect::is_renderer(*pid) == pages);
        some.filter_map(standing).collect()
    };
    eventually("the page that computes stands back", || {
        standings(true).iter().any(|(nice, _)| *nice > 0)
    });
    eventually("and goes last", || {
        standings(true).iter().any(|(_, policy)| *policy == IDLE)
    });
    let last = standings(true).iter().filter(|(_, policy)| *policy == IDLE).count();
    assert!(last == 1 && standings(true).len() > 1, "{:?}", standings(true));
    let others = standings(false);
    assert!(
        others.len() > 4 && others.iter().all(|found| *found == (0, 0)),
        "{others:?}"
    );
}

fn killed() {
    let rig = Rig::chromium();
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let id = spawned.id;
    let mut cdp = pipe(spawned);
    cdp.call("Target.createTarget", &json!({"url": "about:blank"}));
    let pids = rig.below();
    assert!(pids.len() >= 4 && rig.profile_count() == 1, "{pids:?}");
    let exit = jailer.kill(id).unwrap();
    assert_eq!((exit.cause, exit.signal), (ExitCause::Killed, Some(9)));
    assert!(gone(&pids));
    assert_eq!(rig.below(), [0; 0]);
    assert_eq!(rig.profile_count(), 0);
    let unknown = JailError {
        step: Step::Request,
        errno: None,
        reason: SandboxReason::UnknownJail,
    };
    assert!(matches!(jailer.kill(id), Err(ClientError::Jail(error)) if error == unknown));
}

fn refused() {
    let rig = Rig::start(Kind::Weak(CHROMIUM.into(), &[weak::USER_NAMESPACES]));
    let mut jailer = rig.connect();
    let error = jailer
        .spawn(&SpawnSpec::new(1, Mode::Required), Duration::from_secs(20))
        .unwrap_err();
    let reason = SandboxReason::UserNamespacesBlocked(Blocker::SeccompFilter);
    let expected = JailError {
        step: Step::Clone,
        errno: Some(libc::EPERM),
        reason,
    };
    assert!(
        matches!(error, ClientError::Jail(error) if error == expected),
        "{error:?}"
    );
    assert_eq!(rig.profile_count(), 0);
    assert_eq!(rig.below(), [0; 0]);
}

fn degraded() {
    let rig = Rig::start(Kind::Weak(CHROMIUM.into(), &[weak::USER_NAMESPACES]));
    let mut jailer = rig.connect();
    let spawned = jailer
        .spawn(&SpawnSpec::new(1, Mode::Degraded), Duration::from_secs(20))
        .unwrap();
    assert!(spawned.degraded);
    let id = spawned.id;
    let mut cdp = pipe(spawned);
    cdp.call("Target.createTarget", &json!({"url": "about:blank"}));
    let facts = jailer.facts(Some(id)).unwrap();
    let abi = facts.jailer.landlock_abi;
    assert!(abi >= 6, "this test needs a kernel with all of Landlock, not ABI {abi}");
    assert!(facts.degraded);
    assert_eq!(facts.landlock, LandlockFacts::ALL, "all of it stays");
    let mut reasons = Vec::new();
    eventually("a renderer is there and known to be unfiltered", || {
        reasons = facts::verify(&jailer.facts(Some(id)).unwrap()).unwrap_err();
        reasons.contains(&Reason::RendererUnfiltered)
    });
    for reason in [
        Reason::Degraded,
        Reason::SharedUserNamespace,
        Reason::SharedNetworkNamespace,
    ] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
    let pids = rig.below();
    assert!(pids.len() >= 3);
    jailer.kill(id).unwrap();
    assert!(
        gone(&pids),
        "no pid namespace takes them along, so the jailer must find every one"
    );
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
}

fn calls() {
    for (name, _) in weak::CALLS {
        let rig = Rig::start(Kind::WeakBy(CHROMIUM.into(), vec![(*name).to_owned()]));
        let mut jailer = rig.connect();
        // Whole: without its pipe the browser would end whatever it may call.
        let spawned = spawn(&mut jailer, 1);
        let mut exit = None;
        eventually("the browser gives up", || {
            exit = jailer.stats(spawned.id).unwrap().exit;
            exit.is_some()
        });
        assert_eq!(exit.unwrap().cause, ExitCause::DiedEarly, "{name}: {exit:?}");
        assert_eq!((rig.below().len(), rig.profile_count()), (0, 0), "{name}");
    }
}
