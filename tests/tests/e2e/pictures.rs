//! What a service is for.

use std::collections::{BTreeSet, HashSet};

use screenshot_tests::{Answer, Forward, Kind, Namespace, capture, get, service, token, wait_ready};
use serde_json::json;

use crate::{apply_in, demo, size};

/// Which strong colours there are below a line of the picture.
fn hues_below(answer: &Answer, line: u32) -> BTreeSet<&'static str> {
    let picture = image::load_from_memory(&answer.body).unwrap().to_rgb8();
    let below = picture.enumerate_pixels().filter(|(_, y, _)| *y >= line);
    let hue = |[red, green, blue]: [u8; 3]| match (red > 180, green > 150, blue < 90) {
        (true, false, true) if green < 90 => Some("red"),
        (true, true, true) => Some("yellow"),
        (false, true, true) => Some("green"),
        _ => None,
    };
    below.filter_map(|(_, _, pixel)| hue(pixel.0)).collect()
}

/// Two characters of each script, and of each font of the image: a font that is missing draws the same box for both.
#[test]
fn every_script_has_glyphs_and_no_character_is_the_box_of_a_missing_one() {
    let namespace = Namespace::create("e2e-glyphs").unwrap();
    apply_in(&namespace.0, &service("shots", "{replicas: 1}"));
    wait_ready(&namespace.0, "shots").unwrap();
    let token = token(&namespace.0, "shots").unwrap();
    let forward = Forward::open(&namespace.0, "service/shots", 80).unwrap();
    let drawn = |font: &str, character: char| {
        let html = format!("<!doctype html><meta charset=utf-8><body style=\"font: 60px {font}\">{character}");
        let request = json!({"html_content": html, "window_width": 120, "window_height": 120});
        let answer = capture(forward.port(), Some(&token), &request).unwrap();
        assert_eq!(size(&answer), (120, 120));
        answer.body
    };
    // Neither is assigned.
    let missing = drawn("sans-serif", '\u{378}');
    assert_eq!(missing, drawn("sans-serif", '\u{379}'));
    for (script, [one, other]) in [
        ("Latin", ['Ž', 'œ']),
        ("Chinese", ['每', '网']),
        ("Arabic", ['ك', 'ص']),
        ("Hebrew", ['א', 'ש']),
        ("Devanagari", ['ह', 'च']),
        ("Japanese", ['す', 'べ']),
        ("Korean", ['모', '든']),
        ("emoji", ['🦀', '🚀']),
    ] {
        let (one, other) = (drawn("sans-serif", one), drawn("sans-serif", other));
        assert!(
            one != other && one != missing && other != missing,
            "no glyphs for {script}"
        );
    }
    // The fonts that pages name most; a family that is not there would be drawn in the default.
    let fonts = [
        "no-such-font",
        "Liberation Sans",
        "Liberation Mono",
        "Noto Sans",
        "Noto Serif",
    ];
    let pictures: HashSet<Vec<u8>> = fonts.iter().map(|font| drawn(&format!("'{font}'"), 'R')).collect();
    assert_eq!(pictures.len(), fonts.len(), "one of {fonts:?} is drawn as another");
}

#[test]
fn a_service_takes_pictures_and_shows_what_it_refused() {
    let namespace = demo("e2e-pictures");
    let token = token(&namespace.0, "demo").unwrap();
    let forward = Forward::open(&namespace.0, "service/demo", 80).unwrap();
    let site = format!("http://demo-site.{}.svc.cluster.local:8080", namespace.0);
    let shoot = |request| capture(forward.port(), Some(&token), &request).unwrap();

    let scripts =
        shoot(json!({"url": format!("{site}/scripts"), "window_width": 1280, "window_height": 800, "full_page": true}));
    let (width, height) = size(&scripts);
    assert!(width == 1280 && height > 900, "{width}x{height}");
    // Below the first screen there is nothing but the emoji: no other part of that card has their colours.
    let hues = hues_below(&scripts, 800);
    assert!(hues.len() == 3, "emoji have no colours but {hues:?}");
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
        // The metadata service in decimal, octal, hexadecimal and mixed, and wrapped in IPv6 in more ways.
        ("http://2852039166/", "target_blocked"),
        ("http://0251.0376.0251.0376/", "target_blocked"),
        ("http://0xa9.0xfe.0xa9.0xfe/", "target_blocked"),
        ("http://0xa9.254.43518/", "target_blocked"),
        ("http://[::ffff:169.254.169.254]/", "target_blocked"),
        ("http://[::169.254.169.254]/", "target_blocked"),
        ("http://[2002:a9fe:a9fe::1]/", "target_blocked"),
        ("http://100.100.100.200/", "target_blocked"),
        ("https://kubernetes.default.svc/", "target_blocked"),
        (&userinfo, "invalid_field"),
        ("FILE:///etc/passwd", "invalid_field"),
        ("view-source:http://169.254.169.254/", "invalid_field"),
        ("chrome://version/", "invalid_field"),
        (" fIlE:///etc/passwd", "invalid_field"),
        ("data:text/html,x", "invalid_field"),
        ("jAvAsCrIpT:alert(1)", "invalid_field"),
    ] {
        let refused = shoot(json!({"url": url}));
        let told = refused.json()["type"].as_str().unwrap_or_default().to_owned();
        assert!(told.ends_with(&format!("/{kind}")), "{url}: {}", refused.json());
    }
    // Within a page, too: frames that would show a file of the container are as empty as those of one that is not there.
    let frames = |of: &str| {
        let html =
            format!("<iframe src='{of}'></iframe><object data='{of}'></object><embed src='{of}'><img src='{of}'>");
        let answer = shoot(json!({"html_content": html, "window_width": 1000, "window_height": 400}));
        assert_eq!(size(&answer), (1000, 400), "{of}");
        answer.body
    };
    let missing = |file: &str| {
        file.replace("etc/passwd", "no/such/file")
            .replace(r"etc\passwd", r"no\such\file")
    };
    let shown = frames(&format!("{site}/long"));
    for file in [
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "file://localhost/etc/passwd",
        "file:////etc/passwd",
        r"\\localhost\etc\passwd",
        "view-source:file:///etc/passwd",
        "filesystem:file:///etc/passwd",
    ] {
        let (there, not_there) = (frames(file), frames(&missing(file)));
        assert!(there == not_there, "{file}");
        assert!(there != shown, "frames show what they may have");
    }
    let policy = get(&namespace.0, Kind::ScreenshotService, "demo").unwrap()["status"]["policyDigest"].clone();
    assert_eq!(scripts.header("x-policy-digest"), policy.as_str().unwrap());
}
