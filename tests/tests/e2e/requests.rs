//! Callers that are not let in, and requests that are not understood.

use screenshot_tests::{Forward, Namespace, capture, service, token, wait_ready};
use serde_json::json;

use crate::apply_in;

#[test]
fn callers_without_the_token_and_bad_requests_get_a_problem_that_names_the_field() {
    let namespace = Namespace::create("e2e-bad-input").unwrap();
    apply_in(&namespace.0, &service("shots", "{replicas: 1}"));
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
        (json!({"html_content": "x", "wndow_width": "wide"}), "wndow_width"),
        (json!({"html_content": "x", "window_width": "wide"}), "window_width"),
        (json!({"html_content": "x", "window_width": 1_000_000}), "window_width"),
    ] {
        let answer = capture(forward.port(), Some(&token), &request).unwrap();
        assert_eq!(answer.status, 400, "{}", answer.json());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.json()["field"], field, "{text}");
        assert!(text.contains(&format!("{field} ")), "{text}");
        assert!(!text.contains("wide") && !text.contains("1000000"), "{text}");
    }
}
