//! The whole path on real parts. Run by `make test-e2e`, which brings cluster and operator up first.

// Helper functions of a test file are test code, too; clippy only knows the functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use screenshot_tests::{
    Answer, Forward, Namespace, apply, capture, condition, eventually, get, kubectl, token, wait_ready,
};
use serde_json::json;

/// What `make demo` applies: namespace, site, and the service `demo` with its named exception.
const DEMO: &str = include_str!("../../examples/demo.yaml");

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: screenshot-operator.io/v1alpha1\nkind: ScreenshotService\nmetadata:\n  name: {name}\nspec: {spec}\n"
    )
}

/// The demo in a namespace of its own.
fn demo(namespace: &str) -> Namespace {
    let created = Namespace::create(namespace).unwrap();
    apply(&DEMO.replace("shots-demo", namespace)).unwrap();
    wait_ready(namespace, "demo").unwrap();
    kubectl(&[
        "-n",
        namespace,
        "rollout",
        "status",
        "deployment/demo-site",
        "--timeout=60s",
    ])
    .unwrap();
    created
}

fn kubectl_apply(namespace: &str, manifest: &str) {
    screenshot_tests::kubectl_with(&["-n", namespace, "apply", "-f", "-"], manifest).unwrap();
}

fn size(answer: &Answer) -> (u32, u32) {
    assert_eq!(answer.status, 200, "{}", answer.json());
    let picture = image::load_from_memory(&answer.body).unwrap();
    (picture.width(), picture.height())
}

#[test]
fn a_service_takes_pictures_and_shows_what_it_refused() {
    let namespace = demo("e2e-pictures");
    let token = token(&namespace.0, "demo").unwrap();
    let forward = Forward::open(&namespace.0, "service/demo", 80).unwrap();
    let site = format!("http://demo-site.{}.svc.cluster.local:8080", namespace.0);
    let shoot = |request| capture(forward.port(), Some(&token), &request).unwrap();

    let scripts = shoot(json!({"url": format!("{site}/scripts"), "window_width": 1280, "window_height": 800}));
    assert_eq!(size(&scripts), (1280, 800));
    assert_eq!(scripts.header("content-type"), "image/png");

    let long =
        shoot(json!({"url": format!("{site}/long"), "window_width": 1000, "window_height": 700, "full_page": true}));
    let (width, height) = size(&long);
    assert!(width == 1000 && height > 1500, "{width}x{height}");

    let jpeg =
        shoot(json!({"html_content": "<h1>hello</h1>", "window_width": 640, "window_height": 480, "format": "jpeg"}));
    assert_eq!((size(&jpeg), jpeg.header("content-type")), ((640, 480), "image/jpeg"));

    let metadata = shoot(json!({"url": format!("{site}/metadata"), "window_width": 800, "window_height": 600}));
    assert_eq!(size(&metadata), (800, 600));
    assert!(
        metadata.header("x-capture-refusals").contains("metadata_address"),
        "{:?}",
        metadata.headers
    );

    let direct = shoot(json!({"url": "http://169.254.169.254/latest/meta-data/"}));
    assert_eq!(direct.status, 403, "{}", direct.json());
    let other_port = shoot(json!({"url": format!("http://demo-site.{}.svc.cluster.local:9090/", namespace.0)}));
    assert_eq!(other_port.status, 403, "{}", other_port.json());
    let policy = get(&namespace.0, "screenshotservice", "demo").unwrap()["status"]["policyDigest"].clone();
    assert_eq!(scripts.header("x-policy-digest"), policy.as_str().unwrap());
}

#[test]
fn callers_without_the_token_and_bad_requests_get_a_problem_that_names_the_field() {
    let namespace = Namespace::create("e2e-bad-input").unwrap();
    kubectl_apply(&namespace.0, &service("shots", "{}"));
    wait_ready(&namespace.0, "shots").unwrap();
    let token = token(&namespace.0, "shots").unwrap();
    let forward = Forward::open(&namespace.0, "service/shots", 80).unwrap();

    for wrong in [
        None,
        Some("password"),
        Some("sst_aaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_00000000"),
    ] {
        let answer = capture(forward.port(), wrong, &json!({"html_content": "x"})).unwrap();
        assert_eq!(
            (answer.status, answer.header("www-authenticate").starts_with("Bearer")),
            (401, true)
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    for (request, field) in [
        (json!({"html_content": "x", "wndow_width": 5}), "wndow_width"),
        (json!({"html_content": "x", "window_width": "wide"}), "window_width"),
        (json!({"html_content": "x", "window_width": 1_000_000}), "window_width"),
    ] {
        let answer = capture(forward.port(), Some(&token), &request).unwrap();
        assert_eq!(answer.status, 400, "{}", answer.json());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        // An unknown name is the caller's own text and is not repeated; a known one is named.
        assert_eq!(text.contains(field), field != "wndow_width", "{text}");
        assert!(!text.contains("wide") && !text.contains("1000000"), "{text}");
    }
}

#[test]
fn a_token_rotates_under_a_stream_of_captures_without_one_refusal() {
    let namespace = Namespace::create("e2e-rotation").unwrap();
    let spec = |nonce: &str| {
        format!("{{replicas: 1, auth: {{rotation: {{periodDays: 30, overlapHours: 0, nonce: \"{nonce}\"}}}}}}")
    };
    kubectl_apply(&namespace.0, &service("shots", &spec("one")));
    wait_ready(&namespace.0, "shots").unwrap();
    let forward = Forward::open(&namespace.0, "service/shots", 80).unwrap();
    let first = token(&namespace.0, "shots").unwrap();
    let shoot = |token: &str| {
        capture(forward.port(), Some(token), &json!({"html_content": "<p>x"}))
            .unwrap()
            .status
    };
    assert_eq!(shoot(&first), 200);

    kubectl_apply(&namespace.0, &service("shots", &spec("two")));
    let start = Instant::now();
    let (mut captures, mut second) = (0, first.clone());
    while start.elapsed() < Duration::from_secs(90) && (second == first || captures < 5) {
        second = token(&namespace.0, "shots").unwrap();
        assert_eq!(
            shoot(&second),
            200,
            "a client that reads its Secret was refused after {captures} captures"
        );
        captures += 1;
    }
    assert_ne!(second, first, "no new token within 90 s");
    eventually("the retired token is refused", Duration::from_secs(60), || {
        (shoot(&first) == 401).then_some(())
    })
    .unwrap();
    assert_eq!(shoot(&second), 200);
    wait_ready(&namespace.0, "shots").unwrap();
    let status = get(&namespace.0, "screenshotservice", "shots").unwrap()["status"].to_string();
    for secret in [&first, &second] {
        assert!(!status.contains(secret.as_str()), "a token stands in the status");
    }
}

#[test]
fn every_child_that_is_deleted_comes_back_and_nothing_stays_when_the_service_goes() {
    let namespace = Namespace::create("e2e-children").unwrap();
    kubectl_apply(&namespace.0, &service("shots", "{replicas: 1}"));
    wait_ready(&namespace.0, "shots").unwrap();
    let kinds = "serviceaccount,networkpolicy,configmap,secret,service,poddisruptionbudget,deployment";
    let selector = "app.kubernetes.io/instance=shots,app.kubernetes.io/managed-by=screenshot-operator";
    let list = || kubectl(&["-n", &namespace.0, "get", kinds, "-l", selector, "-o", "name"]).unwrap_or_default();
    let children: Vec<String> = list().lines().map(str::to_owned).collect();
    assert!(children.len() >= 11, "{children:?}");
    for child in &children {
        kubectl(&["-n", &namespace.0, "delete", child, "--wait=false"]).unwrap();
        let back = || {
            let text = kubectl(&[
                "-n",
                &namespace.0,
                "get",
                child,
                "-o",
                "jsonpath={.metadata.deletionTimestamp}",
            ])
            .ok()?;
            text.is_empty().then_some(())
        };
        let start = Instant::now();
        eventually(child, Duration::from_secs(10), back).unwrap();
        println!("{child} came back after {:?}", start.elapsed());
    }
    wait_ready(&namespace.0, "shots").unwrap();
    kubectl(&["-n", &namespace.0, "delete", "screenshotservice", "shots"]).unwrap();
    eventually("no child is left", Duration::from_secs(60), || {
        list().is_empty().then_some(())
    })
    .unwrap();
    let pods = || {
        kubectl(&["-n", &namespace.0, "get", "pods", "-o", "name"])
            .ok()?
            .is_empty()
            .then_some(())
    };
    eventually("no pod is left", Duration::from_secs(60), pods).unwrap();
}

#[test]
fn a_manifest_that_breaks_a_rule_is_refused_with_field_and_rule() {
    let namespace = Namespace::create("e2e-manifests").unwrap();
    let refused = |spec: &str| {
        screenshot_tests::kubectl_with(&["-n", &namespace.0, "apply", "-f", "-"], &service("shots", spec)).unwrap_err()
    };
    for (spec, words) in [
        ("{replicas: -1}", vec!["spec.replicas", "greater than or equal to 0"]),
        (
            "{auth: {rotation: {periodDays: 1, overlapHours: 48}}}",
            vec!["overlapHours"],
        ),
        ("{sandbox: {mode: Off}}", vec!["spec.sandbox.mode", "Required"]),
        (
            "{network: {egress: {exceptions: [{host: intra.example.org, ports: [80], reason: x, expires: \"2099-01-01T00:00:00Z\"}]}}}",
            vec!["cidr"],
        ),
        ("{replica: 2}", vec!["unknown field", "spec.replica"]),
    ] {
        let message = refused(spec);
        for word in words {
            assert!(message.contains(word), "{spec}: {message}");
        }
    }
}

#[test]
fn a_killed_browser_container_is_noticed_and_recovers_by_itself() {
    let namespace = Namespace::create("e2e-jailer").unwrap();
    kubectl_apply(&namespace.0, &service("shots", "{replicas: 1}"));
    wait_ready(&namespace.0, "shots").unwrap();
    let token = token(&namespace.0, "shots").unwrap();
    let pod = kubectl(&[
        "-n",
        &namespace.0,
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/instance=shots",
        "-o",
        "name",
    ])
    .unwrap();
    let pod = pod.trim();
    let restarts = |container: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].restartCount}}");
        kubectl(&["-n", &namespace.0, "get", pod, "-o", &path]).unwrap()
    };
    let forward = Forward::open(&namespace.0, pod, 8080).unwrap();
    let shoot = || {
        capture(forward.port(), Some(&token), &json!({"html_content": "<p>x"}))
            .unwrap()
            .status
    };
    assert_eq!(shoot(), 200);
    let _ = kubectl(&[
        "-n",
        &namespace.0,
        "exec",
        pod,
        "-c",
        "browser",
        "--",
        "/usr/local/bin/capture-jail",
        "stop",
    ]);
    eventually("the browser container restarts", Duration::from_secs(60), || {
        (restarts("browser") == "1").then_some(())
    })
    .unwrap();
    eventually("captures work again", Duration::from_secs(60), || {
        (shoot() == 200).then_some(())
    })
    .unwrap();
    assert_eq!(restarts("server"), "0", "the API must outlive its browsers");
}

/// Runs a pod that dials and ends; gives its phase and its log.
fn dial(namespace: &str, name: &str, labels: &str, arguments: &str) -> (String, String) {
    let pod = include_str!("probe.yaml")
        .replace("NAME", name)
        .replace("LABELS", labels)
        .replace("ARGUMENTS", arguments);
    kubectl_apply(namespace, &pod);
    let ended = || {
        let phase = kubectl(&["-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}"]).ok()?;
        matches!(phase.as_str(), "Succeeded" | "Failed").then_some(phase)
    };
    let phase = eventually("the dialling pod ends", Duration::from_secs(60), ended).unwrap();
    (phase, kubectl(&["-n", namespace, "logs", name]).unwrap())
}

#[test]
fn a_pod_with_the_same_labels_but_without_the_proxy_reaches_nothing_inside() {
    let namespace = demo("e2e-network");
    let labels = get(&namespace.0, "deployment", "demo").unwrap()["spec"]["template"]["metadata"]["labels"].to_string();
    // The addresses all lie in the test cluster's own namespaces: the metadata service, a private host, the API server
    // by node and by Service address, the kubelet. DNS comes first: what is open proves that the rules are loaded.
    let closed = [
        "169.254.169.254:80",
        "192.168.50.10:80",
        "10.77.0.10:6443",
        "10.96.0.1:443",
        "10.77.0.10:10250",
    ];
    let refused: Vec<String> = closed.iter().map(|target| format!("\"-{target}\"")).collect();
    let (phase, log) = dial(
        &namespace.0,
        "probe",
        &labels,
        &format!("check, \"+10.96.0.10:53\", {}", refused.join(", ")),
    );
    assert_eq!(phase, "Succeeded", "{log}");
    // The control: the same pod without the labels reaches the same addresses, so the refusals are the policy's.
    let opened: Vec<String> = closed.iter().map(|target| format!("\"+{target}\"")).collect();
    let (phase, log) = dial(
        &namespace.0,
        "control",
        r#"{"app": "control"}"#,
        &format!("check, {}", opened.join(", ")),
    );
    assert_eq!(phase, "Succeeded", "{log}");
}

#[test]
fn an_empty_spec_runs_and_every_condition_is_true() {
    let namespace = Namespace::create("e2e-conditions").unwrap();
    kubectl_apply(&namespace.0, &service("shots", "{}"));
    wait_ready(&namespace.0, "shots").unwrap();
    for kind in [
        "Ready",
        "Available",
        "PolicyInForce",
        "CredentialsReady",
        "SandboxVerified",
    ] {
        assert_eq!(
            condition(&namespace.0, "shots", kind).map(|c| c.0).as_deref(),
            Some("True"),
            "{kind}"
        );
    }
    for absent in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&namespace.0, "shots", absent), None, "{absent}");
    }
}
