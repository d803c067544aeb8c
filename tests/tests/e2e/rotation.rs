//! A rotation under load: verifier first, so that nobody who reads the Secret is ever refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use screenshot_tests::{
    AT_REST, Forward, Kind, Namespace, capture, condition, eventually, fetch, get, kubectl, list, operator_namespace,
    pods, service, token, wait_ready,
};
use serde_json::{Value, json};

use crate::apply_in;

fn spec(nonce: &str) -> String {
    format!("{{replicas: 2, auth: {{rotation: {{periodDays: 30, overlapHours: 0, nonce: \"{nonce}\"}}}}}}")
}

fn shoot(pod: &Forward, token: &str) -> u16 {
    capture(pod.port(), Some(token), &json!({"html_content": "<p>x"}))
        .unwrap()
        .status
}

/// A client of one pod: reads the Secret and captures, again and again. Gives each token that it used and how often, and
/// says in `accepted` with how many it was served so far.
fn client(namespace: &str, pod: &Forward, stop: &AtomicBool, accepted: &AtomicUsize) -> Vec<(String, usize)> {
    let mut used: Vec<(String, usize)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let token = token(namespace, "shots").unwrap();
        let status = shoot(pod, &token);
        match used.last_mut() {
            Some((last, count)) if *last == token => *count += 1,
            _ => used.push((token, 1)),
        }
        let counts: Vec<usize> = used.iter().map(|(_, count)| *count).collect();
        assert_eq!(
            status, 200,
            "a client that reads its Secret was refused; captures by token so far: {counts:?}"
        );
        accepted.store(used.len(), Ordering::Relaxed);
    }
    used
}

/// Everything that is said where a credential must not stand, with the words that it must at least have, lest nothing was
/// read. The label of the operator's pods is the chart's.
fn said(namespace: &str) -> Vec<(&'static str, String, &'static str)> {
    let log = |namespace: &str, selector: &str| {
        let everything = ["logs", "-l", selector, "--all-containers", "--tail=-1"];
        kubectl(&[&["-n", namespace], &everything[..]].concat()).unwrap()
    };
    let (operators, operator) = (operator_namespace(), "app.kubernetes.io/name=screenshot-operator");
    // Of each replica: only one leads, and says most. What `helm test` ran has ended.
    let metrics = |pod: &Value| {
        let forward = Forward::open(&operators, pod["metadata"]["name"].as_str().unwrap(), 9090).unwrap();
        String::from_utf8(fetch(forward.port(), "/metrics").unwrap().body).unwrap()
    };
    let of_operators: Vec<String> = list(&operators, Kind::Pod, operator)
        .unwrap()
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Running")
        .map(metrics)
        .collect();
    let service = get(namespace, Kind::ScreenshotService, "shots").unwrap();
    let pods = log(namespace, "app.kubernetes.io/name=screenshot-service");
    vec![
        ("status", service["status"].to_string(), "conditions"),
        ("logs of the pods", pods, "capture"),
        ("logs of the operator", log(&operators, operator), "screenshot_operator"),
        (
            "events",
            Value::from(list(namespace, Kind::Event, "").unwrap()).to_string(),
            "reason",
        ),
        ("metrics of the operator", of_operators.concat(), "screenshot_operator_"),
    ]
}

#[test]
fn a_token_rotates_under_streams_of_captures_on_two_replicas_without_one_refusal() {
    let namespace = Namespace::create("e2e-rotation").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", &spec("one")));
    wait_ready(name, "shots").unwrap();
    // To each pod directly: the Service would hide one that is behind.
    let pods: Vec<Forward> = pods(name, "shots")
        .unwrap()
        .iter()
        .map(|pod| Forward::open(name, pod["metadata"]["name"].as_str().unwrap(), 8080).unwrap())
        .collect();
    assert_eq!(pods.len(), 2);
    let first = token(name, "shots").unwrap();

    let stop = AtomicBool::new(false);
    let accepted = [const { AtomicUsize::new(0) }; 2];
    let streams: Vec<Vec<(String, usize)>> = thread::scope(|scope| {
        let stop = &stop;
        let clients: Vec<_> = pods
            .iter()
            .zip(&accepted)
            .map(|(pod, accepted)| scope.spawn(move || client(name, pod, stop, accepted)))
            .collect();
        // A client that was refused has ended; its own words say why.
        let failed = || clients.iter().any(thread::ScopedJoinHandle::is_finished);
        let served = |what, tokens| {
            let all = || accepted.iter().all(|used| used.load(Ordering::Relaxed) >= tokens);
            eventually(what, Duration::from_secs(30), || (failed() || all()).then_some(()))
        };
        // A rotation without overlap takes a second: the streams have to begin before it and to go on after it.
        let begun = served("both streams use the first token", 1);
        apply_in(name, &service("shots", &spec("two")));
        let retired = eventually(
            "the first token is refused by both pods",
            Duration::from_secs(90),
            || {
                let refused = |pod: &Forward| failed() || shoot(pod, &first) == 401;
                pods.iter().all(refused).then_some(())
            },
        );
        let spanned = served("both streams use the second token", 2);
        stop.store(true, Ordering::Relaxed);
        let streams = clients.into_iter().map(|client| client.join().unwrap()).collect();
        begun.and(retired).and(spanned).unwrap();
        streams
    });
    for used in &streams {
        let tokens: Vec<&String> = used.iter().map(|(token, _)| token).collect();
        assert!(
            tokens.len() == 2 && tokens[0] == &first,
            "the stream did not span the rotation"
        );
    }
    wait_ready(name, "shots").unwrap();
    // Of a token, `sst_<8 characters>_<43 characters>_<8 characters>`, the id may be told, the secret never.
    for (place, text, word) in said(name) {
        assert!(text.contains(word), "nothing was read of the {place}");
        for (token, _) in streams.iter().flatten() {
            assert_eq!(token.len(), 65);
            let secret = token.get(13..56).unwrap();
            assert!(!text.contains(secret), "a token stands in the {place}");
        }
    }
}

/// Whoever reads the Secret less often than once a rotation has the overlap for it.
#[test]
fn the_old_token_is_good_beside_the_new_one_while_the_overlap_lasts() {
    let namespace = Namespace::create("e2e-overlap").unwrap();
    let name = namespace.0.as_str();
    let spec = |nonce: &str| {
        service(
            "shots",
            &format!("{{replicas: 1, auth: {{rotation: {{overlapHours: 1, nonce: {nonce}}}}}}}"),
        )
    };
    let auth = || get(name, Kind::ScreenshotService, "shots").unwrap()["status"]["auth"].clone();
    apply_in(name, &spec("one"));
    wait_ready(name, "shots").unwrap();
    let (first, old_key) = (token(name, "shots").unwrap(), auth()["activeKeyId"].clone());
    assert_eq!(auth()["retiringKeyIds"].as_array().map_or(0, Vec::len), 0);
    apply_in(name, &spec("two"));
    let second = eventually("the Secret has another token", Duration::from_secs(60), || {
        token(name, "shots").ok().filter(|token| *token != first)
    })
    .unwrap();
    eventually("the old key is said to retire", Duration::from_secs(30), || {
        (auth()["retiringKeyIds"] == json!([old_key])).then_some(())
    })
    .unwrap();
    wait_ready(name, "shots").unwrap();
    let pod = pods(name, "shots").unwrap()[0]["metadata"]["name"].clone();
    let pod = Forward::open(name, pod.as_str().unwrap(), 8080).unwrap();
    assert_eq!((shoot(&pod, &second), shoot(&pod, &first)), (200, 200));
    assert_eq!(shoot(&pod, "sst_never_made"), 401);
}

/// The key with which operator and pods know each other. Had the operator used a key that a pod does not know yet, that
/// pod would not be attested.
#[test]
fn the_internal_key_is_replaced_without_a_moment_in_which_a_pod_is_not_attested() {
    let namespace = Namespace::create("e2e-internal-key").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", &format!("{{replicas: 2, {AT_REST}}}")));
    wait_ready(name, "shots").unwrap();
    let data = || get(name, Kind::Secret, "shots-internal").unwrap()["data"].clone();
    let first: Value = data();
    let aged = "screenshot-operator.io/issued-at=2020-01-01T00:00:00Z";
    kubectl(&["-n", name, "annotate", "secret", "shots-internal", aged, "--overwrite"]).unwrap();
    eventually("the key is another one", Duration::from_secs(90), || {
        let attested = condition(name, "shots", "PolicyInForce").unwrap();
        assert_eq!(attested.status, "True", "{}", attested.message);
        let now = data();
        (now["key"] != first["key"] && now.get("next").is_none()).then_some(())
    })
    .unwrap();
    // The pods go on to be attested with it, past the life of every earlier proof.
    thread::sleep(Duration::from_secs(50));
    let attested = condition(name, "shots", "PolicyInForce").unwrap();
    assert_eq!(attested.status, "True", "{}", attested.message);
}
