//! Pictures are what was asked for.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Running, get, limits};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[tokio::test(flavor = "multi_thread")]
async fn a_png_has_the_asked_size_and_the_pages_colours() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<body style='margin:0;background:#f00'>\
                <div style='position:absolute;left:50px;top:20px;width:100px;height:30px;background:#0f0'></div>";
    let answer = server
        .capture(json!({"html_content": html, "window_width": 320, "window_height": 240}))
        .await;
    assert_eq!(answer.header("content-type"), Some("image/png"));
    assert!(answer.header("x-policy-digest").unwrap().starts_with("sha256:"));
    assert_eq!(answer.header("x-capture-refused"), Some("0"));
    let image = answer.image();
    assert_eq!(image.dimensions(), (320, 240));
    assert_eq!((image.get_pixel(0, 0).0, image.get_pixel(319, 239).0), (RED, RED));
    assert_eq!((image.get_pixel(50, 20).0, image.get_pixel(149, 49).0), (GREEN, GREEN));
    assert_eq!((image.get_pixel(49, 20).0, image.get_pixel(150, 50).0), (RED, RED));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_picture_nor_a_problem_may_be_kept_or_taken_for_something_else() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    for (answer, status) in [
        (server.html("<p>x").await, 200),
        (server.capture(json!({"url": "file:///etc/passwd"})).await, 400),
        (get(server.api, "/nowhere", &[]).await, 404),
        (get(server.health, "/internal/attest", &[]).await, 401),
    ] {
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{status}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{status}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_page_has_the_documents_height_and_its_end() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<body style='margin:0'><div style='height:1000px;background:#f00'></div>\
                <div style='height:500px;background:#00f'></div>";
    let body = json!({"html_content": html, "window_width": 200, "window_height": 100, "full_page": true});
    let image = server.capture(body).await.image();
    assert_eq!(image.dimensions(), (200, 1500));
    assert_eq!((image.get_pixel(100, 999).0, image.get_pixel(100, 1499).0), (RED, BLUE));
    let tall = "<body style='margin:0'><div style='height:20000px'></div>";
    let body = json!({"html_content": tall, "window_width": 200, "window_height": 100, "full_page": true});
    assert_eq!(server.capture(body).await.problem(), (422, "page_too_large".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jpeg_is_one_and_its_quality_counts() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<body style='background:linear-gradient(45deg,red,blue,lime)'><h1>words to compress";
    let mut sizes = Vec::new();
    for quality in [5, 95] {
        let body = json!({"html_content": html, "format": "jpeg", "quality": quality, "window_width": 300, "window_height": 200});
        let answer = server.capture(body).await;
        assert_eq!(answer.header("content-type"), Some("image/jpeg"));
        assert!(answer.body.starts_with(b"\xff\xd8\xff"));
        assert_eq!(answer.image().dimensions(), (300, 200));
        sizes.push(answer.body.len());
    }
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialog_does_not_hold_the_capture_up() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let began = Instant::now();
    let html = "<body style='margin:0;background:#00f'><script>alert(1);confirm(2);prompt(3)</script>";
    assert_eq!(server.html(html).await.image().get_pixel(10, 10).0, BLUE);
    assert!(began.elapsed() < Duration::from_secs(10));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_script_is_a_timeout_and_the_next_capture_works() {
    let (server, _jailer) = Running::ready(limits(3_000)).await;
    let began = Instant::now();
    let answer = server.html("<body><script>while(true){}</script>").await;
    assert_eq!(answer.problem(), (504, "timeout".into()));
    let phase = answer.json()["phase"].as_str().unwrap().to_owned();
    assert!(["navigate", "load"].contains(&phase.as_str()), "{phase}");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(2_900) && took < Duration::from_millis(4_500),
        "{took:?}"
    );
    assert_eq!(
        server
            .html("<body style='background:#f00'>")
            .await
            .image()
            .get_pixel(0, 0)
            .0,
        RED
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_state_passes_from_one_capture_to_the_next() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<body style='margin:0;background:#0f0'><script>\
                if (document.cookie || localStorage.length) document.body.style.background = '#f00';\
                document.cookie = 'a=1'; localStorage.setItem('a', '1')</script>";
    for _ in 0..3 {
        assert_eq!(server.html(html).await.image().get_pixel(5, 5).0, GREEN);
    }
    server.stop().await;
}
