//! Tables: what was attested → what the status says.

mod egress;
mod optional;
mod pods;

use screenshot_api::{EgressExceptionSpec, ScreenshotService, ScreenshotServiceSpec, TlsHostSpec, TlsTrust};
use screenshot_policy::attest::{AttestReport, EgressFacts, KeysetFacts, NotReady, SandboxFacts};
use screenshot_policy::canary::{CanaryFacts, Outcome, Try};
use screenshot_policy::keyset::{Key, Keyset};
use screenshot_policy::token::Kid;

use super::*;
use crate::attest::Unattested;
use crate::context::tests::settings;
use crate::rotation::{Held, TokenFacts, Wait};
use crate::validate::{identity, validate};
use crate::views::Said;

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

struct World {
    wanted: Validated,
    deployment: Option<DeploymentView>,
    pods: Vec<PodView>,
    facts: Facts,
    stopped: Step,
    autoscaler: Option<AutoscalerView>,
    unresolved: BTreeSet<String>,
    unserved: BTreeSet<Kind>,
    offer: Offer,
}

fn validated(edit: impl FnOnce(&mut ScreenshotServiceSpec)) -> Validated {
    let mut spec = ScreenshotServiceSpec {
        replicas: 1,
        ..Default::default()
    };
    edit(&mut spec);
    let mut service = ScreenshotService::new("shots", spec);
    service.metadata.namespace = Some("web".into());
    service.metadata.uid = Some("u".into());
    service.metadata.generation = Some(7);
    let settings = settings(Some("i"));
    validate(identity(&service).unwrap(), &service, &settings).unwrap()
}

fn canary(outcomes: &[Outcome]) -> CanaryFacts {
    let tries = outcomes.iter().map(|outcome| Try {
        address: "10.0.0.7:8082".parse().unwrap(),
        outcome: *outcome,
        proxy_refuses: true,
    });
    CanaryFacts {
        tries: tries.collect(),
        ..Default::default()
    }
}

fn token() -> TokenFacts {
    TokenFacts {
        kid: Kid::from_bytes([1; 5]),
        digest: "00".repeat(32),
        issued_at: Some(now()),
        nonce: Some("n1".into()),
    }
}

fn good(edit: impl FnOnce(&mut ScreenshotServiceSpec)) -> World {
    let wanted = validated(edit);
    let token = token();
    let keyset = Keyset {
        version: 1,
        revision: 1,
        keys: vec![Key {
            kid: token.kid.clone(),
            client: "default".into(),
            scopes: screenshot_policy::keyset::Scope::ALL.into(),
            digest: token.digest.clone(),
            state: KeyState::Active,
            not_before: None,
            retire_after: None,
        }],
    };
    let report = AttestReport {
        pod: "p".into(),
        ready: true,
        policy_digest: Some(wanted.policy.digest().into()),
        keyset: Some(KeysetFacts {
            revision: 1,
            digest: keyset.digest(),
            stale: None,
        }),
        sandbox: SandboxFacts {
            verified: true,
            ..Default::default()
        },
        egress: EgressFacts {
            canary: Some(canary(&[Outcome::TimedOut])),
            ..Default::default()
        },
        ..Default::default()
    };
    World {
        wanted,
        deployment: Some(DeploymentView {
            current: true,
            desired: 1,
            replicas: 1,
            updated: 1,
            ready: 1,
            ..Default::default()
        }),
        pods: vec![PodView {
            name: "p".into(),
            uid: "u".into(),
            ip: None,
            node: Some("n1".into()),
            ready: true,
            started: true,
            waiting: None,
            refused: None,
            unschedulable: None,
            attested: Ok(report),
            let_in: false,
        }],
        facts: Facts {
            keyset: Some(keyset),
            client: Held::Token(token),
            pending: Held::Absent,
            pods: vec![],
        },
        stopped: Step::Rest(Timestamp::MAX),
        autoscaler: None,
        unresolved: BTreeSet::new(),
        unserved: BTreeSet::new(),
        offer: Offer::Made,
    }
}

impl World {
    fn status(&self, previous: &ScreenshotServiceStatus, at: Timestamp) -> ScreenshotServiceStatus {
        let rules = crate::credentials::rules(&self.wanted);
        let pass = Pass {
            wanted: &self.wanted,
            deployment: self.deployment.as_ref(),
            pods: &self.pods,
            facts: &self.facts,
            stopped: &self.stopped,
            rules: &rules,
            autoscaler: self.autoscaler.as_ref(),
            unresolved: &self.unresolved,
            unserved: &self.unserved,
            offer: self.offer,
        };
        compute(previous, &pass, at)
    }

    fn says(&self, kind: &str) -> Option<(String, String)> {
        says(&self.status(&ScreenshotServiceStatus::default(), now()), kind)
    }

    fn report(&mut self) -> &mut AttestReport {
        self.pods[0].attested.as_mut().unwrap()
    }
}

fn says(status: &ScreenshotServiceStatus, kind: &str) -> Option<(String, String)> {
    status
        .conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| (c.status.clone(), c.reason.clone()))
}

#[allow(clippy::unnecessary_wraps)] // Compared with what `says` returns.
fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}

#[test]
fn a_service_whose_controls_are_attested_is_ready_and_not_reconciling() {
    let world = good(|_| {});
    for (kind, expected) in [
        ("Ready", is("True", "AsWanted")),
        ("Reconciling", None),
        ("Stalled", None),
        ("Available", is("True", "PodsReady")),
        ("PolicyInForce", is("True", "PolicyAttested")),
        ("CredentialsReady", is("True", "TokenAccepted")),
        ("SandboxVerified", is("True", "SandboxAttested")),
        ("EgressEnforced", is("True", "CanaryOutOfReach")),
        ("Suspended", is("False", "NotSuspended")),
    ] {
        assert_eq!(world.says(kind), expected, "{kind}");
    }
}

/// Each control taken away by itself makes its condition false, and Ready with it.
#[test]
fn no_control_is_assumed() {
    type Edit = fn(&mut World);
    let table: [(&str, &str, &str, Edit); 17] = [
        ("PolicyInForce", "ClusterRangesOutdated", "Reconciling", |w| {
            w.report().cluster_ranges = Some("sha256:other".into());
        }),
        ("PolicyInForce", "PolicyOutdated", "Reconciling", |w| {
            w.report().policy_digest = Some("sha256:other".into());
        }),
        ("PolicyInForce", "PolicyOutdated", "Reconciling", |w| {
            w.report().policy_digest = None;
        }),
        ("PolicyInForce", "NotAttested", "Reconciling", |w| {
            w.pods[0].attested = Err(Unattested::Forged);
        }),
        ("PolicyInForce", "NoPods", "Reconciling", |w| w.pods.clear()),
        ("PolicyInForce", "ExceptionDenied", "Stalled", |w| {
            let denied = good(|spec| {
                let egress = &mut spec.network.egress;
                egress.cidrs.deny = vec!["10.0.0.0/8".into()];
                egress.exceptions = vec![EgressExceptionSpec {
                    host: "10.1.2.3".into(),
                    ports: vec![80],
                    cidr: None,
                    reason: "a test".into(),
                    expires: Time("2027-01-01T00:00:00Z".parse().unwrap()),
                }];
            });
            *w = denied;
        }),
        ("PolicyInForce", "ExceptionTargetMissing", "Stalled", |w| {
            w.unresolved = BTreeSet::from(["web.shop.svc".into()]);
        }),
        ("SandboxVerified", "SandboxUnverified", "Reconciling", |w| {
            w.report().sandbox.verified = false;
        }),
        ("SandboxVerified", "UserNamespacesBlocked", "Stalled", |w| {
            w.report().sandbox = blocked("SeccompFilter");
        }),
        ("EgressEnforced", "NetworkPolicyNotEnforced", "Stalled", |w| {
            w.report().egress.canary = Some(canary(&[Outcome::TimedOut, Outcome::Reached]));
        }),
        ("EgressEnforced", "NetworkPolicyNotEnforced", "Stalled", |w| {
            w.pods[0].let_in = true;
        }),
        ("EgressEnforced", "ProxyNotEnforcing", "Stalled", |w| {
            w.report().egress.canary.as_mut().unwrap().tries[0].proxy_refuses = false;
        }),
        ("CredentialsReady", "TokenMissing", "Reconciling", |w| {
            w.facts.client = Held::Absent;
        }),
        ("CredentialsReady", "KeysetNotLoaded", "Reconciling", |w| {
            w.stopped = Step::Wait(Wait::Pickup(vec!["p".into()]));
        }),
        ("CredentialsReady", "KeysetRefused", "Reconciling", |w| {
            w.report().keyset.as_mut().unwrap().stale = Some("keyset_syntax".into());
        }),
        ("Available", "PodsNotReady", "Reconciling", |w| w.deployment = None),
        ("SandboxVerified", "SeccompProfileMissing", "Stalled", |w| {
            w.deployment = Some(DeploymentView::default());
            w.pods[0].waiting = Some(Said {
                reason: "CreateContainerError".into(),
                message: "cannot load seccomp profile \"/x\"".into(),
                since: None,
            });
        }),
    ];
    for (kind, reason, trouble, edit) in table {
        let mut world = good(|_| {});
        edit(&mut world);
        assert_eq!(world.says(kind), is("False", reason), "{kind} {reason}");
        assert_eq!(
            world.says("Ready").map(|ready| ready.0),
            Some("False".into()),
            "{kind} {reason}"
        );
        assert_eq!(world.says(trouble).map(|t| t.0), Some("True".into()), "{kind} {reason}");
    }
}

#[test]
fn a_rotation_under_way_does_not_make_the_service_unready() {
    let mut world = good(|_| {});
    world.facts.pending = Held::Token(token());
    world.stopped = Step::Wait(Wait::Pickup(vec!["p".into()]));
    assert_eq!(world.says("CredentialsReady"), is("True", "Rotating"));
    assert_eq!(world.says("Ready"), is("True", "AsWanted"));
}

/// Somebody restored an old client Secret: there is a token in it, and its key is gone.
#[test]
fn a_token_that_the_keyset_does_not_accept_is_not_ready_whatever_is_waited_for() {
    let strange = || {
        Held::Token(TokenFacts {
            digest: "99".repeat(32),
            ..token()
        })
    };
    let pickup = || Step::Wait(Wait::Pickup(vec!["p".into()]));
    for stopped in [pickup(), Step::Wait(Wait::Overlap(Timestamp::MAX))] {
        let mut world = good(|_| {});
        (world.facts.client, world.stopped) = (strange(), stopped);
        world.facts.pending = Held::Token(token());
        for kind in ["CredentialsReady", "Ready"] {
            assert_eq!(world.says(kind), is("False", "TokenMissing"), "{kind}");
        }
    }
    // The overlap of the one that clients hold may end while its successor waits for a pod.
    let retiring = |end: &str| {
        let mut world = good(|_| {});
        (world.facts.pending, world.stopped) = (strange(), pickup());
        let key = &mut world.facts.keyset.as_mut().unwrap().keys[0];
        (key.state, key.retire_after) = (KeyState::Retiring, Some(end.parse().unwrap()));
        world.says("CredentialsReady")
    };
    assert_eq!(retiring("2026-06-01T00:00:01Z"), is("True", "Rotating"));
    assert_eq!(retiring("2026-06-01T00:00:00Z"), is("False", "TokenMissing"));
}

fn blocked(blocker: &str) -> SandboxFacts {
    SandboxFacts {
        reason: Some("UserNamespacesBlocked".into()),
        blocker: Some(blocker.into()),
        ..Default::default()
    }
}

#[test]
fn a_suspended_service_is_as_wanted_and_says_so() {
    let mut world = good(|spec| spec.suspend = true);
    world.pods.clear();
    world.deployment = Some(DeploymentView {
        current: true,
        ..Default::default()
    });
    assert_eq!(world.says("Ready"), is("True", "Suspended"));
    assert_eq!(world.says("Suspended"), is("True", "SuspendedBySpec"));
    assert_eq!(world.says("Available"), is("False", "NoReplicas"));
    assert_eq!(
        world
            .status(&ScreenshotServiceStatus::default(), now())
            .auth
            .unwrap()
            .next_rotation_time,
        None
    );
}

#[test]
fn a_suspended_service_is_reconciling_until_no_pod_is_left() {
    let mut world = good(|spec| spec.suspend = true);
    let left = |replicas, ready| {
        Some(DeploymentView {
            replicas,
            updated: replicas,
            ready,
            ..Default::default()
        })
    };
    // Replicas were set to 0 just now, or one pod is left that is not ready any more.
    for deployment in [left(2, 2), left(1, 0)] {
        world.deployment = deployment;
        assert_eq!(world.says("Ready"), is("True", "RollingOut"));
        assert_eq!(world.says("Reconciling"), is("True", "RollingOut"));
        assert_eq!(world.says("Suspended"), is("True", "SuspendedBySpec"));
        let status = world.status(&ScreenshotServiceStatus::default(), now());
        assert!(!settled(&status));
    }
    world.pods.clear();
    for deployment in [left(0, 0), None] {
        world.deployment = deployment;
        assert_eq!(world.says("Ready"), is("True", "Suspended"));
        assert_eq!(world.says("Reconciling"), None);
    }
}

#[test]
fn a_rollout_that_gave_up_is_stalled() {
    let mut world = good(|_| {});
    world.deployment = Some(DeploymentView {
        current: true,
        replicas: 1,
        updated: 1,
        ready: 0,
        stuck: true,
        ..Default::default()
    });
    assert_eq!(world.says("Stalled").map(|s| s.0), Some("True".into()));
    assert_eq!(world.says("Reconciling"), None);
}

/// A pod from before takes captures; the one that was to replace it never will.
fn replacing(edit: impl FnOnce(&mut DeploymentView)) -> World {
    let mut world = good(|_| {});
    let mut deployment = DeploymentView {
        current: true,
        desired: 1,
        replicas: 2,
        updated: 1,
        ready: 1,
        ..Default::default()
    };
    edit(&mut deployment);
    world.deployment = Some(deployment);
    let mut new = good(|_| {}).pods.remove(0);
    (new.name, new.uid, new.ready) = ("new".into(), "v".into(), false);
    let report = new.attested.as_mut().unwrap();
    report.ready = false;
    report.sandbox.verified = false;
    report.not_ready = vec![NotReady {
        reason: "resolver_failed".into(),
        message: "m".into(),
    }];
    world.pods.push(new);
    world
}

#[test]
fn a_rollout_that_gave_up_is_stalled_although_the_pods_from_before_serve_on() {
    let under_way = replacing(|_| {});
    assert_eq!(under_way.says("Ready"), is("True", "RollingOut"));
    assert_eq!(under_way.says("Stalled"), None);
    let gave_up = replacing(|deployment| deployment.stuck = true);
    assert_eq!(gave_up.says("Ready"), is("False", "ProgressDeadlineExceeded"));
    assert_eq!(gave_up.says("Stalled"), is("True", "ProgressDeadlineExceeded"));
    assert_eq!(gave_up.says("Reconciling"), None);
    assert_eq!(gave_up.says("Available"), is("True", "PodsReady"));
    let status = gave_up.status(&ScreenshotServiceStatus::default(), now());
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert!(
        ready
            .message
            .ends_with(": a capture pod on node n1 is not ready: resolver_failed"),
        "{}",
        ready.message
    );
}

#[test]
fn a_rollout_that_somebody_paused_is_stalled_while_pods_wait_for_it_and_only_then() {
    let paused = |updated| {
        replacing(|deployment| {
            (deployment.paused, deployment.updated) = (true, updated);
        })
    };
    assert_eq!(paused(0).says("Ready"), is("False", "RolloutPaused"));
    assert_eq!(paused(0).says("Stalled"), is("True", "RolloutPaused"));
    assert_eq!(paused(0).says("Available"), is("True", "PodsReady"));
    assert_eq!(paused(1).says("Stalled"), None);
    let growing = |desired| {
        replacing(|deployment| {
            (deployment.paused, deployment.updated) = (true, 0);
            (deployment.desired, deployment.replicas) = (desired, 1);
        })
    };
    assert_eq!(growing(2).says("Stalled"), None);
    assert_eq!(growing(1).says("Stalled"), is("True", "RolloutPaused"));
    let mut done = good(|_| {});
    done.deployment.as_mut().unwrap().paused = true;
    assert_eq!(done.says("Ready"), is("True", "AsWanted"));
    let mut crashing = paused(1);
    crashing.pods[1].waiting = Some(Said {
        reason: "CrashLoopBackOff".into(),
        ..Said::default()
    });
    assert_eq!(crashing.says("Ready"), is("False", "ContainerCrashes"));
}

#[test]
fn an_idle_pass_yields_an_equal_status_and_a_flip_moves_only_its_own_time() {
    let mut world = good(|_| {});
    let first = world.status(&ScreenshotServiceStatus::default(), now());
    let later: Timestamp = "2026-06-01T01:00:00Z".parse().unwrap();
    assert_eq!(world.status(&first, later), first);
    world.report().sandbox.verified = false;
    let flipped = world.status(&first, later);
    let time = |status: &ScreenshotServiceStatus, kind: &str| {
        status
            .conditions
            .iter()
            .find(|c| c.type_ == kind)
            .map(|c| c.last_transition_time.0)
    };
    assert_eq!(time(&flipped, "SandboxVerified"), Some(later));
    assert_eq!(time(&flipped, "PolicyInForce"), Some(now()));
}

#[test]
fn an_invalid_spec_stalls_and_keeps_what_is_known() {
    let before = good(|_| {}).status(&ScreenshotServiceStatus::default(), now());
    let after = invalid(&before, &Invalid::NoImage, 8, now());
    assert_eq!(says(&after, "Stalled"), is("True", "ImageMissing"));
    assert_eq!(says(&after, "Ready"), is("False", "ImageMissing"));
    assert_eq!(says(&after, "PolicyInForce"), says(&before, "PolicyInForce"));
    assert_eq!((after.observed_generation, after.url.clone()), (8, before.url.clone()));
}

#[test]
fn the_status_answers_the_nonce_and_names_keys_but_never_digests_or_tokens() {
    let status = good(|_| {}).status(&ScreenshotServiceStatus::default(), now());
    let auth = status.auth.clone().unwrap();
    assert_eq!(auth.last_handled_nonce.as_deref(), Some("n1"));
    assert_eq!(auth.active_key_id, Some(token().kid.to_string()));
    assert_eq!(
        auth.next_rotation_time.map(|t| t.0),
        Some("2026-07-01T00:00:00Z".parse().unwrap())
    );
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.contains("sst_") && !text.contains(&"00".repeat(32)));
}

#[test]
fn a_service_that_asks_for_no_pod_is_as_wanted_without_one() {
    let mut world = good(|spec| spec.replicas = 0);
    world.pods.clear();
    world.deployment = Some(DeploymentView {
        current: true,
        ..DeploymentView::default()
    });
    assert_eq!(world.says("Available"), is("False", "NoReplicas"));
    assert_eq!(world.says("Ready"), is("True", "AsWanted"));
}
