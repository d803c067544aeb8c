//! How long a user waits.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use screenshot_tests::{Forward, Namespace, capture, record, service, token, wait_ready};
use serde_json::json;

use crate::{apply_in, size};

const ROUNDS: usize = 3;
/// What somebody who tries it would still wait for; the figures say what it really is.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_service_is_ready_and_has_given_its_first_picture_within_a_minute() {
    let mut rounds: Vec<[Duration; 2]> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by_key(|[_, picture]| *picture);
    let mut text = String::from("From kubectl apply to Ready, and to the first PNG\n");
    for [ready, picture] in &rounds {
        let _ = writeln!(text, "  {:>6} ms  {:>6} ms", ready.as_millis(), picture.as_millis());
    }
    let [ready, picture] = rounds[ROUNDS / 2];
    let _ = writeln!(text, "  median {} ms, {} ms", ready.as_millis(), picture.as_millis());
    record("first-picture", &text).unwrap();
    assert!(picture < PATIENCE, "{text}");
}

fn round() -> [Duration; 2] {
    let namespace = Namespace::create("e2e-first-picture").unwrap();
    let start = Instant::now();
    apply_in(&namespace.0, &service("shots", "{replicas: 1}"));
    wait_ready(&namespace.0, "shots").unwrap();
    let ready = start.elapsed();
    let token = token(&namespace.0, "shots").unwrap();
    let forward = Forward::open(&namespace.0, "service/shots", 80).unwrap();
    let request = json!({"html_content": "<h1>first</h1>", "window_width": 800, "window_height": 600});
    assert_eq!(
        size(&capture(forward.port(), Some(&token), &request).unwrap()),
        (800, 600)
    );
    [ready, start.elapsed()]
}
