//! The next step of the internal key's life: every pod knows the next key before the operator uses it.
//!
//! In: the Secret as observed, the keys that each pod attested to accept, the time. Out: one [`Step`], at most one write.
//! Pure, and without memory: a crash after any write is met by deciding anew. The Secret holds the key in use and, during
//! a change, the one to come; pods accept both, so the key in use is always one that every pod accepts. Never sees a key,
//! only its id.

use jiff::{SignedDuration, Timestamp};

/// Age at which the key is replaced.
pub const PERIOD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The key to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is none.
    Absent,
    /// Something is in its place that is no key.
    Malformed,
    /// A key with this id.
    Key(String),
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether there is a readable key in use.
    pub current: bool,
    /// When it was made; `None` when the note is missing or unreadable.
    pub issued_at: Option<Timestamp>,
    /// The key to come.
    pub next: Next,
    /// Ids of the keys that each running pod accepts; `None` for one that did not say.
    pub pods: Vec<Option<Vec<String>>>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the first key.
    Create,
    /// Make the key to come and put it beside the one in use.
    Stage,
    /// Use the key to come; the old one goes.
    Promote,
    /// Not every pod knows the key to come.
    Wait,
    /// Nothing, until then.
    Rest(Timestamp),
}

impl Step {
    /// One word out of a bounded set, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CreateInternal",
            Self::Stage => "StageInternal",
            Self::Promote => "PromoteInternal",
            Self::Wait => "Wait",
            Self::Rest(_) => "Rest",
        }
    }

    /// Whether it is a change of a key that pods may hold.
    pub fn replaces(self) -> bool {
        matches!(self, Self::Stage | Self::Promote)
    }
}

/// Decides the next step.
pub fn decide(facts: &Facts, now: Timestamp) -> Step {
    if !facts.current {
        return Step::Create;
    }
    match &facts.next {
        Next::Malformed => Step::Stage,
        Next::Key(id) => {
            let knows = |pod: &Option<Vec<String>>| pod.as_ref().is_some_and(|known| known.contains(id));
            if facts.pods.iter().all(knows) {
                Step::Promote
            } else {
                Step::Wait
            }
        }
        Next::Absent => match facts.issued_at.and_then(|at| at.checked_add(PERIOD).ok()) {
            Some(due) if due > now => Step::Rest(due),
            // Of an unknown age it may be of any.
            _ => Step::Stage,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn facts() -> Facts {
        Facts {
            current: true,
            issued_at: Some(now()),
            next: Next::Absent,
            pods: vec![Some(vec!["old".into()])],
        }
    }

    #[test]
    fn a_key_is_replaced_by_its_age_and_at_once_if_that_is_unknown() {
        assert_eq!(decide(&facts(), now()), Step::Rest(now() + PERIOD));
        assert_eq!(decide(&facts(), now() + PERIOD), Step::Stage);
        let noteless = Facts {
            issued_at: None,
            ..facts()
        };
        assert_eq!(decide(&noteless, now()), Step::Stage);
        let keyless = Facts {
            current: false,
            ..facts()
        };
        assert_eq!(decide(&keyless, now()), Step::Create);
    }

    #[test]
    fn the_next_key_is_used_only_when_every_pod_said_that_it_knows_it() {
        let known = |pods: &[Option<&[&str]>]| {
            let own = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
            let facts = Facts {
                next: Next::Key("new".into()),
                pods: pods.iter().map(|pod| pod.map(own)).collect(),
                ..facts()
            };
            decide(&facts, now())
        };
        let both: Option<&[&str]> = Some(&["old", "new"]);
        assert_eq!(known(&[both, Some(&["old"])]), Step::Wait);
        assert_eq!(
            known(&[both, None]),
            Step::Wait,
            "one that does not say may not know it"
        );
        assert_eq!(known(&[both, both]), Step::Promote);
        assert_eq!(known(&[]), Step::Promote);
        let malformed = Facts {
            next: Next::Malformed,
            ..facts()
        };
        assert_eq!(decide(&malformed, now()), Step::Stage);
    }

    /// A pod: what its node has mounted last.
    type Mounted = Vec<String>;

    /// Walks through whole changes with pods that mount late, start and go at any moment; an operator that decides from
    /// what it sees, and signs with the key in use, is always understood.
    #[test]
    fn whenever_pods_mount_the_key_in_use_is_one_that_every_pod_accepts() {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut dice = move |sides: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % sides
        };
        let (mut key, mut next, mut made, mut age, mut changes) = (0_u32, None::<u32>, 0_u32, 100, 0);
        let secret = |key: u32, next: Option<u32>| -> Mounted {
            std::iter::once(key).chain(next).map(|id| id.to_string()).collect()
        };
        let mut pods: Vec<Mounted> = vec![secret(key, next); 2];
        for _ in 0..20_000 {
            match dice(5) {
                0 if pods.len() < 4 => pods.push(secret(key, next)),
                1 if !pods.is_empty() => {
                    pods.swap_remove(usize::try_from(dice(4)).unwrap() % pods.len());
                }
                2 if !pods.is_empty() => {
                    let at = usize::try_from(dice(4)).unwrap() % pods.len();
                    pods[at] = secret(key, next);
                }
                _ => {
                    age += 1;
                    let facts = Facts {
                        current: true,
                        issued_at: (age < 50).then(now),
                        next: next.map_or(Next::Absent, |id| Next::Key(id.to_string())),
                        pods: pods.iter().map(|pod| (dice(10) > 0).then(|| pod.clone())).collect(),
                    };
                    match decide(&facts, now()) {
                        Step::Stage => {
                            made += 1;
                            next = Some(made);
                        }
                        Step::Promote => {
                            (key, next, age) = (next.unwrap(), None, 0);
                            changes += 1;
                        }
                        Step::Create => panic!("there is a key"),
                        Step::Wait | Step::Rest(_) => {}
                    }
                }
            }
            assert!(
                pods.iter().all(|pod| pod.contains(&key.to_string())),
                "{key} {next:?} {pods:?}"
            );
        }
        assert!(changes > 50, "{changes}");
    }
}
