//! What a page unpacks and asks for is counted wherever it does, and has an end: on the wire it is next to nothing. So has
//! what its browser may say of it at once.

use std::io::Write as _;

use capture_server::server::Server;
use flate2::Compression;
use flate2::write::GzEncoder;
use screenshot_policy::policy::CaptureLimits;
use screenshot_policy::unit::{Bytes, Count};
use serde_json::json;

use crate::harness::{Jailer, Running, Site, get, limits};
use crate::web;

/// Asks forty times a second for what it has: the proxy sees the first of these.
const ASKS: &str = "setInterval(()=>fetch('/kept'),25)";
/// Takes every place among the open connections that there is, then goes elsewhere.
const HOLDS: &str =
    "let n=0;setInterval(()=>fetch('/never'+n++).catch(()=>{}),50);setTimeout(()=>location='/kept',600)";
/// Unpacks a mebibyte twenty times a second, and is never loaded.
const UNPACKS: &str = "setInterval(()=>fetch('/mebibyte'),50)";
/// Noise, which nobody can make smaller.
const NOISE: &str = "<body style='margin:0'><canvas id=c width=1280 height=720></canvas><script>\
    const x=c.getContext('2d'),d=x.createImageData(1280,720);\
    for(let i=0;i<d.data.length;i++)d.data[i]=i%4==3?255:Math.random()*256;x.putImageData(d,0,0)</script>";

fn html(body: &str) -> (String, Vec<u8>) {
    ("200 OK\r\ncontent-type: text/html".into(), body.into())
}

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    Some(match path {
        // Every one another: of the same the browser asks for one at a time.
        _ if path.starts_with("/never") => (String::new(), Vec::new()),
        "/mebibyte" => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
            let head = "200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip";
            (head.into(), gzip.finish().unwrap())
        }
        "/page" => html(&format!("<script>{UNPACKS}</script><img src=/never>")),
        "/kept" => ("200 OK\r\ncache-control: max-age=900".into(), b"x".into()),
        "/holds" => html(&format!("<script>{HOLDS}</script><img src=/never>")),
        "/asks" => html(&format!("<script>{ASKS}</script><img src=/never>")),
        "/frame" => html("<iframe src=http://other.net/page></iframe>"),
        "/nested" => html("<iframe src=http://third.net/frame></iframe>"),
        "/worker.js" => ("200 OK\r\ncontent-type: text/javascript".into(), UNPACKS.into()),
        "/worker" => html("<script>new Worker('/worker.js')</script><img src=/never>"),
        "/socket" => html("<script>new WebSocket('ws://'+location.host+'/messages')</script><img src=/never>"),
        "/messages" => (web::SOCKET.into(), web::message(1 << 20)),
        "/shared" => {
            html("<script>try{new SharedWorker('/worker.js')}catch{location='/page'}</script><img src=/never>")
        }
        "/lost" => ("404 Not Found\r\ncontent-type: text/html".into(), NOISE.into()),
        "/once" => html("<script>fetch('/mebibyte')</script><body style='margin:0;background:#0f0'>"),
        _ => return None,
    })
}

async fn server(decoded_mib: u64, deadline_ms: u64) -> (Running, Jailer) {
    bounded(CaptureLimits {
        max_decoded_bytes: Bytes::nearest(decoded_mib << 20),
        ..limits(deadline_ms)
    })
    .await
}

async fn bounded(limits: CaptureLimits) -> (Running, Jailer) {
    let site = Site::new(limits);
    let jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, web::network(answers).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    (server, jailer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_unpacks_more_than_its_budget_ends_wherever_it_does_it() {
    // Far from what it takes: the pages never end by themselves, and at their deadline they would be told otherwise.
    let (server, _jailer) = server(8, 30_000).await;
    // There is no shared worker; if there were, what it unpacks would have to count.
    for path in ["page", "frame", "nested", "worker", "socket", "shared"] {
        let answer = server.capture(json!({"url": format!("http://alive.net/{path}")})).await;
        assert_eq!(answer.problem(), (422, "budget_exceeded".into()), "{path}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("budget_decoded_bytes"), "{path}: {detail}");
    }
    let answer = server.capture(json!({"url": "http://alive.net/once"})).await;
    assert_eq!(answer.image().get_pixel(9, 9).0, [0, 255, 0]);
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(!metrics.contains("browser_messages_not_understood_total{"), "{metrics}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_the_proxy_does_not_see_have_an_end_too() {
    let (server, _jailer) = bounded(CaptureLimits {
        max_requests: Count::nearest(40),
        ..limits(30_000)
    })
    .await;
    let answer = server.capture(json!({"url": "http://alive.net/asks"})).await;
    assert_eq!(answer.problem(), (422, "budget_exceeded".into()));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("budget_requests"), "{detail}");
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    let refused = metrics
        .lines()
        .any(|line| line.contains("egress_decisions") && line.contains("budget_requests"));
    assert!(!refused, "the proxy had no reason to: {metrics}");
    server.stop().await;
}

/// More connections than a capture may have at a time end nothing but themselves: the document is told by its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_found_no_place_among_the_open_connections_is_told_so() {
    let limits = CaptureLimits {
        max_sockets: Count::nearest(2),
        ..limits(20_000)
    };
    let (server, _jailer) = bounded(limits).await;
    let answer = server.capture(json!({"url": "http://site.net/holds"})).await;
    assert_eq!(answer.problem(), (422, "budget_exceeded".into()));
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("budget_sockets"), "{detail}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_budget_the_same_pages_run_until_their_deadline() {
    let (server, _jailer) = server(1_000, 4_000).await;
    for path in ["page", "frame", "worker"] {
        let answer = server.capture(json!({"url": format!("http://alive.net/{path}")})).await;
        assert_eq!(answer.problem(), (504, "timeout".into()), "{path}");
    }
    server.stop().await;
}

/// The browser may say a mebibyte and a bit at once, and has three to say: the limit is met on the wire.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_beyond_what_the_wire_takes_is_too_large_and_costs_no_other_capture_in_its_browser() {
    let few = CaptureLimits {
        max_output_bytes: Bytes::nearest(64 << 10),
        ..limits(20_000)
    };
    let (server, _jailer) = bounded(few).await;
    // Both of one client and of a window each: they share a browser.
    let beside = "<body style='margin:0;background:#0f0'>\
                  <script>const end=performance.now()+2500;while(performance.now()<end);</script>";
    let (beside, noise) = tokio::join!(server.html(beside), server.capture(json!({"html_content": NOISE})));
    assert_eq!(noise.problem(), (422, "output_too_large".into()));
    assert_eq!(beside.image().get_pixel(9, 9).0, [0, 255, 0]);
    let clip = json!({"x": 0, "y": 0, "width": 1280, "height": 720});
    for body in [
        json!({"html_content": NOISE, "clip": clip}),
        json!({"html_content": NOISE, "format": "webp", "lossless": true}),
        json!({"html_content": NOISE, "format": "pdf"}),
    ] {
        let answer = server.capture(body).await;
        assert_eq!(answer.problem(), (422, "output_too_large".into()));
    }
    // What is wrong with the document comes first.
    let answer = server.capture(json!({"url": "http://alive.net/lost"})).await;
    assert_eq!(answer.problem(), (502, "http_status".into()));
    assert_eq!(server.html("<p>x").await.status, 200);
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(!metrics.contains("browser_messages_not_understood_total{"), "{metrics}");
    for incident in ["browser_gone", "crash", "driver", "page_crashed"] {
        assert!(!metrics.contains(&format!("reason=\"{incident}\"")), "{metrics}");
    }
    server.stop().await;
}
