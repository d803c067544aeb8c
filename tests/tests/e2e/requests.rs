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
    // What would be a path, a header or a switch somewhere: a field that is none, or one that breaks its rule.
    for (request, kind, field) in [
        (
            json!({"html_content": "x", "filename": "../../etc/cron.d/x"}),
            "unknown_field",
            json!("filename"),
        ),
        (
            json!({"html_content": "x", "headers": {"x": "a\r\nSet-Cookie: b"}}),
            "unknown_field",
            json!("headers"),
        ),
        (
            json!({"html_content": "x", "--no-sandbox": ""}),
            "unknown_field",
            json!(null),
        ),
        (
            json!({"html_content": "x", "../../etc/cron.d/x": ""}),
            "unknown_field",
            json!(null),
        ),
        (
            json!({"html_content": "x", "timeout": 0}),
            "unknown_field",
            json!("timeout"),
        ),
        (json!({"url": "--no-sandbox"}), "invalid_field", json!("url")),
        (json!({"url": "/etc/cron.d/x"}), "invalid_field", json!("url")),
        (
            json!({"html_content": "x", "format": "png --no-sandbox"}),
            "invalid_field",
            json!("format"),
        ),
        (
            json!({"html_content": "x", "format": "png\r\nSet-Cookie: b"}),
            "invalid_field",
            json!("format"),
        ),
        (
            json!({"html_content": "x", "format": "../png"}),
            "invalid_field",
            json!("format"),
        ),
        (
            json!({"html_content": "x", "format": "pdf", "pdf_format": "--no-sandbox"}),
            "invalid_field",
            json!("pdf_format"),
        ),
        (
            json!({"html_content": "x", "format": "pdf", "pdf_page_ranges": "1 --no-sandbox"}),
            "invalid_field",
            json!("pdf_page_ranges"),
        ),
        (
            json!({"html_content": "x", "format": "pdf", "pdf_width": "1in;--no-sandbox", "pdf_height": "1in"}),
            "invalid_field",
            json!("pdf_width"),
        ),
    ] {
        let answer = capture(forward.port(), Some(&token), &request).unwrap();
        assert_eq!(answer.status, 400, "{request}: {}", answer.json());
        let told = answer.json()["type"].as_str().unwrap_or_default().to_owned();
        assert!(told.ends_with(&format!("/{kind}")), "{request}: {}", answer.json());
        assert_eq!(answer.json()["field"], field, "{request}");
        let all = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body)).to_lowercase();
        for word in ["no-sandbox", "cron", "set-cookie"] {
            assert!(!all.contains(word), "{request}: {all}");
        }
    }
    // Where any text may stand, it is text: the page's own and a style that matches nothing.
    let plain = json!({"html_content": "--no-sandbox\r\n../../etc", "selector": "body"});
    assert_eq!(capture(forward.port(), Some(&token), &plain).unwrap().status, 200);
}
