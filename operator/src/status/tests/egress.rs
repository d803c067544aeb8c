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
