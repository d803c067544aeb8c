//! How documents end, over a network: each failure is typed as what it is, wherever redirects and scripts led, and what
//! the browser shows in a document's place is never a picture.

use capture_server::server::Server;
use serde_json::json;

use crate::harness::{Jailer, Running, Site, get, limits, without_a_route_out};
use crate::web;

const GREEN: &str = "<body style='margin:0;background:#0f0'>";

fn page(body: &str) -> (String, Vec<u8>) {
    ("200 OK\r\ncontent-type: text/html".into(), body.into())
}

fn redirect(to: &str) -> (String, Vec<u8>) {
    redirect_by("302 Found", to)
}

fn redirect_by(status: &str, to: &str) -> (String, Vec<u8>) {
    (format!("{status}\r\nlocation: {to}"), Vec::new())
}

/// What no page may reach.
const METADATA: &str = "http://169.254.169.254/latest/";

/// Every way in which a document is exchanged for another one besides the plain redirect and `location=`.
fn leads_to_metadata(way: &str) -> Option<(String, Vec<u8>)> {
    Some(match way {
        "301" => redirect_by("301 Moved Permanently", METADATA),
        "303" => redirect_by("303 See Other", METADATA),
        "307" => redirect_by("307 Temporary Redirect", METADATA),
        "308" => redirect_by("308 Permanent Redirect", METADATA),
        "refresh" => page(&format!("<meta http-equiv=refresh content='0;url={METADATA}'>")),
        "refresh-header" => (
            format!("200 OK\r\ncontent-type: text/html\r\nrefresh: 0;url={METADATA}"),
            Vec::new(),
        ),
        "form" => page(&format!(
            "<form id=f method=post action={METADATA}><input name=a value=b></form><script>f.submit()</script>"
        )),
        "form-307" => page("<form id=f method=post action=/by-307></form><script>f.submit()</script>"),
        "replace" => page(&format!("<script>location.replace('{METADATA}')</script>")),
        "click" => page(&format!("<a id=a href={METADATA}></a><script>a.click()</script>")),
        _ => return None,
    })
}

fn script(to: &str) -> (String, Vec<u8>) {
    page(&format!(
        "<body style='background:#f00'><script>location='{to}'</script>"
    ))
}

/// A page that says of itself that all is well.
const LIAR: &str = "<script>performance.getEntriesByType=()=>[{responseStatus:200}];\
    Object.defineProperty(PerformanceNavigationTiming.prototype,'responseStatus',{get:()=>200});\
    Array.prototype[Symbol.iterator]=function*(){yield {responseStatus:200}}</script>";

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    Some(match path {
        "/green" => page(GREEN),
        "/404" => ("404 Not Found\r\ncontent-type: text/html".into(), GREEN.into()),
        "/500-empty" => ("500 Internal Server Error".into(), Vec::new()),
        "/503-text" => ("503 Busy\r\ncontent-type: text/plain".into(), b"busy".into()),
        "/501-liar" => (
            "501 No\r\ncontent-type: text/html".into(),
            format!("{GREEN}{LIAR}").into_bytes(),
        ),
        "/403-sandboxed" => (
            "403 No\r\ncontent-type: text/html\r\ncontent-security-policy: sandbox; default-src 'none'".into(),
            GREEN.into(),
        ),
        "/404-unfinished" => (
            "404 Not Found\r\ncontent-type: text/html".into(),
            b"<img src=/never>".into(),
        ),
        "/unfinished" => page("<img src=/never>"),
        "/moves-to-unfinished" => (
            "503 Busy\r\ncontent-type: text/html".into(),
            b"<img src=/never><script>setTimeout(()=>location='/unfinished',1500)</script>".into(),
        ),
        "/never" => (String::new(), Vec::new()),
        "/204" => ("204 No Content".into(), Vec::new()),
        "/download" => (
            "200 OK\r\ncontent-type: application/octet-stream\r\ncontent-disposition: attachment".into(),
            b"x".into(),
        ),
        "/to-404" => redirect("http://other.net/404"),
        "/to-metadata" => redirect("http://169.254.169.254/latest/"),
        "/to-metadata-tls" => redirect("https://169.254.169.254/latest/"),
        "/to-gone" => redirect("http://gone.net/"),
        "/to-gone-tls" => redirect("https://gone.net/"),
        "/to-dead" => redirect("http://dead.net/"),
        "/to-no-tls" => redirect("https://alive.net/"),
        "/moves-to-green" => script("/green"),
        "/moves-to-404" => script("http://other.net/404"),
        "/moves-to-metadata" => script("http://169.254.169.254/latest/"),
        "/moves-to-metadata-tls" => script("https://169.254.169.254/latest/"),
        "/moves-to-gone-tls" => script("https://gone.net/"),
        "/moves-to-no-tls" => script("https://alive.net/"),
        _ => return leads_to_metadata(path.strip_prefix("/by-")?),
    })
}

/// Where the capture is sent, the problem's type, and what its detail names.
const ENDINGS: &[(&str, &str, &str)] = &[
    ("http://alive.net/404", "http_status", "404"),
    ("http://alive.net/500-empty", "http_status", "500"),
    ("http://alive.net/503-text", "http_status", "503"),
    ("http://alive.net/501-liar", "http_status", "501"),
    ("http://alive.net/403-sandboxed", "http_status", "403"),
    ("http://alive.net/204", "navigation_failed", ""),
    ("http://alive.net/download", "download", ""),
    ("http://alive.net/to-404", "http_status", "404"),
    ("http://alive.net/to-metadata", "target_blocked", "metadata_address"),
    ("http://alive.net/to-metadata-tls", "target_blocked", "metadata_address"),
    ("http://alive.net/to-gone", "dns_failed", ""),
    ("http://alive.net/to-gone-tls", "dns_failed", ""),
    ("http://alive.net/to-dead", "connect_failed", ""),
    ("http://alive.net/to-no-tls", "tls_failed", ""),
    ("http://gone.net/", "dns_failed", ""),
    ("https://gone.net/", "dns_failed", ""),
    ("http://dead.net/", "connect_failed", ""),
    ("https://dead.net/", "connect_failed", ""),
    ("https://alive.net/", "tls_failed", ""),
    ("http://alive.net/moves-to-404", "http_status", "404"),
    (
        "http://alive.net/moves-to-metadata",
        "target_blocked",
        "metadata_address",
    ),
    (
        "http://alive.net/moves-to-metadata-tls",
        "target_blocked",
        "metadata_address",
    ),
    ("http://alive.net/by-301", "target_blocked", "metadata_address"),
    ("http://alive.net/by-303", "target_blocked", "metadata_address"),
    ("http://alive.net/by-307", "target_blocked", "metadata_address"),
    ("http://alive.net/by-308", "target_blocked", "metadata_address"),
    ("http://alive.net/by-refresh", "target_blocked", "metadata_address"),
    (
        "http://alive.net/by-refresh-header",
        "target_blocked",
        "metadata_address",
    ),
    ("http://alive.net/by-form", "target_blocked", "metadata_address"),
    ("http://alive.net/by-form-307", "target_blocked", "metadata_address"),
    ("http://alive.net/by-replace", "target_blocked", "metadata_address"),
    ("http://alive.net/by-click", "target_blocked", "metadata_address"),
    ("http://alive.net/moves-to-gone-tls", "dns_failed", ""),
    ("http://alive.net/moves-to-no-tls", "navigation_failed", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_way_that_a_document_can_fail_has_its_own_name_wherever_it_was_led() {
    if !without_a_route_out("endings::every_way_that_a_document_can_fail_has_its_own_name_wherever_it_was_led") {
        return;
    }
    let site = Site::new(limits(10_000));
    let jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, web::network(answers).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    let mut wrong = Vec::new();
    for (url, problem, named) in ENDINGS {
        let answer = server.capture(json!({"url": url})).await;
        // A refresh begins when its document is loaded, which may be taken before it is left.
        if answer.status == 200 && url.contains("by-refresh") {
            continue;
        }
        let told = if answer.status == 200 {
            json!("a picture")
        } else {
            answer.json()
        };
        let kind = told["type"].as_str().and_then(|kind| kind.rsplit('/').next());
        if kind != Some(problem) || !told["detail"].as_str().unwrap_or_default().contains(named) {
            wrong.push(format!("{url}: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for url in ["http://alive.net/green", "http://alive.net/moves-to-green"] {
        let answer = server.capture(json!({"url": url})).await;
        assert_eq!(answer.image().get_pixel(9, 9).0, [0, 255, 0], "{url}");
    }
    // Of all that this browser said on the way, nothing was unknown: a newer one that speaks differently is red here.
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(!metrics.contains("browser_messages_not_understood_total{"), "{metrics}");
    drop(jailer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_never_has_all_of_its_parts_is_told_by_its_own_status() {
    let site = Site::new(limits(8_000));
    let _jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, web::network(answers).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    for (path, status, problem) in [
        ("404-unfinished", 502, "http_status"),
        ("unfinished", 504, "timeout"),
        // The status of a document that was left is not the next one's.
        ("moves-to-unfinished", 504, "timeout"),
    ] {
        let answer = server.capture(json!({"url": format!("http://alive.net/{path}")})).await;
        assert_eq!(answer.problem(), (status, problem.into()), "{path}: {}", answer.json());
    }
    server.stop().await;
}

/// What a document loads, each aimed at a private address of its own: by itself, or led there by a redirect.
const LOADED: &[&str] = &[
    "<link rel=preload as=image href=http://ADDRESS/>",
    "<link rel=stylesheet href=http://ADDRESS/>",
    "<iframe src=http://ADDRESS/></iframe>",
    "<iframe srcdoc=\"<meta http-equiv=refresh content='0;url=http://ADDRESS/'>\"></iframe>",
    "<iframe srcdoc=\"<form id=f method=post action=http://ADDRESS/></form><script>f.submit()</script>\"></iframe>",
    "<iframe src=http://alive.net/frame-301/ADDRESS></iframe>",
    "<img src=http://alive.net/frame-307/ADDRESS>",
    "<script src=http://alive.net/frame-308/ADDRESS></script>",
];

fn frames(path: &str) -> Option<(String, Vec<u8>)> {
    let (status, address) = path.strip_prefix("/frame-")?.split_once('/')?;
    Some(redirect_by(&format!("{status} Moved"), &format!("http://{address}/")))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_document_loads_is_refused_where_redirects_frames_and_forms_lead_it_and_listed() {
    let site = Site::new(limits(10_000));
    let _jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, web::network(frames).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    let html: String = LOADED
        .iter()
        .enumerate()
        .map(|(at, element)| element.replace("ADDRESS", &format!("10.7.7.{at}")))
        .collect();
    let answer = server.html(&html).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let listed = answer.header("x-capture-refusals").unwrap_or_default();
    for (at, element) in LOADED.iter().enumerate() {
        assert!(
            listed.contains(&format!("10.7.7.{at}:80;private_address")),
            "{element}: {listed}"
        );
    }
    // One more than are listed is counted all the same.
    let answer = server.html(&format!("{html}<img src=http://10.7.7.8/>")).await;
    assert_eq!(answer.header("x-capture-refused"), Some("9"), "{answer:?}");
    let listed = answer.header("x-capture-refusals").unwrap_or_default();
    assert_eq!(listed.split(", ").count(), 8, "{listed}");
    server.stop().await;
}
