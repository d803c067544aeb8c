//! What canaries prove of the network, and exceptions that end.

use super::*;

/// What nobody proved is neither true nor false, and does not stop a service; it is not called verified either.
#[test]
fn egress_that_is_not_proven_is_unknown_and_ready_says_so() {
    type Edit = fn(&mut World);
    let table: [(&str, Edit); 10] = [
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
        // Its policies are late in both directions.
        ("PodStarting", |w| {
            w.report().egress.canary = Some(CanaryFacts {
                early: true,
                ..canary(&[Outcome::Reached])
            });
            w.pods[0].let_in = true;
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
fn an_upstream_that_resolves_is_shown_and_does_not_stop_a_service() {
    let through = |resolve| {
        good(|spec| {
            spec.network.egress.upstream_proxy = Some(screenshot_api::UpstreamProxySpec {
                url: "http://proxy.example.com:3128".into(),
                credentials_secret_name: None,
                ca_bundle_config_map_name: None,
                resolve,
                cidr: None,
            });
        })
    };
    let remote = through(screenshot_api::Resolution::Remote);
    assert_eq!(remote.says("AddressesChecked"), is("False", "RemoteResolution"));
    assert_eq!(remote.says("Ready"), is("True", "Degraded"));
    assert_eq!(remote.says("Stalled"), None);
    let local = through(screenshot_api::Resolution::Local);
    assert_eq!(local.says("AddressesChecked"), is("True", "LocalResolution"));
    assert_eq!(local.says("Ready"), is("True", "AsWanted"));
    assert_eq!(good(|_| {}).says("AddressesChecked"), None);
    let mut missing = through(screenshot_api::Resolution::Local);
    missing.unresolved = BTreeSet::from(["proxy.example.com".into()]);
    assert_eq!(missing.says("PolicyInForce"), is("False", "UpstreamProxyMissing"));
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
fn an_exception_for_a_certificate_is_told_of_like_any_other() {
    let world = good(|spec| {
        spec.network.egress.tls.hosts = vec![TlsHostSpec {
            host: "lab.example.com".into(),
            trust: TlsTrust::PinnedKey,
            spki_pins: vec!["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".into()],
            reason: Some("a test".into()),
            expires: Some(Time("2026-06-20T00:00:00Z".parse().unwrap())),
        }];
    });
    let told = |time: &str| {
        let status = world.status(&ScreenshotServiceStatus::default(), time.parse().unwrap());
        let mut conditions = status.conditions.into_iter();
        let condition = conditions.find(|condition| condition.type_ == "ExceptionsLasting");
        condition
            .map(|condition| (condition.reason, condition.message))
            .unwrap()
    };
    assert_eq!(told("2026-06-01T00:00:00Z").0, "NoneEndsSoon");
    let (reason, message) = told("2026-06-14T00:00:00Z");
    assert_eq!(reason, "ExceptionEndsSoon");
    assert_eq!(
        message,
        "the exception for the certificate of lab.example.com ends at 2026-06-20T00:00:00Z"
    );
    let (reason, message) = told("2026-06-20T00:00:00Z");
    assert_eq!(reason, "ExceptionEnded");
    assert!(message.contains("lets no other certificate pass"), "{message}");
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
        let of = |host: &str, trust| TlsHostSpec {
            host: host.into(),
            trust,
            spki_pins: vec!["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".into()],
            reason: (trust == TlsTrust::PinnedKey).then(|| "a test".into()),
            expires: (trust == TlsTrust::PinnedKey).then(|| Time("2026-07-01T00:00:00Z".parse().unwrap())),
        };
        spec.network.egress.tls.hosts = vec![
            of("10.1.2.3", TlsTrust::PinnedKey),
            of("pinned.example.com", TlsTrust::PublicAuthorities),
        ];
    });
    let at = |time: &str| time.parse::<Timestamp>().unwrap();
    let first = world.status(&ScreenshotServiceStatus::default(), at("2026-06-01T06:00:00Z"));
    let shown: Vec<String> = first
        .exceptions
        .iter()
        .map(|e| format!("{:?} {} {} {}", e.kind, e.host, e.expires.0, e.days_left))
        .collect();
    assert_eq!(
        shown,
        [
            "Destination 10.1.2.3 2026-06-20T00:00:00Z 18",
            "Certificate 10.1.2.3 2026-07-01T00:00:00Z 29",
            "Destination 10.1.2.4 2026-09-01T00:00:00Z 91"
        ]
    );
    assert_eq!(says(&first, "ExceptionsLasting"), is("True", "NoneEndsSoon"));
    let later = |time| world.status(&first, at(time));
    assert_eq!(later("2026-06-01T23:59:59Z"), first, "written once a day");
    let days = |status: &ScreenshotServiceStatus| status.exceptions[0].days_left;
    assert_eq!(
        [
            later("2026-06-02T00:00:01Z"),
            later("2026-06-12T23:59:59Z"),
            later("2026-06-19T12:00:00Z")
        ]
        .map(|s| days(&s)),
        [17, 7, 0]
    );
    let soon = world.status(&first, at("2026-06-14T00:00:00Z"));
    assert_eq!(says(&soon, "ExceptionsLasting"), is("False", "ExceptionEndsSoon"));
    assert_eq!(says(&soon, "Ready"), says(&first, "Ready"), "shown, and no more");
    assert_eq!(world.status(&soon, at("2026-06-14T00:00:00Z")), soon);
    let told = |before, after| crate::events::notes(before, after, &[]).len();
    assert_eq!((told(&first, &soon), told(&soon, &soon)), (1, 0));
    let over = world.status(&soon, at("2026-06-20T00:00:00Z"));
    assert_eq!(says(&over, "ExceptionsLasting"), is("False", "ExceptionEnded"));
    assert_eq!(over.exceptions.len(), 2);
    let none = good(|_| {}).status(&ScreenshotServiceStatus::default(), now());
    assert_eq!((says(&none, "ExceptionsLasting"), none.exceptions.len()), (None, 0));
}

fn excepting(ends: &[(&str, &str)]) -> World {
    good(|spec| {
        let exceptions = ends.iter().map(|(host, expires)| EgressExceptionSpec {
            host: (*host).into(),
            ports: vec![80],
            cidr: None,
            reason: "a test".into(),
            expires: Time(expires.parse().unwrap()),
        });
        spec.network.egress.exceptions = exceptions.collect();
    })
}

/// What is said of exceptions at a time, and in how many events.
fn lasting(world: &World, before: &ScreenshotServiceStatus, time: &str) -> (ScreenshotServiceStatus, String, usize) {
    let after = world.status(before, time.parse().unwrap());
    let mut conditions = after.conditions.iter();
    let condition = conditions.find(|c| c.type_ == "ExceptionsLasting").unwrap();
    let said = format!("{}: {}", condition.reason, condition.message);
    let told = crate::events::notes(before, &after, &[]).len();
    (after, said, told)
}

#[test]
fn an_exception_that_ended_long_ago_does_not_silence_the_warning_about_another_one() {
    let world = excepting(&[
        ("10.1.2.3", "2026-06-05T00:00:00Z"),
        ("10.1.2.4", "2026-06-20T00:00:00Z"),
    ]);
    let first = world.status(&ScreenshotServiceStatus::default(), now());
    let long_ago = "the exception for 10.1.2.3 ended at 2026-06-05T00:00:00Z and opens nothing: take it out, or give \
                    it a later end";
    let (ended, said, told) = lasting(&world, &first, "2026-06-10T00:00:00Z");
    assert_eq!((said, told), (format!("ExceptionEnded: {long_ago}"), 1));
    let (soon, said, told) = lasting(&world, &ended, "2026-06-15T00:00:00Z");
    let near = "the exception for 10.1.2.4 ends at 2026-06-20T00:00:00Z";
    assert_eq!((said, told), (format!("ExceptionEndsSoon: {near}; {long_ago}"), 1));
    let (same, _, told) = lasting(&world, &soon, "2026-06-15T00:00:00Z");
    assert_eq!((same == soon, told), (true, 0));
    let (_, said, told) = lasting(&world, &soon, "2026-06-20T00:00:00Z");
    let over = "the exception for 10.1.2.4 ended at 2026-06-20T00:00:00Z and ";
    assert!(
        said.starts_with(&format!("ExceptionEnded: {over}")) && said.ends_with(long_ago),
        "{said}"
    );
    assert_eq!(told, 1);
}

#[test]
fn each_warning_and_each_end_is_told_once_also_after_one_of_the_same_sort() {
    let world = excepting(&[
        ("10.1.2.3", "2026-06-20T00:00:00Z"),
        ("10.1.2.4", "2026-06-22T00:00:00Z"),
    ]);
    let mut before = world.status(&ScreenshotServiceStatus::default(), now());
    for (time, reason, host) in [
        ("2026-06-13T00:00:00Z", "ExceptionEndsSoon", "10.1.2.3"),
        ("2026-06-15T00:00:00Z", "ExceptionEndsSoon", "10.1.2.4"),
        ("2026-06-20T00:00:00Z", "ExceptionEnded", "10.1.2.3"),
        ("2026-06-22T00:00:00Z", "ExceptionEnded", "10.1.2.4"),
    ] {
        let (after, said, told) = lasting(&world, &before, time);
        let start = format!("{reason}: the exception for {host} ");
        assert!(said.starts_with(&start), "{time}: {said}");
        assert_eq!(told, 1, "{time}: {said}");
        let (_, _, again) = lasting(&world, &after, time);
        assert_eq!(again, 0, "{time}");
        before = after;
    }
}

#[test]
fn an_end_tells_what_else_ends_soon_and_only_a_few_exceptions_are_named() {
    let world = excepting(&[
        ("10.1.2.3", "2026-06-20T00:00:00Z"),
        ("10.1.2.4", "2026-06-27T00:00:00Z"),
        ("10.1.2.5", "2026-06-02T00:00:00Z"),
        ("10.1.2.6", "2026-06-03T00:00:00Z"),
        ("10.1.2.7", "2026-06-04T00:00:00Z"),
    ]);
    let first = world.status(&ScreenshotServiceStatus::default(), now());
    let (soon, said, _) = lasting(&world, &first, "2026-06-14T00:00:00Z");
    assert!(
        said.starts_with("ExceptionEndsSoon: the exception for 10.1.2.3 ends at "),
        "{said}"
    );
    // The one ends in the moment in which the other begins to end soon.
    let (_, said, told) = lasting(&world, &soon, "2026-06-20T00:00:00Z");
    assert!(
        said.starts_with("ExceptionEnded: the exception for 10.1.2.3 ended at "),
        "{said}"
    );
    assert!(said.contains("; the exception for 10.1.2.4 ends at "), "{said}");
    assert!(said.ends_with("; and 2 more"), "{said}");
    assert_eq!(told, 1);
}
