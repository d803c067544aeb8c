//! What the policy forbids is refused, typed, and listed.

use std::time::{Duration, Instant};

use screenshot_policy::policy::SandboxMode;
use serde_json::json;

use crate::harness::{Jailer, Running, Site, get, key, limits, policy_of, post, send, without_a_route_out};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_at_a_forbidden_address_is_a_typed_refusal_and_never_a_picture() {
    if !without_a_route_out("refusals::a_page_at_a_forbidden_address_is_a_typed_refusal_and_never_a_picture") {
        return;
    }
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://localhost/",
        "http://localhost./",
        "http://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "http://10.0.0.1/",
        // A browser's idea of a name, and not the proxy's.
        "http://a!b.net/",
    ] {
        let answer = server.capture(json!({"url": url})).await;
        assert_eq!(
            answer.problem(),
            (403, "target_blocked".into()),
            "{url}: {:?}",
            answer.json()
        );
        assert!(!answer.json()["detail"].as_str().unwrap().contains("meta-data"));
        let said = answer.header("proxy-status").unwrap();
        assert!(said.starts_with("capture-egress; error="), "{url}: {said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sub_resource_is_listed_and_the_picture_is_still_taken() {
    if !without_a_route_out("refusals::a_refused_sub_resource_is_listed_and_the_picture_is_still_taken") {
        return;
    }
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<body style='margin:0;background:#0f0'><img src='http://169.254.169.254/latest/x.png'>";
    let answer = server.html(html).await;
    assert_eq!(answer.image().get_pixel(150, 90).0, [0, 255, 0]);
    assert_eq!(
        answer.header("x-capture-refusals"),
        Some("169.254.169.254:80;metadata_address")
    );
    assert_eq!(answer.header("x-capture-refused"), Some("1"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_at_a_forbidden_address_does_not_show_there() {
    if !without_a_route_out("refusals::a_frame_at_a_forbidden_address_does_not_show_there") {
        return;
    }
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html =
        "<iframe src='http://127.0.0.1/'></iframe><script>fetch('http://[fd00:ec2::254]/').catch(()=>{})</script>";
    let answer = server.html(html).await;
    assert_eq!(answer.status, 200);
    let listed = answer.header("x-capture-refusals").unwrap();
    assert!(listed.contains("127.0.0.1:80;loopback_address"), "{listed}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_refused_with_its_field_and_reaches_no_browser() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let answer = server.capture(json!({"url": "file:///etc/passwd"})).await;
    assert_eq!(answer.problem(), (400, "invalid_field".into()));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["field"], "url");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    assert!(!problem.to_string().contains("passwd"));
    let unknown = server
        .capture(json!({"url": "http://a.example/", "wndow_width": "SECRET"}))
        .await;
    assert_eq!(unknown.problem(), (400, "unknown_field".into()));
    assert_eq!(unknown.json()["field"], "wndow_width");
    assert!(!unknown.json().to_string().contains("SECRET"));
    let big = json!({"html_content": "x".repeat(3_000_000)});
    assert_eq!(server.capture(big).await.problem(), (413, "body_too_large".into()));
    assert_eq!(
        get(server.api, "/v1/capture", &[]).await.problem(),
        (405, "method_not_allowed".into())
    );
    assert_eq!(
        get(server.api, "/nowhere", &[]).await.problem(),
        (404, "not_found".into())
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_nothing_is_told_and_the_body_is_not_read() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    for token in ["", "nonsense", key(7).0.text()] {
        let answer = post(server.api, token, "not json").await;
        assert_eq!(answer.problem(), (401, "unauthorized".into()));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_in_the_middle_is_waited_for_until_the_deadline_and_no_longer() {
    let (server, _jailer) = Running::ready(limits(1_000)).await;
    let authorization = format!("authorization: Bearer {}", key(1).0.text());
    let headers = [
        authorization.as_str(),
        "content-length: 100",
        "content-type: application/json",
    ];
    let began = Instant::now();
    // The connection stays open: the rest could still come.
    let answer = send(server.api, "POST /v1/capture", &headers, "{\"url\": \"h").await;
    let took = began.elapsed();
    assert_eq!(answer.problem(), (400, "body_incomplete".into()));
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(5),
        "{took:?}"
    );
    server.stop().await;
}

/// As on a node that allows no more user namespaces: this one has none below it.
const NO_NAMESPACES: &[&str] = &[
    "unshare",
    "-U",
    "--map-user=65532",
    "--map-group=65532",
    "--keep-caps",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"",
    "sh",
];

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sandbox_of_its_own_the_browser_has_the_proxy_still() {
    if !without_a_route_out("refusals::without_a_sandbox_of_its_own_the_browser_has_the_proxy_still") {
        return;
    }
    let site = Site::new(limits(20_000));
    let policy = policy_of(limits(20_000), |document| document.sandbox.mode = SandboxMode::Degraded);
    site.write("policy.json", &policy.canonical_json());
    // Root, as it is seen from inside of a user namespace without it.
    let _jailer = Jailer::under(NO_NAMESPACES, &site, &["--allow-peer-uid".into(), "65534".into()]);
    let args = site.args();
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(metrics.contains("screenshot_server_sandbox_verified 0"), "{metrics}");
    let answer = server.html("<img src=http://169.254.169.254/latest/x.png>").await;
    assert_eq!(answer.status, 200);
    let listed = answer.header("x-capture-refusals");
    assert_eq!(listed, Some("169.254.169.254:80;metadata_address"));
    for url in [
        "http://169.254.169.254/latest/",
        "http://127.0.0.1:81/",
        "http://[::1]/",
    ] {
        let answer = server.capture(json!({"url": url})).await;
        assert_eq!(answer.problem(), (403, "target_blocked".into()), "{url}");
    }
    server.stop().await;
}
