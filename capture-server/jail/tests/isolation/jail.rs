//! With a program that looks around in the browser's place. Each wall has its control: without that layer it is open.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use capture_jail::client::Jailer;
use capture_jail::protocol::{ExitCause, Mode, SpawnSpec};

use crate::Test;
use crate::rig::{Pipe, Rig, eventually, spawn};
use crate::weak;

const EPERM: &str = "errno 1";
const ENOENT: &str = "errno 2";
const ESRCH: &str = "errno 3";
const EACCES: &str = "errno 13";
const REFUSED: &str = "errno 111";

pub const TESTS: &[Test] = &[
    ("inside_there_is_only_lo_and_no_route", only_loopback),
    (
        "without_the_namespaces_the_host_s_loopback_is_in_reach",
        without_namespaces,
    ),
    (
        "a_file_outside_the_list_is_not_readable_even_if_its_mode_allows_it",
        secret,
    ),
    ("without_landlock_the_same_file_is_readable", without_landlock),
    (
        "a_program_that_a_jail_has_written_is_not_run_and_without_landlock_it_is",
        own_programs,
    ),
    ("landlock_alone_keeps_the_jail_to_its_own_ports", ports),
    (
        "the_jailer_s_socket_cannot_be_reached_because_it_is_not_there",
        jailer_socket,
    ),
    ("no_udp_socket_can_be_made_and_without_the_filter_it_can", udp),
    (
        "the_program_inherits_nothing_but_its_pipes_and_constants",
        inherits_nothing,
    ),
    ("limits_are_set_and_privileges_are_gone", limits),
    ("a_jail_over_its_memory_budget_is_ended_as_a_whole", budget),
    (
        "processes_that_are_each_far_below_the_budget_are_over_it_together",
        together,
    ),
    (
        "landlock_alone_keeps_signals_and_abstract_sockets_in_and_without_it_they_get_out",
        scopes,
    ),
    (
        "a_jail_has_no_more_tasks_than_its_limit_and_without_namespaces_more",
        tasks,
    ),
    (
        "a_degraded_jail_over_its_task_budget_is_ended_as_a_whole_and_its_neighbour_is_not",
        task_budget,
    ),
    (
        "the_tasks_of_all_of_a_jails_processes_count_together_and_a_neighbours_do_not",
        tasks_of_many,
    ),
    ("a_process_reserves_no_more_memory_than_was_asked_for", data),
    (
        "a_jail_reaches_neither_the_jailer_nor_the_server_nor_another_jail",
        neighbours,
    ),
];

fn look(rig: &Rig) -> (capture_jail::client::Jailer, Pipe, u16) {
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let port = spawned.listeners[0].1;
    // The listener lives on: the jail may connect to it.
    std::mem::forget(spawned.listeners);
    (jailer, Pipe::new(spawned.cdp_read, spawned.cdp_write), port)
}

fn on_the_host() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let question = format!("tcp {}", listener.local_addr().unwrap());
    (listener, question)
}

fn only_loopback() {
    let rig = Rig::looking_around();
    let (_jailer, mut pipe, port) = look(&rig);
    assert_eq!(pipe.ask("interfaces"), "lo");
    assert_eq!(pipe.ask("routes"), "0");
    assert_eq!(pipe.ask("pid"), "1");
    assert_eq!(pipe.ask(&format!("tcp 127.0.0.1:{port}")), "ok");
}

fn without_namespaces() {
    let (_listener, question) = on_the_host();
    let rig = Rig::looking_around_without(&["landlock"]);
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask(&question), REFUSED, "the jail's loopback is its own");
    let rig = Rig::looking_around_without(&["landlock", "namespaces"]);
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask(&question), "ok");
}

fn secret() {
    let rig = Rig::looking_around();
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask(&format!("read {}", rig.secret().display())), EACCES);
    assert_eq!(pipe.ask("read /etc/passwd"), EACCES);
    assert_eq!(pipe.ask(&format!("write {}/x", rig.profiles.display())), EACCES);
    assert_eq!(pipe.ask("write x"), "ok", "its own profile is writable");
}

fn without_landlock() {
    let rig = Rig::looking_around_without(&["landlock"]);
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask(&format!("read {}", rig.secret().display())), "ok");
    assert_eq!(pipe.ask(&format!("write {}/x", rig.profiles.display())), "ok");
}

fn own_programs() {
    for (rig, outcome) in [
        (Rig::looking_around(), EACCES),
        (Rig::looking_around_without(&["landlock"]), "ok"),
    ] {
        let (_jailer, mut pipe, _) = look(&rig);
        assert_eq!(pipe.ask("execute /proc/self/exe"), "ok", "itself it may run");
        assert_eq!(pipe.ask("program ./made"), "ok", "its own profile is writable");
        assert_eq!(pipe.ask("execute ./made"), outcome);
    }
}

fn ports() {
    let (_listener, question) = on_the_host();
    let rig = Rig::looking_around_without(&["namespaces"]);
    let (mut jailer, mut pipe, port) = look(&rig);
    let landlock = jailer.facts(None).unwrap().jailer.landlock_abi;
    assert!(
        landlock >= 4,
        "this test needs a kernel with Landlock for TCP, not ABI {landlock}"
    );
    assert_eq!(pipe.ask(&question), EACCES);
    assert_eq!(pipe.ask("listen"), EACCES);
    assert_eq!(pipe.ask(&format!("tcp 127.0.0.1:{port}")), "ok");
}

fn jailer_socket() {
    let rig = Rig::looking_around();
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask(&format!("unix {}", rig.socket.display())), ENOENT);
    // The control: Landlock does not cover path-name sockets, so one that is there would be in reach.
    let _there = UnixListener::bind(&rig.socket).unwrap();
    std::fs::set_permissions(&rig.socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(pipe.ask(&format!("unix {}", rig.socket.display())), "ok");
    std::fs::remove_file(&rig.socket).unwrap();
}

fn udp() {
    let rig = Rig::looking_around();
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask("udp"), EPERM);
    // The control. In a container with the shipped profile nobody has UDP, this test neither.
    let here = UdpSocket::bind("127.0.0.1:0");
    let expected = here.map_or_else(
        |error| format!("errno {}", error.raw_os_error().unwrap_or(-1)),
        |_| "ok".to_owned(),
    );
    let rig = Rig::looking_around_without(&["socket-filter"]);
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask("udp"), expected);
}

fn inherits_nothing() {
    let rig = Rig::looking_around();
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(
        pipe.ask("environment"),
        "HOME,TMPDIR,XDG_CONFIG_HOME,XDG_CACHE_HOME,DBUS_SESSION_BUS_ADDRESS,LANG"
    );
    // 0-2 are /dev/null, 3 and 4 the pipe; 5 and 6 the program's own second opening of it, 7 the listing.
    assert_eq!(pipe.ask("descriptors"), "[0, 1, 2, 3, 4, 5, 6, 7]");
}

fn limits() {
    let rig = Rig::looking_around();
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask("limit Max processes"), "300/300");
    assert_eq!(pipe.ask("limit Max data size"), format!("{0}/{0}", 700 << 20));
    assert_eq!(pipe.ask("limit Max stack size"), format!("{0}/{0}", 2 << 20));
    assert_eq!(pipe.ask("limit Max core file size"), "0/0");
    assert_eq!(pipe.ask("status CapEff"), "0000000000000000");
    assert_eq!(pipe.ask("status NoNewPrivs"), "1");
    assert_eq!(pipe.ask("status Seccomp"), "2");
    assert_eq!(pipe.ask("status SigBlk"), "0000000000000000");
}

fn budget() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let spec = SpawnSpec {
        memory_budget_mb: 256,
        ..SpawnSpec::new(1, Mode::Required)
    };
    let spawned = jailer.spawn(&spec, Duration::from_secs(20)).unwrap();
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    assert_eq!(pipe.ask("eat 100"), "ok");
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(
        jailer.stats(spawned.id).unwrap().exit,
        None,
        "within the budget nothing happens"
    );
    pipe.send("eat 200"); // Whether it gets to answer is a race.
    let mut exit = None;
    eventually("the watchdog ends it", || {
        exit = jailer.stats(spawned.id).unwrap().exit;
        exit.is_some()
    });
    assert_eq!(exit.unwrap().cause, ExitCause::MemoryBudget);
    assert!(pipe.receive().is_none() || pipe.receive().is_none());
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
}

/// The kernel's bound is each process's: six cross-site frames, a process each, once walked past it.
fn together() {
    const EACH: u64 = 60 << 20;
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let spec = SpawnSpec {
        memory_budget_mb: 256,
        ..SpawnSpec::new(1, Mode::Required)
    };
    let spawned = jailer.spawn(&spec, Duration::from_secs(20)).unwrap();
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    assert_eq!(pipe.ask("breed 3 eat 60"), "3");
    eventually("three have eaten", || {
        jailer.stats(spawned.id).unwrap().anonymous_bytes >= 3 * EACH
    });
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(jailer.stats(spawned.id).unwrap().exit, None, "together below it");
    pipe.send("breed 3 eat 60"); // Whether it gets to answer is a race.
    let mut exit = None;
    eventually("six of them are too much", || {
        exit = jailer.stats(spawned.id).unwrap().exit;
        exit.is_some()
    });
    assert_eq!(exit.unwrap().cause, ExitCause::MemoryBudget);
    assert_eq!((rig.below().len(), rig.profile_count()), (0, 0));
}

fn scopes() {
    let name = format!("capture-jail-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for (layers, outcome) in [(&["namespaces"][..], EPERM), (&["namespaces", "landlock"], "ok")] {
        let rig = Rig::looking_around_without(layers);
        let (_jailer, mut pipe, _) = look(&rig);
        assert_eq!(pipe.ask(&format!("abstract {name}")), outcome, "{layers:?}");
        // The jailer has the same uid: nothing but the scope stands between them.
        assert_eq!(pipe.ask(&format!("signal {}", rig.pid())), outcome, "{layers:?}");
    }
    // The namespaces alone: another network's names, another tree's pids.
    let rig = Rig::looking_around_without(&["landlock"]);
    let (_jailer, mut pipe, _) = look(&rig);
    assert_eq!(pipe.ask(&format!("abstract {name}")), REFUSED);
    assert_eq!(pipe.ask(&format!("signal {}", rig.pid())), ESRCH);
}

fn tasks() {
    let rig = Rig::looking_around();
    let (_jailer, mut pipe, _) = look(&rig);
    let made: u32 = pipe.ask("threads 400").parse().unwrap();
    assert!((250..300).contains(&made), "{made}");
    let rig = Rig::looking_around_without(&["namespaces"]);
    let mut jailer = rig.connect();
    let spawned = spawn(&mut jailer, 1);
    let id = spawned.id;
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    // So many for a moment: if the watchdog looks in it, there is no answer, for that reason (see `task_budget`).
    pipe.send("threads 400");
    if let Some(made) = pipe.receive() {
        assert_eq!(made, "400");
    } else {
        let mut exit = None;
        eventually("its end is known", || {
            exit = jailer.stats(id).unwrap().exit;
            exit.is_some()
        });
        assert_eq!(exit.unwrap().cause, ExitCause::TaskBudget);
    }
}

/// Where the kernel counts no jail's tasks. Each process stays below what the watchdog allows one of them.
fn task_budget() {
    let rig = Rig::looking_around_without(&[weak::USER_NAMESPACES]);
    let mut jailer = rig.connect();
    let mut jails = [(); 2].map(|()| {
        let spawned = jailer
            .spawn(&SpawnSpec::new(1, Mode::Degraded), Duration::from_secs(20))
            .unwrap();
        assert!(spawned.degraded);
        (spawned.id, Pipe::new(spawned.cdp_read, spawned.cdp_write))
    });
    for (_, pipe) in &mut jails {
        assert_eq!(pipe.ask("breed 3 hold 60"), "3");
    }
    let tasks = |jailer: &mut Jailer, id| jailer.stats(id).unwrap().tasks;
    let [(crowded, pipe), (beside, _)] = &mut jails;
    eventually("both have as many as they may", || {
        tasks(&mut jailer, *crowded) > 180 && tasks(&mut jailer, *beside) > 180
    });
    pipe.send("breed 3 hold 60"); // Whether it gets to answer is a race.
    let mut exit = None;
    eventually("the watchdog ends it", || {
        exit = jailer.stats(*crowded).unwrap().exit;
        exit.is_some()
    });
    assert_eq!(exit.unwrap().cause, ExitCause::TaskBudget);
    let stats = jailer.stats(*beside).unwrap();
    assert!(stats.exit.is_none() && stats.tasks > 180, "{stats:?}");
    assert_eq!((rig.below().len(), rig.profile_count()), (4, 1));
}

/// The kernel counts the tasks of a user in a user namespace, so that the bound is the whole jail's. Each process stays
/// below what the watchdog allows one of them.
fn tasks_of_many() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let (crowded, beside) = (spawn(&mut jailer, 1), spawn(&mut jailer, 1));
    let id = crowded.id;
    let mut pipe = Pipe::new(crowded.cdp_read, crowded.cdp_write);
    pipe.ask("breed 6 hold 60");
    let mut tasks = 0;
    eventually("they have all that can be had", || {
        let before = std::mem::replace(&mut tasks, jailer.stats(id).unwrap().tasks);
        tasks >= 250 && tasks == before
    });
    std::thread::sleep(Duration::from_millis(300));
    let stats = jailer.stats(id).unwrap();
    assert!(stats.tasks <= 300 && stats.exit.is_none(), "{stats:?}");
    let mut pipe = Pipe::new(beside.cdp_read, beside.cdp_write);
    assert_eq!(pipe.ask("threads 200"), "200", "the neighbour has its own");
}

fn data() {
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    for (data_limit_mb, outcome) in [(700, "refused"), (1_000, "ok")] {
        let spec = SpawnSpec {
            data_limit_mb,
            ..SpawnSpec::new(1, Mode::Required)
        };
        let spawned = jailer.spawn(&spec, Duration::from_secs(20)).unwrap();
        let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
        assert_eq!(pipe.ask("reserve 800"), outcome, "{data_limit_mb}");
        assert_eq!(pipe.ask("reserve 500"), "ok");
    }
}

/// The other ends of a jail's world: the jailer's socket is gone (see `jailer_socket`), its process can be neither
/// signalled nor read; a server is in another network; a neighbour's listener and processes are in another jail's.
fn neighbours() {
    let (_server, on_the_host) = on_the_host();
    let rig = Rig::looking_around();
    let mut jailer = rig.connect();
    let mut jails: Vec<(Pipe, u16)> = Vec::new();
    for _ in 0..2 {
        let spawned = spawn(&mut jailer, 1);
        let port = spawned.listeners[0].1;
        std::mem::forget(spawned.listeners);
        jails.push((Pipe::new(spawned.cdp_read, spawned.cdp_write), port));
    }
    let pids = rig.below();
    assert_eq!(pids.len(), 2);
    let (mine, theirs) = (jails[0].1, jails[1].1);
    let pipe = &mut jails[0].0;
    assert_eq!(pipe.ask(&format!("tcp 127.0.0.1:{mine}")), "ok");
    // Ports come from one range in every network: the neighbour's number may be the own one.
    let there = pipe.ask(&format!("tcp 127.0.0.1:{theirs}"));
    assert!(theirs == mine || there == EACCES, "{there}");
    assert_eq!(pipe.ask(&on_the_host), EACCES);
    assert_eq!(pipe.ask(&format!("unix {}", rig.socket.display())), ENOENT);
    for pid in pids.iter().copied().chain([rig.pid()]) {
        assert_eq!(pipe.ask(&format!("signal {pid}")), ESRCH, "{pid}");
    }
    for secret in ["environ", "mem", "maps", "root/etc/passwd"] {
        let outcome = pipe.ask(&format!("read /proc/{}/{secret}", rig.pid()));
        assert_eq!(outcome, EACCES, "{secret} of the jailer");
        let outcome = pipe.ask(&format!("read /proc/{}/{secret}", pids[1]));
        assert_eq!(outcome, EACCES, "{secret} of the other jail");
    }
}
