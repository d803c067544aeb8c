use super::*;
use screenshot_policy::policy::CaptureLimits;

const CORES: usize = 2;

struct World {
    fleet: Fleet,
    now: Instant,
}

fn world(isolation: Isolation) -> World {
    World {
        fleet: Fleet::new(Rules::new(isolation, CORES)),
        now: Instant::now(),
    }
}

fn want(client: &str) -> Want {
    Want {
        client: client.into(),
        lane: Lane::Fast,
        alone: false,
    }
}

impl World {
    fn claim(&mut self, want: &Want) -> Claim {
        self.fleet.claim(want, self.now)
    }

    /// A claim that ends in a running jail; its name.
    fn served(&mut self, want: &Want) -> MemberId {
        match self.claim(want) {
            Claim::Use(id) => id,
            Claim::Launch(id) | Claim::Replace { launch: id, .. } => {
                assert!(self.fleet.up(id, 0));
                id
            }
            Claim::Full => panic!("full"),
        }
    }

    fn finish(&mut self, id: MemberId) -> Option<Retired> {
        self.fleet
            .leaving(id, None)
            .or_else(|| self.fleet.release(id, None, self.now))
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn beyond_a_jail_per_core_a_clients_captures_share_the_jails_with_the_least_work() {
    let mut world = world(Isolation::PerClient);
    let (one, two) = (world.served(&want("a")), world.served(&want("a")));
    assert_ne!(one, two);
    // What is only cleared away is no work.
    assert_eq!(world.fleet.leaving(two, None), None);
    assert_eq!(world.claim(&want("a")), Claim::Use(two));
    assert_eq!(world.fleet.release(two, None, world.now), None);
    let mut shared = [world.served(&want("a")), world.served(&want("a"))];
    shared.sort_unstable();
    assert_eq!(shared, [one, two]);
    let other = world.served(&want("b"));
    assert!(![one, two].contains(&other));
    assert!(
        ![one, two].contains(&world.served(&want("a"))),
        "two captures a core, no more"
    );
}

#[test]
fn a_jail_that_only_clears_away_is_used_before_another_is_launched() {
    let mut world = world(Isolation::PerClient);
    let one = world.served(&want("a"));
    assert_eq!(world.fleet.leaving(one, None), None);
    assert_eq!(world.claim(&want("a")), Claim::Use(one));
    assert!(matches!(world.claim(&want("a")), Claim::Launch(_)));
}

#[test]
fn a_clients_captures_share_a_jail_and_two_clients_never_do() {
    let mut world = world(Isolation::PerClient);
    let first = world.served(&want("a"));
    assert_eq!(world.finish(first), None);
    assert_eq!(world.claim(&want("a")), Claim::Use(first));
    assert_eq!(world.finish(first), None);
    let other = world.served(&want("b"));
    assert_ne!(other, first);
}

#[test]
fn whatever_happens_no_jail_ever_serves_two_clients() {
    let mut world = world(Isolation::PerClient);
    let mut owner: BTreeMap<MemberId, String> = BTreeMap::new();
    let mut open = Vec::new();
    let mut seed = 7_u64;
    for _ in 0..5_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let client = ["a", "b", "c", "d"][usize::try_from(seed >> 33).unwrap() % 4];
        let wanted = Want {
            lane: if seed & (1 << 40) == 0 { Lane::Fast } else { Lane::Bulk },
            alone: seed & (7 << 41) == 0,
            ..want(client)
        };
        if open.len() < CORES + 1 {
            match world.claim(&wanted) {
                Claim::Use(id) => open.push((id, client)),
                Claim::Launch(id) => {
                    world.fleet.up(id, 1);
                    open.push((id, client));
                }
                Claim::Replace { victim, launch, .. } => {
                    world.fleet.gone(victim);
                    world.fleet.up(launch, 1);
                    open.push((launch, client));
                }
                Claim::Full => panic!("the gate lets no more in than fit"),
            }
            let (id, client) = open.last().unwrap();
            let first = owner.entry(*id).or_insert_with(|| (*client).to_owned());
            assert_eq!(first, client);
        } else {
            let (id, _) = open.remove(usize::try_from(seed >> 50).unwrap() % open.len());
            if world.finish(id).is_some() {
                world.fleet.gone(id);
            }
        }
        if let Some(Refill::Jail(id)) = world.fleet.refill(world.now) {
            world.fleet.up(id, 1);
        }
        world.pass(Duration::from_millis(seed >> 54));
        for (id, _) in world.fleet.sweep(world.now) {
            world.fleet.gone(id);
        }
        assert!(world.fleet.census().iter().sum::<usize>() <= world.fleet.rules().max_jails);
    }
    assert!(owner.len() > 20);
}

#[test]
fn the_largest_fleet_of_a_policy_leaves_the_jailer_a_place_for_the_proof() {
    let cores = usize::try_from(CaptureLimits::CEILING.concurrency.get()).unwrap();
    for isolation in [Isolation::PerClient, Isolation::PerCapture] {
        let rules = Rules::new(isolation, cores);
        assert!(rules.warm_jails <= rules.max_jails, "{rules:?}");
        let (mut fleet, now) = (Fleet::new(rules), Instant::now());
        let mut launches = |client: usize| {
            let claim = fleet.claim(&want(&client.to_string()), now);
            matches!(claim, Claim::Launch(_))
        };
        let most = (0..2 * MAX_JAILS).filter(|client| launches(*client)).count();
        assert_eq!(most, MAX_JAILS - 1, "{isolation:?}");
    }
}

#[test]
fn per_capture_every_jail_serves_once() {
    let mut world = world(Isolation::PerCapture);
    let first = world.served(&want("a"));
    assert_eq!(world.finish(first), Some(Retired::Served));
    world.fleet.gone(first);
    assert_ne!(world.served(&want("a")), first);
}

#[test]
fn a_capture_that_must_be_alone_gets_and_leaves_a_jail_of_its_own() {
    let mut world = world(Isolation::PerClient);
    let shared = world.served(&want("a"));
    assert_eq!(world.finish(shared), None);
    let alone = Want {
        alone: true,
        ..want("a")
    };
    let own = world.served(&alone);
    assert_ne!(own, shared);
    let beside = world.served(&want("a"));
    assert_eq!(beside, shared);
    assert_eq!(world.finish(own), Some(Retired::Served));
}

#[test]
fn large_work_has_a_browser_of_its_own() {
    let mut world = world(Isolation::PerClient);
    let fast = world.served(&want("a"));
    assert_eq!(world.finish(fast), None);
    let bulk = Want {
        lane: Lane::Bulk,
        ..want("a")
    };
    assert_ne!(world.served(&bulk), fast);
}

#[test]
fn a_jail_with_an_incident_ends_when_its_other_captures_have() {
    let mut world = world(Isolation::PerClient);
    world.fleet.rules.max_jails = 1;
    let id = world.served(&want("a"));
    assert_eq!(world.claim(&want("a")), Claim::Use(id));
    assert_eq!(world.fleet.leaving(id, Some("crash")), None);
    assert_eq!(world.fleet.release(id, None, world.now), None);
    // Nobody gets into it any more.
    assert_eq!(world.claim(&want("a")), Claim::Full);
    assert_eq!(world.fleet.leaving(id, None), Some(Retired::Incident("crash")));
}

/// However ends follow each other, a capture that is cleared away is not counted twice.
#[test]
fn a_jail_in_which_everything_ends_at_once_is_counted_right() {
    let mut world = world(Isolation::PerClient);
    let id = world.served(&want("a"));
    assert_eq!(world.fleet.leaving(id, None), None);
    assert_eq!(world.claim(&want("a")), Claim::Use(id));
    // One that nobody has announced, and one that was already given back.
    assert_eq!(world.fleet.release(id, None, world.now), None);
    assert_eq!(world.fleet.release(id, None, world.now), None);
    assert_eq!(world.fleet.in_flight(), 1, "the capture in hand is still in hand");
    assert_eq!(world.fleet.leaving(id, None), None);
    assert_eq!(world.fleet.leaving(id, None), None);
    assert_eq!(world.claim(&want("a")), Claim::Use(id));
    for _ in 0..3 {
        assert_eq!(world.fleet.release(id, None, world.now), None);
    }
    assert_eq!(world.fleet.in_flight(), 1);
}

#[test]
fn a_page_that_could_not_be_cleared_away_ends_its_jail() {
    let mut world = world(Isolation::PerClient);
    let id = world.served(&want("a"));
    assert_eq!(world.fleet.leaving(id, None), None);
    assert_eq!(
        world.fleet.release(id, Some("dispose"), world.now),
        Some(Retired::Incident("dispose"))
    );
}

#[test]
fn a_jail_retires_after_its_last_capture() {
    let mut world = world(Isolation::PerClient);
    world.fleet.rules.max_captures = 3;
    let id = world.served(&want("a"));
    assert_eq!(world.finish(id), None);
    for expected in [None, Some(Retired::Captures)] {
        assert_eq!(world.served(&want("a")), id);
        assert_eq!(world.finish(id), expected);
    }
}

#[test]
fn age_and_idleness_end_a_jail_but_never_under_a_capture() {
    let mut world = world(Isolation::PerClient);
    let busy = world.served(&want("a"));
    let idle = world.served(&want("b"));
    assert_eq!(world.finish(idle), None);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.fleet.sweep(world.now), [(idle, Retired::Idle)]);
    world.fleet.gone(idle);
    world.pass(Duration::from_secs(15 * 60));
    assert_eq!(world.fleet.sweep(world.now), []);
    assert_eq!(world.finish(busy), Some(Retired::Age));
}

#[test]
fn a_jail_that_grew_is_not_used_again() {
    let mut world = world(Isolation::PerClient);
    let id = world.served(&want("a"));
    assert_eq!(world.finish(id), None);
    world.fleet.measured(id, 100 << 20);
    world.fleet.measured(id, 300 << 20);
    assert_eq!(world.fleet.sweep(world.now), []);
    world.fleet.measured(id, 330 << 20);
    assert_eq!(world.fleet.sweep(world.now), [(id, Retired::Memory)]);
}

#[test]
fn the_longest_idle_jail_makes_room_and_a_busy_one_never_does() {
    let mut world = world(Isolation::PerClient);
    world.fleet.rules.max_jails = 2;
    let first = world.served(&want("a"));
    assert_eq!(world.finish(first), None);
    world.pass(Duration::from_secs(1));
    let second = world.served(&want("b"));
    assert_eq!(world.finish(second), None);
    let Claim::Replace { victim, launch, .. } = world.claim(&want("c")) else {
        panic!("no replacement")
    };
    assert_eq!(victim, first);
    world.fleet.gone(victim);
    assert!(world.fleet.up(launch, 1));
    let Claim::Replace { victim, launch, .. } = world.claim(&want("d")) else {
        panic!("no replacement")
    };
    assert_eq!(victim, second);
    world.fleet.gone(victim);
    assert!(world.fleet.up(launch, 1));
    assert_eq!(world.claim(&want("e")), Claim::Full);
}

#[test]
fn a_jail_that_is_being_killed_has_its_place_until_it_is_dead_and_then_the_next_one_has_it() {
    let mut world = world(Isolation::PerCapture);
    world.fleet.rules.max_jails = 2;
    let (first, second) = (world.served(&want("a")), world.served(&want("a")));
    assert_eq!(world.finish(first), Some(Retired::Served));
    assert_eq!(world.fleet.sweep(world.now), [], "it is told once");
    assert_eq!((world.fleet.in_flight(), world.fleet.census()), (1, [0, 1, 1]));
    assert_eq!(world.fleet.refill(world.now), None, "there is no place");
    let Claim::Replace { victim, why, launch } = world.claim(&want("a")) else {
        panic!("no replacement")
    };
    assert_eq!((victim, why), (first, Retired::Served));
    assert_eq!(world.claim(&want("a")), Claim::Full, "a place is given once");
    world.fleet.gone(first);
    assert_eq!(world.fleet.census(), [0, 2, 0]);
    // One that is given up before it runs is not waited for while there is one that does.
    assert_eq!(world.finish(launch), Some(Retired::Served));
    assert_eq!(world.finish(second), Some(Retired::Served));
    assert!(matches!(world.claim(&want("a")), Claim::Replace { victim, .. } if victim == second));
    world.fleet.gone(launch);
    assert!(matches!(world.claim(&want("a")), Claim::Launch(_)));
}

#[test]
fn preparations_are_made_while_a_core_is_idle_pages_first() {
    let mut world = world(Isolation::PerClient);
    let Some(Refill::Jail(warm)) = world.fleet.refill(world.now) else {
        panic!("no warm jail")
    };
    // One at a time.
    assert_eq!(world.fleet.refill(world.now), None);
    assert!(world.fleet.up(warm, 1));
    assert_eq!(world.fleet.refill(world.now), None);
    assert_eq!(world.served(&want("a")), warm);
    world.fleet.pages(warm, 0);
    assert_eq!(world.fleet.refill(world.now), Some(Refill::Page(warm)));
    let second = world.served(&want("a"));
    world.fleet.pages(warm, 1);
    world.fleet.pages(second, 1);
    assert_eq!(world.fleet.refill(world.now), None, "both cores work");
    assert_eq!(world.finish(second), None);
    world.fleet.pages(warm, 2);
    world.fleet.pages(second, 2);
    assert!(matches!(world.fleet.refill(world.now), Some(Refill::Jail(_))));
}

#[test]
fn one_page_is_opened_ahead_for_the_next_capture_that_would_be_let_in() {
    let mut world = world(Isolation::PerClient);
    let (one, two) = (world.served(&want("a")), world.served(&want("a")));
    let bulk = Want {
        lane: Lane::Bulk,
        ..want("a")
    };
    let large = world.served(&bulk);
    world.fleet.pages(one, 1);
    assert_eq!(world.fleet.refill(world.now), Some(Refill::Page(two)));
    world.fleet.pages(two, 1);
    assert_eq!(
        world.fleet.refill(world.now),
        None,
        "one is enough while no core is idle"
    );
    world.fleet.pages(one, 0);
    let shared = [world.served(&want("a")), world.served(&want("a"))];
    assert_eq!(world.fleet.refill(world.now), None, "nobody would be let in");
    assert_eq!(world.finish(shared[0]), None);
    assert_eq!(world.fleet.refill(world.now), Some(Refill::Page(one)));
    assert_eq!(world.finish(large), None);
}

#[test]
fn a_jail_that_still_starts_is_taken_before_another_is_launched() {
    let mut world = world(Isolation::PerClient);
    let Some(Refill::Jail(starting)) = world.fleet.refill(world.now) else {
        panic!("no warm jail")
    };
    assert_eq!(world.claim(&want("a")), Claim::Use(starting));
    assert!(matches!(world.claim(&want("b")), Claim::Launch(_)));
}

#[test]
fn a_proven_jail_is_taken_in_only_where_one_is_missing() {
    let mut world = world(Isolation::PerClient);
    let adopted = world.fleet.adopt(1, world.now).unwrap();
    assert_eq!(world.fleet.adopt(1, world.now), None);
    assert_eq!(world.fleet.refill(world.now), None);
    assert_eq!(world.claim(&want("a")), Claim::Use(adopted));
    assert!(world.fleet.adopt(1, world.now).is_some());
}

#[test]
fn a_start_that_failed_leaves_no_trace() {
    let mut world = world(Isolation::PerClient);
    let Claim::Launch(id) = world.claim(&want("a")) else {
        panic!("not launched")
    };
    world.fleet.gone(id);
    assert_eq!(world.fleet.release(id, None, world.now), None);
    assert_eq!((world.fleet.in_flight(), world.fleet.census()), (0, [0, 0, 0]));
    assert!(!world.fleet.up(id, 1));
}
