//! What pods attest and what stops them, and how much of their words is shown.

use screenshot_policy::finding::Finding;

use super::*;

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
    assert_eq!(world.says("SandboxVerified"), is("False", "BrowserFailed"));
    assert_eq!(world.says("Ready").unwrap().0, "False");
    // Nor is it where it was not asked for.
    let mut strict = good(|_| {});
    strict.report().sandbox = found("SandboxDegraded");
    assert_eq!(strict.says("SandboxVerified"), is("False", "SandboxDegraded"));
}

fn found(word: &str) -> SandboxFacts {
    SandboxFacts {
        reason: Some(word.into()),
        ..Default::default()
    }
}

#[test]
fn every_finding_of_a_pod_is_a_reason_of_the_condition_and_any_other_word_is_not() {
    let condition = |word: &str| {
        let mut world = good(|_| {});
        world.report().sandbox = found(word);
        let status = world.status(&ScreenshotServiceStatus::default(), now());
        let mut all = status.conditions.into_iter();
        all.find(|c| c.type_ == "SandboxVerified").unwrap()
    };
    for finding in Finding::ALL {
        let shown = condition(finding.word());
        assert_eq!(
            (shown.status.as_str(), shown.reason.as_str()),
            ("False", finding.word())
        );
        assert!(shown.message.contains("node n1"), "{}", shown.message);
    }
    let unknown = condition("<b>Unheard of");
    assert_eq!(unknown.reason, "SandboxUnverified");
    assert!(unknown.message.ends_with("node n1: bUnheardof"), "{}", unknown.message);
    for (word, meaning) in [
        ("LandlockUnavailable", "the kernel does not have Landlock"),
        ("GpuUnsandboxed", "GPU process has no filter"),
        ("PidLimit", "podPidsLimit is too small"),
        ("SecretsReadable", "can be opened from inside"),
        ("DevtoolsReachable", "answers in a browser's network"),
    ] {
        let message = condition(word).message;
        assert!(message.contains(word) && message.contains(meaning), "{message}");
    }
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

/// Else every pod that an autoscaler adds makes the service unready for as long as it starts.
#[test]
fn a_pod_that_is_only_starting_does_not_count_beside_one_that_serves() {
    let mut world = good(|_| {});
    let mut starting = world.pods[0].clone();
    (starting.ready, starting.started, starting.attested) = (false, false, Err(Unattested::NoAddress));
    world.pods.push(starting.clone());
    assert_eq!(world.says("PolicyInForce"), is("True", "PolicyAttested"));
    // Its server runs and has not looked at a browser yet.
    let mut report = world.pods[0].attested.clone().unwrap();
    (report.sandbox.verified, report.sandbox.reason) = (false, None);
    (world.pods[1].started, world.pods[1].attested) = (true, Ok(report.clone()));
    assert_eq!(world.says("SandboxVerified"), is("True", "SandboxAttested"));
    assert_eq!(world.says("Ready"), is("True", "AsWanted"));
    // It has looked: that counts, ready or not.
    report.sandbox.reason = Some("landlock".into());
    world.pods[1].attested = Ok(report);
    assert_eq!(world.says("SandboxVerified"), is("False", "SandboxUnverified"));
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

#[test]
fn a_pod_that_refuses_a_newer_keyset_is_named_with_its_reason_also_during_a_rotation() {
    let said = |world: &World| {
        let status = world.status(&ScreenshotServiceStatus::default(), now());
        let found = status.conditions.into_iter().find(|c| c.type_ == "CredentialsReady");
        found.map(|c| (c.status, c.reason, c.message)).unwrap()
    };
    let mut world = good(|_| {});
    world.report().keyset.as_mut().unwrap().stale = Some("keyset_syntax\n<b>".into());
    let message = "pod p: the newer keyset is refused (keyset_syntaxb), the last good one stays in force";
    let expected = ("False".into(), "KeysetRefused".into(), message.into());
    assert_eq!(said(&world), expected);
    world.facts.pending = Held::Token(token());
    world.stopped = Step::Wait(Wait::Pickup(vec!["p".into()]));
    assert_eq!(said(&world), expected);

    for name in ["b", "a"] {
        let mut pod = world.pods[0].clone();
        pod.name = name.into();
        world.pods.push(pod);
    }
    assert!(said(&world).2.starts_with("pod a and 2 more: "), "{}", said(&world).2);
}
