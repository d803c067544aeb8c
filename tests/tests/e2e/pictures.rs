//! What a service is for.

use screenshot_tests::{Forward, Kind, capture, get, token};
use serde_json::json;

use crate::{demo, size};

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

    // Both halves are in force, and what one of them does not see the other refuses.
    let other_port = format!("http://demo-site.{}.svc.cluster.local:9090/", namespace.0);
    let userinfo = format!("http://demo-site.{}.svc.cluster.local@169.254.169.254/", namespace.0);
    for (url, kind) in [
        ("http://169.254.169.254/latest/meta-data/", "target_blocked"),
        (&other_port, "target_blocked"),
        ("http://0x7f000001/", "target_blocked"),
        ("http://127.1:8081/", "target_blocked"),
        ("http://[::ffff:127.0.0.1]/", "target_blocked"),
        ("http://0/", "target_blocked"),
        ("http://localhost./", "target_blocked"),
        ("http://[64:ff9b::a9fe:a9fe]/", "target_blocked"),
        ("http://100.100.100.200/", "target_blocked"),
        ("https://kubernetes.default.svc/", "target_blocked"),
        (&userinfo, "invalid_field"),
        ("FILE:///etc/passwd", "invalid_field"),
        ("view-source:http://169.254.169.254/", "invalid_field"),
        ("chrome://version/", "invalid_field"),
    ] {
        let refused = shoot(json!({"url": url}));
        let told = refused.json()["type"].as_str().unwrap_or_default().to_owned();
        assert!(told.ends_with(&format!("/{kind}")), "{url}: {}", refused.json());
    }
    let policy = get(&namespace.0, Kind::ScreenshotService, "demo").unwrap()["status"]["policyDigest"].clone();
    assert_eq!(scripts.header("x-policy-digest"), policy.as_str().unwrap());
}
