//! Tables: what was attested → what the status says.

use screenshot_api::{EgressExceptionSpec, ScreenshotService, ScreenshotServiceSpec};
use screenshot_policy::attest::{AttestReport, EgressFacts, KeysetFacts, NotReady, SandboxFacts};
use screenshot_policy::canary::{CanaryFacts, Outcome, Try};
use screenshot_policy::keyset::{Key, Keyset};
use screenshot_policy::token::Kid;

use super::*;
use crate::attest::Unattested;
use crate::cluster::ClusterSettings;
use crate::context::Settings;
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
    let settings = Settings {
        capture_image: Some("i".into()),
        operator_namespace: "o".into(),
        operator_name: "o".into(),
        cluster: ClusterSettings::default(),
    };
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
    let table: [(&str, &str, &str, Edit); 16] = [
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

fn blocked(blocker: &str) -> SandboxFacts {
    SandboxFacts {
        reason: Some("UserNamespacesBlocked".into()),
        blocker: Some(blocker.into()),
        ..Default::default()
    }
}

#[test]
fn what_a_node_lacks_is_the_reason_of_the_whole_service_and_names_the_node() {
    let missing = |w: &mut World| {
        w.deployment = Some(DeploymentView::default());
        w.pods[0].waiting = Some(Said {
            reason: "CreateContainerError".into(),
            message: "cannot load seccomp profile \"/x\"".into(),
            since: None,
        });
    };
    let namespaces = |w: &mut World| {
        w.deployment = Some(DeploymentView::default());
        w.report().sandbox = blocked("SeccompFilter");
        w.report().not_ready = vec![NotReady {
            reason: "UserNamespacesBlocked".into(),
            message: "m".into(),
        }];
    };
    for (edit, reason, message) in [
        (
            &missing as &dyn Fn(&mut World),
            "SeccompProfileMissing",
            "the operator's seccomp profile is missing on node n1: no browser can be started there",
        ),
        (
            &namespaces,
            "UserNamespacesBlocked",
            "browsers cannot be confined on node n1: user namespaces are refused there, by a seccomp filter that is not \
             the operator's profile",
        ),
    ] {
        let mut world = good(|_| {});
        edit(&mut world);
        for kind in ["SandboxVerified", "Ready", "Stalled"] {
            let status = world.status(&ScreenshotServiceStatus::default(), now());
            let found = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
            assert_eq!(
                (found.reason.as_str(), found.message.as_str()),
                (reason, message),
                "{kind}"
            );
        }
    }
}

#[test]
fn nodes_are_listed_in_order_and_only_a_few() {
    let mut world = good(|_| {});
    world.report().sandbox = blocked("Limit");
    for node in ["n5", "n3", "n4", "n2", "n3"] {
        let mut pod = world.pods[0].clone();
        pod.node = Some(node.into());
        world.pods.insert(0, pod);
    }
    let status = world.status(&ScreenshotServiceStatus::default(), now());
    let found = status.conditions.iter().find(|c| c.type_ == "SandboxVerified").unwrap();
    assert_eq!(
        found.message,
        "browsers cannot be confined on nodes n1, n2, n3 and 2 more: user namespaces are refused there, as \
         user.max_user_namespaces is 0 or used up"
    );
}

#[test]
fn degraded_is_never_called_verified_and_does_not_stop_a_service_that_asked_for_it() {
    let degraded = |spec: &mut ScreenshotServiceSpec| spec.sandbox.mode = screenshot_api::SandboxMode::Degraded;
    let mut world = good(degraded);
    world.report().sandbox.verified = false;
    world.report().sandbox.reason = Some("SandboxDegraded".into());
    assert_eq!(world.says("SandboxVerified"), is("False", "Degraded"));
    assert_eq!(world.says("Ready"), is("True", "Degraded"));
    // Any other finding is one that was not asked for.
    world.report().sandbox.reason = Some("BrowserFailed".into());
    assert_eq!(world.says("SandboxVerified"), is("False", "SandboxUnverified"));
    assert_eq!(world.says("Ready").unwrap().0, "False");
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
fn what_a_pod_says_reaches_the_status_only_as_a_short_plain_word() {
    let mut world = good(|_| {});
    world.deployment = Some(DeploymentView::default());
    let hostile = format!("<script>\n{}", "x".repeat(500));
    world.report().not_ready = vec![NotReady {
        reason: hostile,
        message: "secret".into(),
    }];
    let status = world.status(&ScreenshotServiceStatus::default(), now());
    let message = &status
        .conditions
        .iter()
        .find(|c| c.type_ == "Available")
        .unwrap()
        .message;
    assert!(
        !message.contains(['<', '\n']) && !message.contains("secret") && message.len() < 120,
        "{message}"
    );
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
fn what_the_cluster_lacks_is_shown_and_only_a_way_in_that_is_missing_stalls() {
    let mut world = good(|spec| spec.monitoring.pod_monitor.enabled = true);
    assert_eq!(world.says("MonitoringInPlace"), is("True", "MonitoringInPlace"));
    world.unserved = BTreeSet::from([Kind::PodMonitor, Kind::PrometheusRule]);
    assert_eq!(world.says("MonitoringInPlace"), is("False", "MonitoringCRDMissing"));
    assert_eq!(world.says("Ready"), is("True", "AsWanted"));

    let mut world = good(|spec| spec.network.exposure = Some(route()));
    assert_eq!(world.says("Exposed"), is("True", "RouteInPlace"));
    world.unserved = BTreeSet::from([Kind::HttpRoute]);
    assert_eq!(world.says("Exposed"), is("False", "GatewayCRDMissing"));
    assert_eq!(world.says("Ready"), is("False", "GatewayCRDMissing"));
    assert_eq!(world.says("Stalled"), is("True", "GatewayCRDMissing"));

    for absent in ["MonitoringInPlace", "Exposed", "AutoscalingActive"] {
        assert_eq!(good(|_| {}).says(absent), None, "{absent} is not asked for");
    }
}

fn route() -> screenshot_api::Exposure {
    serde_json::from_value(
        serde_json::json!({"httpRoute": {"parentRefs": [{"name": "g"}], "hostnames": ["b.example", "a.example"]}}),
    )
    .unwrap()
}

#[test]
fn the_url_is_that_of_the_way_in_from_outside_if_there_is_one() {
    let url = |exposure: serde_json::Value| {
        let world = good(|spec| spec.network.exposure = serde_json::from_value(exposure).unwrap());
        world.status(&ScreenshotServiceStatus::default(), now()).url.unwrap()
    };
    assert_eq!(url(serde_json::Value::Null), "http://shots.web.svc");
    assert_eq!(
        url(serde_json::json!({"ingress": {"host": "a.example"}})),
        "http://a.example"
    );
    assert_eq!(
        url(serde_json::json!({"ingress": {"host": "a.example", "tlsSecretName": "t"}})),
        "https://a.example"
    );
    assert_eq!(url(serde_json::to_value(route()).unwrap()), "https://b.example");
}

#[test]
fn autoscaling_is_told_apart_from_readiness() {
    let mut world = good(|spec| {
        spec.autoscaling = serde_json::from_value(serde_json::json!({"minReplicas": 1, "maxReplicas": 3})).unwrap();
    });
    assert_eq!(world.says("AutoscalingActive"), is("False", "ScalingPending"));
    let view = |active| AutoscalerView {
        active: Some(active),
        said: Said {
            reason: "FailedGetContainerResourceMetric".into(),
            message: "the HPA was unable to compute the replica count: failed to get cpu usage: pod x at 12:00".into(),
            since: None,
        },
    };
    world.autoscaler = Some(view(true));
    assert_eq!(world.says("AutoscalingActive"), is("True", "ScalingActive"));
    world.autoscaler = Some(view(false));
    assert_eq!(world.says("AutoscalingActive"), is("False", "ScalingInactive"));
    assert_eq!(
        world.says("Ready"),
        is("True", "AsWanted"),
        "captures are served all the same"
    );
    // More pods than the fewest are as wanted when the autoscaler asked for them.
    if let Some(deployment) = &mut world.deployment {
        (
            deployment.desired,
            deployment.replicas,
            deployment.updated,
            deployment.ready,
        ) = (3, 3, 3, 3);
    }
    assert_eq!(world.says("Ready"), is("True", "AsWanted"));
}

/// Else every pod that an autoscaler adds makes the service unready for as long as it starts.
#[test]
fn a_pod_that_is_only_starting_does_not_count_beside_one_that_serves() {
    let mut world = good(|_| {});
    let mut starting = world.pods[0].clone();
    (starting.ready, starting.started, starting.attested) = (false, false, Err(Unattested::NoAddress));
    world.pods.push(starting.clone());
    assert_eq!(world.says("PolicyInForce"), is("True", "PolicyAttested"));
    world.pods = vec![starting];
    assert_eq!(world.says("PolicyInForce"), is("False", "NotAttested"));
}

#[test]
fn trouble_with_pods_is_named_in_every_condition_that_it_explains() {
    let mut world = good(|_| {});
    world.pods[0].ready = false;
    world.pods[0].attested = Err(Unattested::NoAddress);
    world.pods[0].waiting = Some(Said {
        reason: "ImagePullBackOff".into(),
        ..Said::default()
    });
    world.deployment = Some(DeploymentView::default());
    for (kind, status) in [("Ready", "False"), ("Available", "False"), ("Stalled", "True")] {
        assert_eq!(world.says(kind), is(status, "ImagePullFailed"), "{kind}");
    }
    // With one pod that serves, the other's trouble still keeps the service from being as wanted.
    let mut world = good(|spec| spec.replicas = 2);
    if let Some(deployment) = &mut world.deployment {
        deployment.failure = Some(Said {
            message: "exceeded quota: small".into(),
            ..Said::default()
        });
    }
    assert_eq!(world.says("Available"), is("True", "PodsReady"));
    assert_eq!(world.says("Stalled"), is("True", "QuotaExceeded"));
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

#[test]
fn the_browser_of_the_status_is_the_oldest_that_a_pod_attests() {
    let mut world = good(|_| {});
    let version = |world: &World, previous: &ScreenshotServiceStatus| {
        world
            .status(previous, now())
            .browser
            .and_then(|browser| browser.version)
    };
    let none = ScreenshotServiceStatus::default();
    assert_eq!(version(&world, &none), None);
    world.report().browser.version = Some("Chrome/140.0.1.2".into());
    let mut older = world.pods[0].clone();
    if let Ok(report) = &mut older.attested {
        report.browser.version = Some("Chrome/99.0.7.1\n<b>".into());
    }
    world.pods.push(older);
    assert_eq!(version(&world, &none).as_deref(), Some("Chrome/99.0.7.1b"));
    let known = world.status(&none, now());
    world.pods.clear();
    assert_eq!(version(&world, &known).as_deref(), Some("Chrome/99.0.7.1b"));
}

/// What nobody proved is neither true nor false, and does not stop a service; it is not called verified either.
#[test]
fn egress_that_is_not_proven_is_unknown_and_ready_says_so() {
    type Edit = fn(&mut World);
    let table: [(&str, Edit); 9] = [
        ("CanaryUnavailable", |w| w.offer = Offer::NoAddress),
        ("CanaryUnavailable", |w| w.offer = Offer::Deaf),
        ("CanaryExcepted", |w| w.offer = Offer::Opened),
        ("CanaryMistaken", |w| {
            w.report().egress.canary = Some(canary(&[Outcome::Mistaken, Outcome::Refused]));
        }),
        ("CanaryNotTried", |w| {
            w.report().egress.canary = Some(canary(&[Outcome::NoRoute]));
        }),
        ("CanaryNotTried", |w| w.report().egress.canary = Some(canary(&[]))),
        ("CanaryNotTried", |w| w.report().egress.canary = None),
        ("PodStarting", |w| {
            w.report().egress.canary = Some(CanaryFacts {
                early: true,
                ..canary(&[Outcome::Reached])
            });
        }),
        ("NotAttested", |w| {
            w.pods.push(PodView {
                attested: Err(Unattested::Unreachable),
                ..w.pods[0].clone()
            });
        }),
    ];
    for (reason, edit) in table {
        let mut world = good(|_| {});
        edit(&mut world);
        assert_eq!(world.says("EgressEnforced"), is("Unknown", reason));
        if reason == "NotAttested" {
            continue;
        }
        let status = world.status(&ScreenshotServiceStatus::default(), now());
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("True", "AsWanted"),
            "{reason}"
        );
        assert!(ready.message.contains("is not known"), "{reason}: {}", ready.message);
    }
}

#[test]
fn a_service_that_accepts_it_runs_where_policies_are_not_enforced_and_says_so() {
    let mut world = good(|spec| spec.network.egress.enforcement = screenshot_api::Enforcement::Advisory);
    world.report().egress.canary = Some(canary(&[Outcome::Reached]));
    assert_eq!(world.says("EgressEnforced"), is("False", "NetworkPolicyNotEnforced"));
    assert_eq!(world.says("Ready"), is("True", "Degraded"));
    assert_eq!(world.says("Stalled"), None);
}

#[test]
fn the_message_names_the_node_where_policies_are_not_enforced() {
    let mut world = good(|_| {});
    world.report().egress.canary = Some(canary(&[Outcome::Reached]));
    let status = world.status(&ScreenshotServiceStatus::default(), now());
    for kind in ["EgressEnforced", "Ready", "Stalled"] {
        let found = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
        assert_eq!(found.reason, "NetworkPolicyNotEnforced", "{kind}");
        assert!(
            found
                .message
                .starts_with("NetworkPolicies are not enforced on node n1: "),
            "{}",
            found.message
        );
    }
}

#[test]
fn exceptions_are_shown_with_their_ends_and_one_that_ends_soon_is_told_once() {
    let world = good(|spec| {
        let one = |host: &str, expires: &str| EgressExceptionSpec {
            host: host.into(),
            ports: vec![80],
            cidr: None,
            reason: "a test".into(),
            expires: Time(expires.parse().unwrap()),
        };
        spec.network.egress.exceptions = vec![
            one("10.1.2.4", "2026-09-01T00:00:00Z"),
            one("10.1.2.3", "2026-06-20T00:00:00Z"),
        ];
    });
    let at = |time: &str| time.parse::<Timestamp>().unwrap();
    let first = world.status(&ScreenshotServiceStatus::default(), now());
    let shown: Vec<String> = first
        .exceptions
        .iter()
        .map(|e| format!("{} {}", e.host, e.expires.0))
        .collect();
    assert_eq!(
        shown,
        ["10.1.2.3 2026-06-20T00:00:00Z", "10.1.2.4 2026-09-01T00:00:00Z"]
    );
    assert_eq!(says(&first, "ExceptionsLasting"), is("True", "NoneEndsSoon"));
    assert_eq!(
        world.status(&first, at("2026-06-12T23:59:59Z")),
        first,
        "no day is counted"
    );
    let soon = world.status(&first, at("2026-06-14T00:00:00Z"));
    assert_eq!(says(&soon, "ExceptionsLasting"), is("False", "ExceptionEndsSoon"));
    assert_eq!(says(&soon, "Ready"), says(&first, "Ready"), "shown, and no more");
    assert_eq!(world.status(&soon, at("2026-06-19T00:00:00Z")), soon);
    let told = |before, after| crate::events::notes(before, after, &[]).len();
    assert_eq!((told(&first, &soon), told(&soon, &soon)), (1, 0));
    let over = world.status(&soon, at("2026-06-20T00:00:00Z"));
    assert_eq!(says(&over, "ExceptionsLasting"), is("False", "ExceptionEnded"));
    assert_eq!(over.exceptions.len(), 1);
    let none = good(|_| {}).status(&ScreenshotServiceStatus::default(), now());
    assert_eq!((says(&none, "ExceptionsLasting"), none.exceptions.len()), (None, 0));
}
