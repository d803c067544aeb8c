//! A jail as it was measured, and everything that can be taken away from it.

use super::*;

fn process(role: Role, filters: u32, namespaces: [u64; 3], root: &str) -> ProcessFacts {
    let [userns, pidns, netns] = namespaces;
    let root = root.to_owned();
    ProcessFacts {
        role,
        seccomp_mode: 2,
        seccomp_filters: filters,
        cap_eff: 0,
        no_new_privs: true,
        userns,
        pidns,
        netns,
        root,
    }
}

/// As measured in a restricted pod.
fn good() -> JailFacts {
    let helper = ProcessFacts {
        cap_eff: 0x20_0000,
        ..process(Role::Zygote, 1, [20, 21, 22], "/proc/9/fdinfo")
    };
    JailFacts {
        jailer: JailerFacts {
            seccomp_mode: 2,
            seccomp_filters: 1,
            cap_eff: 0,
            no_new_privs: true,
            userns: 1,
            pidns: 2,
            netns: 3,
            landlock_abi: 7,
            resources: Resources::default(),
        },
        jail: Some(JailId(1)),
        degraded: false,
        landlock: LandlockFacts::ALL,
        secrets: SecretFacts {
            witnesses: 4,
            opened: 0,
        },
        ports: PortFacts {
            asked: true,
            found: Vec::new(),
        },
        processes: vec![
            process(Role::Browser, 1, [10, 11, 12], "/"),
            process(Role::Network, 1, [10, 11, 12], "/"),
            process(Role::Gpu, 2, [10, 11, 12], "/"),
            process(Role::Zygote, 1, [10, 11, 12], "/"),
            helper,
            process(Role::Renderer, 2, [20, 31, 22], "/proc/9/fdinfo (deleted)"),
        ],
        truncated: false,
        interfaces: vec!["lo".to_owned()],
        routes: 0,
    }
}

const BROWSER: usize = 0;
const GPU: usize = 2;
const HELPER: usize = 4;
const RENDERER: usize = 5;

#[test]
fn the_facts_of_a_restricted_pod_are_enough() {
    assert_eq!(verify(&good()), Ok(()));
}

#[test]
fn taking_away_any_one_thing_is_noticed_and_named() {
    type Change = fn(&mut JailFacts);
    let table: &[(Reason, Change)] = &[
        (Reason::Degraded, |f| f.degraded = true),
        (Reason::NoRenderer, |f| drop(f.processes.pop())),
        (Reason::NoGpuProcess, |f| drop(f.processes.remove(GPU))),
        (Reason::TooManyProcesses, |f| f.truncated = true),
        (Reason::RendererUnfiltered, |f| {
            f.processes[RENDERER].seccomp_filters = 1;
        }),
        (Reason::RendererUnfiltered, |f| f.processes[RENDERER].seccomp_mode = 0),
        (Reason::GpuUnfiltered, |f| f.processes[GPU].seccomp_filters = 1),
        (Reason::GpuUnfiltered, |f| f.processes[GPU].seccomp_mode = 0),
        (Reason::SharedUserNamespace, |f| f.processes[RENDERER].userns = 10),
        (Reason::SharedUserNamespace, |f| f.processes[RENDERER].userns = 0),
        (Reason::SharedUserNamespace, |f| f.processes[BROWSER].userns = 1),
        (Reason::SharedPidNamespace, |f| f.processes[RENDERER].pidns = 11),
        (Reason::SharedPidNamespace, |f| f.processes[BROWSER].pidns = 2),
        (Reason::SharedNetworkNamespace, |f| f.processes[RENDERER].netns = 12),
        (Reason::SharedNetworkNamespace, |f| f.processes[BROWSER].netns = 3),
        (Reason::RendererSeesRoot, |f| {
            f.processes[RENDERER].root = "/".to_owned();
        }),
        (Reason::RendererSeesRoot, |f| f.processes[RENDERER].root.clear()),
        (Reason::CapabilitiesHeld, |f| f.processes[RENDERER].cap_eff = 1),
        (Reason::CapabilitiesHeld, |f| f.processes[BROWSER].cap_eff = 0x20_0000),
        (Reason::CapabilitiesHeld, |f| f.processes[HELPER].userns = 10),
        (Reason::PrivilegesMayGrow, |f| f.processes[GPU].no_new_privs = false),
        (Reason::ExtraInterface, |f| f.interfaces.push("eth0".to_owned())),
        (Reason::ExtraInterface, |f| f.interfaces.clear()),
        (Reason::RoutePresent, |f| f.routes = 1),
        (Reason::LandlockUnavailable, |f| f.landlock.files = false),
        (Reason::LandlockIncomplete, |f| f.landlock.tcp = false),
        (Reason::LandlockIncomplete, |f| f.landlock.scopes = false),
        (Reason::SecretsReadable, |f| f.secrets.opened = 1),
        (Reason::SecretsUntried, |f| f.secrets.witnesses = 0),
        (Reason::DevtoolsReachable, |f| f.ports.found.push(9222)),
        (Reason::DevtoolsUntried, |f| f.ports.asked = false),
    ];
    // `NoBrowser` has a test of its own.
    for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::NoBrowser) {
        assert!(
            table.iter().any(|(named, _)| named == reason),
            "{reason:?} is in no row"
        );
    }
    for (row, (reason, change)) in table.iter().enumerate() {
        let mut facts = good();
        change(&mut facts);
        assert_eq!(verify(&facts), Err(vec![*reason]), "row {row}");
    }
}

#[test]
fn without_a_browser_nothing_can_be_compared_and_nothing_is_verified() {
    let mut facts = good();
    facts.processes.clear();
    assert_eq!(
        verify(&facts),
        Err(vec![Reason::NoBrowser, Reason::NoRenderer, Reason::NoGpuProcess])
    );
}

#[test]
fn a_kernel_is_held_to_the_landlock_that_it_has_and_to_no_more() {
    let (old, newer) = (
        LandlockFacts {
            files: true,
            ..Default::default()
        },
        LandlockFacts {
            files: true,
            tcp: true,
            scopes: false,
        },
    );
    let incomplete = Err(vec![Reason::LandlockIncomplete]);
    for (abi, landlock, verdict) in [
        (1, old, Ok(())),
        (3, old, Ok(())),
        (4, old, incomplete.clone()),
        (5, newer, Ok(())),
        (6, newer, incomplete),
        (6, LandlockFacts::ALL, Ok(())),
        (7, LandlockFacts::default(), Err(vec![Reason::LandlockUnavailable])),
        (0, LandlockFacts::default(), Err(vec![Reason::LandlockUnavailable])),
    ] {
        let mut facts = good();
        facts.jailer.landlock_abi = abi;
        facts.landlock = landlock;
        assert_eq!(verify(&facts), verdict, "ABI {abi}, {landlock:?}");
    }
}
