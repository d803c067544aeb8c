//! What the cluster's parts say → what a person reads. The texts are those of Kubernetes 1.36.

use screenshot_api::{ScreenshotService, ScreenshotServiceSpec};

use super::*;
use crate::attest::Unattested;
use crate::context::tests::settings;
use crate::validate::{identity, validate};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn wanted() -> Validated {
    let mut service = ScreenshotService::new("shots", ScreenshotServiceSpec::default());
    service.metadata.namespace = Some("web".into());
    service.metadata.uid = Some("u".into());
    let settings = settings(Some("example.com/i:1"));
    validate(identity(&service).unwrap(), &service, &settings).unwrap()
}

fn said(reason: &str, message: &str) -> Said {
    Said {
        reason: reason.into(),
        message: message.into(),
        since: Some(now()),
    }
}

fn pod() -> PodView {
    PodView {
        name: "p".into(),
        uid: "u".into(),
        ip: None,
        node: Some("n1".into()),
        ready: false,
        started: false,
        waiting: None,
        refused: None,
        unschedulable: None,
        attested: Err(Unattested::NoAddress),
        let_in: false,
    }
}

fn in_short(trouble: Option<Trouble>) -> Option<(&'static str, bool)> {
    trouble.map(|trouble| (trouble.reason, trouble.person))
}

#[test]
fn a_refused_creation_names_what_refused_it() {
    for (message, expected) in [
        (
            r#"pods "shots-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2"#,
            ("QuotaExceeded", true),
        ),
        (
            r#"pods "shots-1" is forbidden: failed quota: small: must specify limits.cpu for: server"#,
            ("QuotaExceeded", true),
        ),
        (
            r#"pods "shots-1" is forbidden: no PriorityClass with name captures was found"#,
            ("PriorityClassMissing", true),
        ),
        (
            r#"pods "shots-1" is forbidden: pod rejected: RuntimeClass "gvisor" not found"#,
            ("RuntimeClassMissing", true),
        ),
        (
            r#"pods "shots-1" is forbidden: violates PodSecurity "restricted:latest": seccompProfile"#,
            ("PodSecurityRefused", true),
        ),
        (
            r#"pods "shots-1" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'images' denied request: no"#,
            ("AdmissionRefused", true),
        ),
        (
            r#"admission webhook "x.example.com" denied the request: no"#,
            ("AdmissionRefused", true),
        ),
        ("Internal error occurred: etcd is away", ("PodsNotCreated", false)),
    ] {
        let deployment = DeploymentView {
            failure: Some(said("FailedCreate", message)),
            ..DeploymentView::default()
        };
        let found = find(&wanted(), Some(&deployment), &[], now()).unwrap();
        assert_eq!((found.reason, found.person), expected, "{message}");
        assert!(found.message.ends_with(message), "{}", found.message);
    }
}

#[test]
fn a_pod_without_a_node_calls_a_person_only_after_two_minutes() {
    let pending = PodView {
        unschedulable: Some(said("Unschedulable", "0/1 nodes are available: 1 Insufficient memory.")),
        node: None,
        ..pod()
    };
    let at = |seconds: i64| {
        let later = now() + SignedDuration::from_secs(seconds);
        in_short(find(&wanted(), None, std::slice::from_ref(&pending), later))
    };
    assert_eq!(at(0), Some(("Unschedulable", false)));
    assert_eq!(at(120), Some(("Unschedulable", false)));
    assert_eq!(at(121), Some(("Unschedulable", true)));
}

#[test]
fn a_container_that_cannot_start_names_the_node_and_what_is_missing() {
    for (reason, message, expected) in [
        (
            "ImagePullBackOff",
            "Back-off pulling image",
            ("ImagePullFailed", true, "node n1 cannot get the image example.com/i:1"),
        ),
        (
            "CreateContainerError",
            "cannot load seccomp profile \"/var/lib/kubelet/seccomp/x\": no such file",
            (
                "SeccompProfileMissing",
                true,
                "the operator's seccomp profile is missing on node n1: no browser can be started there",
            ),
        ),
        (
            "CrashLoopBackOff",
            "back-off",
            ("ContainerCrashes", false, "a container on node n1 ends again and again"),
        ),
        (
            "CreateContainerConfigError",
            "secret not found",
            (
                "ContainerWaiting",
                false,
                "a container on node n1 cannot start: CreateContainerConfigError",
            ),
        ),
    ] {
        let waiting = PodView {
            waiting: Some(said(reason, message)),
            ..pod()
        };
        let found = find(&wanted(), None, &[waiting], now()).unwrap();
        assert_eq!((found.reason, found.person, found.message.as_str()), expected);
    }
}

#[test]
fn a_pod_that_its_node_does_not_begin_names_the_node_and_the_field_that_asks_too_much() {
    for (message, expected, text) in [
        (
            r#"Failed to create pod sandbox: RuntimeClass handler "" does not support user namespaces"#,
            ("UserNamespacesUnsupported", true),
            "node n1 cannot do `spec.sandbox.hostUsers: false`: ",
        ),
        (
            "Failed to create pod sandbox: rpc error: OCI runtime create failed: failed to set MOUNT_ATTR_IDMAP: idmap",
            ("UserNamespacesUnsupported", true),
            "node n1 cannot do `spec.sandbox.hostUsers: false`: ",
        ),
        (
            r#"Failed to create pod sandbox: rpc error: failed to get sandbox runtime: no runtime for "runsc" is configured"#,
            ("RuntimeHandlerMissing", true),
            "node n1 lacks the runtime of the class that `spec.sandbox.runtimeClassName` names: ",
        ),
        (
            "Failed to create pod sandbox: plugin type=\"bridge\" failed (add): no addresses left",
            ("PodNotBegun", false),
            "node n1 cannot begin a capture pod: ",
        ),
    ] {
        let refused = PodView {
            refused: Some(said("FailedCreatePodSandBox", message)),
            ..pod()
        };
        let found = find(&wanted(), None, &[refused], now()).unwrap();
        assert_eq!((found.reason, found.person), expected, "{message}");
        assert_eq!(found.message, format!("{text}{message}"));
    }
    let attempt = |id: &str| {
        let note = format!(
            "failed to setup network for sandbox \"{}\": no such network",
            id.repeat(64)
        );
        let refused = PodView {
            refused: Some(said("FailedCreatePodSandBox", &note)),
            ..pod()
        };
        find(&wanted(), None, &[refused], now())
    };
    assert_eq!(attempt("a"), attempt("b"), "every attempt is told as another trouble");
}

#[test]
fn what_a_person_has_to_mend_is_named_before_what_may_pass() {
    let unplaced = PodView {
        unschedulable: Some(said("Unschedulable", "0/1 nodes are available")),
        node: None,
        ..pod()
    };
    let crashing = PodView {
        waiting: Some(said("CrashLoopBackOff", "back-off")),
        ..pod()
    };
    let refused = PodView {
        refused: Some(said("FailedCreatePodSandBox", "no runtime for \"x\" is configured")),
        ..pod()
    };
    let found = |pods: &[PodView]| in_short(find(&wanted(), None, pods, now()));
    let both = [crashing, unplaced];
    assert_eq!(found(&both), Some(("Unschedulable", false)));
    let [crashing, unplaced] = both;
    assert_eq!(
        found(&[crashing, unplaced, refused]),
        Some(("RuntimeHandlerMissing", true))
    );
}

#[test]
fn without_trouble_there_is_none_and_a_text_from_elsewhere_is_one_bounded_line() {
    assert_eq!(find(&wanted(), Some(&DeploymentView::default()), &[pod()], now()), None);
    let hostile = format!("line\nbreak\u{202e} {}", "x".repeat(5000));
    let deployment = DeploymentView {
        failure: Some(said("FailedCreate", &hostile)),
        ..DeploymentView::default()
    };
    let message = find(&wanted(), Some(&deployment), &[], now()).unwrap().message;
    assert!(
        message.is_ascii() && !message.contains('\n') && message.len() < 400,
        "{message}"
    );
}
