//! The rotation against a small world: Secrets, pods that load late, an operator that may die after any write.

use proptest::prelude::*;
use screenshot_policy::token::Token;

use super::*;

const HOUR: i64 = 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn rules() -> Rules {
    Rules {
        client: "default".into(),
        period: SignedDuration::from_hours(30 * 24),
        overlap: SignedDuration::from_hours(24),
        nonce: None,
        suspended: false,
    }
}

fn token(seed: u8) -> Token {
    Token::generate(&Kid::from_bytes([seed; 5]), [seed; 32])
}

#[derive(Clone)]
struct Minted {
    token: Token,
    issued_at: Timestamp,
    nonce: Option<String>,
}

/// What is in the API server and in the pods. The operator itself keeps nothing between steps.
struct World {
    now: Timestamp,
    keyset: Option<Keyset>,
    client: Option<Minted>,
    pending: Option<Minted>,
    pods: Vec<Option<Keyset>>,
    minted: u8,
}

impl World {
    fn new(pods: usize) -> Self {
        Self {
            now: at(0),
            keyset: None,
            client: None,
            pending: None,
            pods: vec![None; pods],
            minted: 0,
        }
    }

    fn held(minted: Option<&Minted>) -> Held {
        minted.map_or(Held::Absent, |m| {
            Held::Token(TokenFacts {
                kid: m.token.kid().clone(),
                digest: m.token.digest_hex(),
                issued_at: Some(m.issued_at),
                nonce: m.nonce.clone(),
            })
        })
    }

    fn facts(&self) -> Facts {
        let pods = self.pods.iter().enumerate().map(|(i, keyset)| PodKeyset {
            pod: format!("pod-{i}"),
            digest: keyset.as_ref().map(Keyset::digest),
        });
        Facts {
            keyset: self.keyset.clone(),
            client: Self::held(self.client.as_ref()),
            pending: Self::held(self.pending.as_ref()),
            pods: pods.collect(),
        }
    }

    fn step(&mut self, rules: &Rules) -> Step {
        let step = decide(&self.facts(), rules, self.now);
        match &step {
            Step::Mint { nonce } => {
                assert!(self.pending.is_none(), "minted over a pending token");
                self.minted += 1;
                self.pending = Some(Minted {
                    token: token(self.minted),
                    issued_at: self.now,
                    nonce: nonce.clone(),
                });
            }
            Step::Issue { nonce } => {
                assert!(self.client.is_none(), "issued over a client's token");
                assert!(self.pods.is_empty(), "issued although pods serve");
                self.minted += 1;
                self.client = Some(Minted {
                    token: token(self.minted),
                    issued_at: self.now,
                    nonce: nonce.clone(),
                });
            }
            Step::WriteKeyset(keyset, _) => {
                assert!(
                    self.keyset.as_ref().is_none_or(|old| keyset.revision > old.revision),
                    "revision did not rise"
                );
                self.keyset = Some(keyset.clone());
            }
            Step::WriteClient => self.client.clone_from(&self.pending),
            Step::DropPending => self.pending = None,
            Step::Wait(Wait::Overlap(_)) => assert!(self.works(), "waits for an overlap without a token"),
            Step::Wait(Wait::Pickup(_)) | Step::Rest(_) => {}
        }
        self.check();
        step
    }

    /// The invariants, checked after every single write.
    fn check(&self) {
        if let Some(keyset) = &self.keyset {
            let staged = keyset.keys.iter().filter(|key| key.state == KeyState::Staged).count();
            let active = keyset.keys.iter().filter(|key| key.state == KeyState::Active).count();
            assert!(staged <= 1, "{staged} staged keys");
            assert_eq!(active, 1, "{active} active keys");
            assert_eq!(
                Keyset::parse(keyset.canonical_json().as_bytes()).as_ref(),
                Ok(keyset),
                "the server refuses it"
            );
        }
        let Some(client) = &self.client else { return };
        for keyset in self.pods.iter().flatten() {
            assert!(
                keyset.verify(client.token.text(), self.now).is_ok(),
                "a serving pod refuses the client's token"
            );
        }
    }

    /// Whether clients hold a token that the keyset accepts.
    fn works(&self) -> bool {
        let held = self.client.as_ref().zip(self.keyset.as_ref());
        held.is_some_and(|(client, keyset)| keyset.verify(client.token.text(), self.now).is_ok())
    }

    fn load(&mut self, pod: usize) {
        if let Some(slot) = self.pods.get_mut(pod) {
            slot.clone_from(&self.keyset);
        }
        self.check();
    }

    fn run(&mut self, rules: &Rules) -> Vec<&'static str> {
        let mut names = Vec::new();
        for _ in 0..40 {
            let step = self.step(rules);
            names.push(step.name());
            match step {
                Step::Rest(_) => return names,
                Step::Wait(_) => (0..self.pods.len()).for_each(|pod| self.load(pod)),
                _ => {}
            }
        }
        panic!("does not come to rest: {names:?}");
    }
}

fn rested(pods: usize) -> World {
    let mut world = World::new(pods);
    world.run(&rules());
    world
}

/// The steps of a whole rotation.
const ROTATED: [&str; 8] = [
    "Mint",
    "Stage",
    "Wait",
    "WriteClient",
    "Promote",
    "DropPending",
    "Wait",
    "Rest",
];

#[test]
fn the_first_token_goes_straight_to_keyset_and_client() {
    assert_eq!(World::new(0).run(&rules()), ["Issue", "Establish", "Rest"]);
    // Where pods serve already, all was lost: they have to show that they accept it.
    let lost = ["Mint", "Establish", "Wait", "WriteClient", "DropPending", "Rest"];
    assert_eq!(World::new(1).run(&rules()), lost);
}

#[test]
fn a_rotation_proves_the_new_key_before_clients_get_it_and_retires_the_old_one_after_the_overlap() {
    let mut world = rested(2);
    world.now = at(31 * 24 * HOUR);
    assert_eq!(world.run(&rules()), ROTATED);
    let end = world.now + SignedDuration::from_hours(24);
    assert_eq!(
        world.step(&rules()),
        Step::Rest(end),
        "the next wake-up is the end of the overlap"
    );
    world.now = end;
    assert_eq!(world.run(&rules()), ["Retire", "Wait", "Rest"]);
    assert_eq!(world.keyset.as_ref().unwrap().keys.len(), 1);
}

#[test]
fn clients_do_not_get_a_token_while_one_pod_has_not_loaded_its_key() {
    let mut world = rested(3);
    world.now = at(31 * 24 * HOUR);
    world.step(&rules());
    world.step(&rules());
    world.load(0);
    world.load(1);
    let before = world.client.as_ref().unwrap().token.clone();
    for _ in 0..5 {
        assert_eq!(world.step(&rules()), Step::Wait(Wait::Pickup(vec!["pod-2".into()])));
    }
    assert!(world.client.as_ref().unwrap().token == before);
    world.load(2);
    assert_eq!(world.step(&rules()), Step::WriteClient);
}

#[test]
fn a_new_nonce_rotates_once_and_is_noted() {
    let mut world = rested(1);
    let rules = Rules {
        nonce: Some("now".into()),
        ..rules()
    };
    assert!(world.run(&rules).contains(&"Promote"));
    assert_eq!(world.client.as_ref().unwrap().nonce.as_deref(), Some("now"));
    assert_eq!(world.run(&rules), ["Rest"]);
}

#[test]
fn a_suspended_service_begins_no_rotation_but_finishes_one() {
    let mut world = rested(1);
    let suspended = Rules {
        suspended: true,
        nonce: Some("now".into()),
        ..rules()
    };
    world.now = at(400 * 24 * HOUR);
    assert_eq!(world.run(&suspended), ["Rest"]);
    world.step(&rules());
    assert!(world.pending.is_some());
    assert!(world.run(&suspended).contains(&"Promote"));
}

#[test]
fn a_lost_keyset_is_made_anew_from_the_token_that_clients_hold() {
    let mut world = rested(2);
    let revision = world.keyset.as_ref().unwrap().revision;
    world.now = at(60);
    world.keyset = None;
    assert_eq!(world.run(&rules()), ["Establish", "Wait", "Rest"]);
    assert!(world.keyset.as_ref().unwrap().revision > revision);
}

#[test]
fn a_lost_client_secret_is_replaced_by_a_new_proven_token() {
    let mut world = rested(2);
    world.client = None;
    assert_eq!(world.run(&rules()), ROTATED);
}

#[test]
fn after_the_loss_of_keyset_and_client_secret_running_pods_are_waited_for() {
    let mut world = rested(2);
    (world.keyset, world.client) = (None, None);
    assert_eq!(
        world.run(&rules()),
        ["Mint", "Establish", "Wait", "WriteClient", "DropPending", "Rest"]
    );
}

#[test]
fn a_client_secret_with_a_token_of_unknown_origin_is_never_added_to_the_keyset() {
    let mut world = rested(0);
    let strange = Minted {
        token: token(99),
        issued_at: world.now,
        nonce: None,
    };
    world.client = Some(strange.clone());
    world.run(&rules());
    let digest = strange.token.digest_hex();
    assert!(
        world
            .keyset
            .as_ref()
            .unwrap()
            .keys
            .iter()
            .all(|key| key.digest != digest)
    );
    assert!(world.client.as_ref().unwrap().token != strange.token);
}

#[test]
fn a_staged_key_whose_token_is_lost_is_given_up() {
    let mut world = rested(1);
    world.now = at(31 * 24 * HOUR);
    world.step(&rules());
    world.step(&rules());
    world.pending = None;
    assert_eq!(world.step(&rules()).name(), "Abandon");
    assert!(world.run(&rules()).contains(&"Promote"));
}

#[test]
fn a_malformed_pending_secret_is_thrown_away() {
    let facts = Facts {
        pending: Held::Malformed,
        ..rested(0).facts()
    };
    assert_eq!(decide(&facts, &rules(), at(0)), Step::DropPending);
    let empty = Facts {
        keyset: None,
        client: Held::Absent,
        pending: Held::Malformed,
        pods: vec![],
    };
    assert_eq!(decide(&empty, &rules(), at(0)), Step::DropPending);
}

#[test]
fn nonces_in_quick_succession_cannot_pile_up_keys() {
    let mut world = rested(1);
    for n in 0..20 {
        let rules = Rules {
            nonce: Some(n.to_string()),
            ..rules()
        };
        for _ in 0..20 {
            if matches!(world.step(&rules), Step::Wait(Wait::Overlap(_))) {
                break;
            }
            world.load(0);
        }
        assert!(world.keyset.as_ref().unwrap().keys.len() <= MAX_RETIRING + 2);
    }
}

#[test]
fn clients_without_a_token_that_works_get_one_however_many_keys_retire() {
    let mut world = rested(1);
    let asked = |n: usize| Rules {
        nonce: Some(n.to_string()),
        ..rules()
    };
    for n in 0..MAX_RETIRING {
        world.run(&asked(n));
    }
    let rules = asked(MAX_RETIRING);
    assert!(matches!(world.step(&rules), Step::Wait(Wait::Overlap(_))));
    // As from an old backup: its key is gone.
    let strange = World::held(Some(&Minted {
        token: token(99),
        issued_at: world.now,
        nonce: None,
    }));
    for client in [strange, Held::Malformed, Held::Absent] {
        let facts = Facts {
            client,
            ..world.facts()
        };
        assert!(!facts.client_works(world.now));
        assert_eq!(decide(&facts, &rules, world.now).name(), "Mint");
    }
    // Only where the keyset has no room they wait.
    let mut facts = Facts {
        client: Held::Malformed,
        ..world.facts()
    };
    let keys = &mut facts.keyset.as_mut().unwrap().keys;
    let oldest = keys[0].clone();
    keys.resize(keyset::MAX_KEYS, oldest);
    assert_eq!(decide(&facts, &rules, world.now).name(), "Wait");
    world.client = None;
    assert_eq!(world.run(&rules), ROTATED);
    assert!(world.works());
}

#[test]
fn a_new_client_name_reaches_the_keys() {
    let mut world = rested(1);
    let rules = Rules {
        client: "shop".into(),
        ..rules()
    };
    assert_eq!(world.run(&rules), ["Rename", "Wait", "Rest"]);
    assert!(
        world
            .keyset
            .as_ref()
            .unwrap()
            .keys
            .iter()
            .all(|key| key.client == "shop")
    );
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Step,
    Load(usize),
    Hours(i64),
    Nonce(u8),
    LoseKeyset,
    LoseClient,
    LosePending,
    PodReplaced(usize),
    Suspend(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => Just(Happening::Step),
        4 => (0..3usize).prop_map(Happening::Load),
        2 => (1..800i64).prop_map(Happening::Hours),
        1 => any::<u8>().prop_map(Happening::Nonce),
        1 => Just(Happening::LoseKeyset),
        1 => Just(Happening::LoseClient),
        1 => Just(Happening::LosePending),
        1 => (0..3usize).prop_map(Happening::PodReplaced),
        1 => any::<bool>().prop_map(Happening::Suspend),
    ]
}

proptest! {
    /// The operator keeps nothing in memory, so stopping after any step is the same as a crash there: what follows is
    /// decided from the Secrets alone. Whatever happens in between, the invariants hold and it comes to rest.
    #[test]
    fn whatever_happens_between_two_writes_every_serving_pod_accepts_the_clients_token(
        happenings in proptest::collection::vec(happening(), 0..60)
    ) {
        let mut world = World::new(3);
        let mut rules = rules();
        for happening in happenings {
            match happening {
                Happening::Step => { world.step(&rules); }
                Happening::Load(pod) => world.load(pod),
                // A pod that did not load for longer than the overlap refuses old keys; kubelets are faster than that.
                Happening::Hours(hours) => {
                    (0..3).for_each(|pod| world.load(pod));
                    world.now += SignedDuration::from_hours(hours);
                }
                Happening::Nonce(n) => rules.nonce = Some(n.to_string()),
                // Losing the keyset is met at once: no pod can read the loss, kubelets keep the last volume.
                Happening::LoseKeyset => world.keyset = None,
                Happening::LoseClient => world.client = None,
                Happening::LosePending => world.pending = None,
                Happening::PodReplaced(pod) => world.pods[pod] = world.keyset.clone(),
                Happening::Suspend(suspended) => rules.suspended = suspended,
            }
            world.check();
        }
        rules.suspended = false;
        // At most one overlap has to pass if too many keys retire, and clients have a token that works before it has.
        for _ in 0..MAX_RETIRING + 2 {
            for _ in 0..40 {
                match world.step(&rules) {
                    Step::Wait(Wait::Pickup(_)) => (0..3).for_each(|pod| world.load(pod)),
                    Step::Wait(Wait::Overlap(_)) | Step::Rest(_) => break,
                    _ => {}
                }
            }
            prop_assert!(world.works(), "clients have no token that works");
            (0..3).for_each(|pod| world.load(pod));
            world.now += SignedDuration::from_hours(25);
        }
        let steps = world.run(&rules);
        prop_assert_eq!(steps.last(), Some(&"Rest"));
        prop_assert!(world.pending.is_none() && world.client.is_some());
    }
}
