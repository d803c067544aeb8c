//! Every format and every part of a page is what was asked for, to the pixel.

use screenshot_policy::policy::CaptureLimits;
use screenshot_policy::unit::Bytes;
use serde_json::{Value, json};

use crate::harness::{Answer, Running, limits};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];

/// A red page with a green box of 100 x 30 at (50, 620) and a blue foot.
const PAGE: &str = "<!doctype html><body style='margin:0;background:#f00;height:1400px'>\
    <div id=box style='position:absolute;left:50px;top:620px;width:100px;height:30px;background:#0f0'></div>\
    <div style='position:absolute;left:0;top:1300px;width:100%;height:100px;background:#00f'></div>";

async fn ask(server: &Running, html: &str, more: Value) -> Answer {
    let mut body = json!({"html_content": html, "window_width": 300, "window_height": 200});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.capture(body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_element_and_a_clip_are_cut_out_exactly_at_every_density() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    for density in [1.0, 1.5, 2.0, 3.0] {
        let image = ask(&server, PAGE, json!({"selector": "#box", "pixel_density": density}))
            .await
            .image();
        let (width, height) = image.dimensions();
        assert_eq!((f64::from(width), f64::from(height)), (100.0 * density, 30.0 * density));
        assert!(image.pixels().all(|pixel| pixel.0 == GREEN), "{density}");
        let clip = json!({"x": 40, "y": 610, "width": 20, "height": 20});
        let image = ask(&server, PAGE, json!({"clip": clip, "pixel_density": density}))
            .await
            .image();
        let (width, height) = image.dimensions();
        assert_eq!((f64::from(width), f64::from(height)), (20.0 * density, 20.0 * density));
        assert_eq!(
            (image.get_pixel(0, 0).0, image.get_pixel(width - 1, height - 1).0),
            (RED, GREEN)
        );
        let image = ask(&server, PAGE, json!({"pixel_density": density})).await.image();
        assert_eq!(
            (f64::from(image.width()), f64::from(image.height())),
            (300.0 * density, 200.0 * density)
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_element_that_is_not_there_and_a_selector_that_is_none_are_told_apart() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let end = async |selector: &str| ask(&server, PAGE, json!({"selector": selector})).await.problem();
    assert_eq!(end("#nothing").await, (422, "element_not_found".into()));
    assert_eq!(end("p[").await, (422, "selector_invalid".into()));
    let answer = ask(&server, PAGE, json!({"selector": "#nothing"})).await;
    assert_eq!(answer.json()["phase"], "settle");
    assert!(answer.header("server-timing").unwrap().contains("settle;dur="));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_element_beyond_what_was_reckoned_with_is_refused_and_a_window_of_its_size_shows_it() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let page = |height: u32| {
        format!("<body style='margin:0'><p style='margin:0;width:2000px;height:{height}px;background:#0f0'>")
    };
    let image = ask(&server, &page(2000), json!({"selector": "p"})).await.image();
    assert_eq!(image.dimensions(), (2000, 2000));
    let answer = ask(&server, &page(2001), json!({"selector": "p"})).await;
    assert_eq!(answer.problem(), (422, "element_too_large".into()));
    assert_eq!(answer.json()["phase"], "settle");
    assert!(answer.json()["detail"].as_str().unwrap().contains("a larger window"));
    let window = json!({"selector": "p", "window_width": 2000, "window_height": 2001});
    assert_eq!(
        ask(&server, &page(2001), window).await.image().dimensions(),
        (2000, 2001)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_picture_format_shows_the_same_page() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let fast = ask(&server, PAGE, json!({})).await;
    let small = ask(&server, PAGE, json!({"png_compression": "small"})).await;
    let lossless = ask(&server, PAGE, json!({"format": "webp", "lossless": true})).await;
    let lossy = ask(&server, PAGE, json!({"format": "webp", "quality": 90})).await;
    for (answer, kind) in [(&small, "image/png"), (&lossless, "image/webp"), (&lossy, "image/webp")] {
        assert_eq!(answer.header("content-type"), Some(kind));
        assert!(answer.header("server-timing").unwrap().contains("encode;dur="));
    }
    let pixels = fast.image();
    assert_eq!((small.image(), lossless.image()), (pixels.clone(), pixels.clone()));
    assert!(small.body.len() < fast.body.len());
    let image = lossy.image();
    assert_eq!(image.dimensions(), pixels.dimensions());
    let [red, green, blue] = image.get_pixel(150, 100).0;
    assert!(red > 230 && green < 30 && blue < 30, "{red} {green} {blue}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_print_has_the_pages_and_the_sheet_that_were_asked_for() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<style>div{break-after:page}</style><div>one</div><div>two</div><div>three</div>last";
    let print = async |more: Value| ask(&server, html, more).await;
    let answer = print(json!({"format": "pdf", "pdf_format": "A5"})).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/pdf"))
    );
    let text = |answer: &Answer| String::from_utf8_lossy(&answer.body).into_owned();
    let pages = |answer: &Answer| text(answer).matches("/Type /Page\n").count();
    assert!(answer.body.starts_with(b"%PDF-"));
    assert_eq!(pages(&answer), 4, "{}", text(&answer));
    let sheet = text(&answer);
    let sheet = sheet.split_once("/MediaBox [").unwrap().1.split(']').next().unwrap();
    let sides: Vec<f64> = sheet.split_whitespace().map(|side| side.parse().unwrap()).collect();
    // A5 in points.
    assert!(
        (sides[2] - 419.5).abs() < 1.5 && (sides[3] - 595.3).abs() < 1.5,
        "{sides:?}"
    );
    let some = print(json!({"format": "pdf", "pdf_page_ranges": "2-3"})).await;
    assert_eq!(pages(&some), 2);
    let none = print(json!({"format": "pdf", "pdf_page_ranges": "90"})).await;
    assert_eq!(none.problem(), (422, "nothing_to_print".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markup_is_the_document_after_its_scripts_and_is_not_run_as_ours() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<!doctype html><p id=a>before</p><script>document.getElementById('a').textContent='after'</script>";
    let answer = ask(&server, html, json!({"format": "html"})).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(
        text.starts_with("<!DOCTYPE html>") && text.contains("<p id=\"a\">after</p>"),
        "{text}"
    );
    assert!(answer.header("content-security-policy").unwrap().starts_with("sandbox"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_loads_only_when_seen_is_loaded_in_a_full_page() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let html = "<!doctype html><body style='margin:0;background:#f00'><div style='height:5000px'></div>\
        <div id=a style='height:100px'></div><script>new IntersectionObserver(seen=>{if(seen[0].isIntersecting)\
        document.getElementById('a').style.background='#00f'}).observe(document.getElementById('a'))</script>";
    let image = ask(&server, html, json!({"full_page": true})).await.image();
    assert_eq!(image.dimensions(), (300, 5100));
    assert_eq!((image.get_pixel(10, 4990).0, image.get_pixel(10, 5050).0), (RED, BLUE));
    server.stop().await;
}

/// More than any of the small pictures below has, and less than any of the large ones.
const MOST_BYTES: u64 = 30_000;
/// Noise, which no encoder makes less of without loss.
const NOISE: &str = "<body style='margin:0'><canvas id=a width=300 height=200 style='display:block'></canvas>\
    <script>const paint=a.getContext('2d'),noise=paint.createImageData(300,200);\
    noise.data.forEach((_,at)=>noise.data[at]=at%4===3?255:Math.random()*256);\
    paint.putImageData(noise,0,0)</script>";
/// A green pixel in every square of 4 x 4. A PNG says once what repeats itself, a lossy WebP says it for each square.
const DOTS: &str = "<body style='margin:0;background:#000'>\
    <canvas id=a width=300 height=200 style='display:block'></canvas>\
    <script>const paint=a.getContext('2d');paint.fillStyle='#0f0';\
    for(let y=1;y<200;y+=4)for(let x=1;x<300;x+=4)paint.fillRect(x,y,1,1)</script>";

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_the_policy_allows_are_refused_in_every_format() {
    let limits = CaptureLimits {
        max_output_bytes: Bytes::nearest(MOST_BYTES),
        ..limits(20_000)
    };
    let (server, _jailer) = Running::ready(limits).await;
    for format in ["png", "jpeg", "webp", "html", "pdf"] {
        let small = "<body style='background:#0f0'>";
        let answer = ask(&server, small, json!({"format": format})).await;
        assert_eq!(answer.status, 200, "{format}");
    }
    // What the browser makes of it is small: as WebP it is refused for what was made of that here.
    assert_eq!(ask(&server, DOTS, json!({"format": "png"})).await.status, 200);
    // Fewer bytes than there may be. Each is reckoned with the most that it can have on its way from the browser.
    let text = "x".repeat(20_000);
    for (more, html) in [
        (json!({"format": "png"}), NOISE),
        (json!({"format": "jpeg", "quality": 100}), NOISE),
        (json!({"format": "webp", "quality": 100}), DOTS),
        // The browser's own picture is bounded, too, before a smaller one is made of it.
        (json!({"format": "webp", "quality": 1}), NOISE),
        (json!({"format": "html"}), text.as_str()),
        (json!({"format": "pdf"}), NOISE),
    ] {
        let answer = ask(&server, html, more.clone()).await;
        assert_eq!(answer.status, 422, "{more}: {} bytes", answer.body.len());
        assert_eq!(answer.problem().1, "output_too_large", "{more}");
    }
    server.stop().await;
}
