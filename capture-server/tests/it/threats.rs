//! Those of the field's advisories that only a whole server can stand against, by their number in our list.
//!
//! T13, as far as pages without TLS go; `secure` and `known` have the rest. T17: callers that hang up at any moment.

mod known;
mod names;
mod scratch;
mod secure;
mod sockets;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capture_server::server::Server;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{Answer, Jailer, Running, Site, get, key, keyset, limits, until};
use crate::web;

const BLUE: [u8; 3] = [0, 0, 255];

static CACHED: AtomicUsize = AtomicUsize::new(0);

/// Finds whatever an earlier page left, in every place that a page without TLS can leave something in.
const FOUND: &str = "const found=async()=>[document.cookie,localStorage.length,sessionStorage.length,window.name,\
    (await indexedDB.databases()).length].filter(Boolean);";
const LEFT: &str = "document.cookie='a=1;max-age=9999';localStorage.a=1;sessionStorage.a=1;window.name='a';\
    await new Promise(done=>{const open=indexedDB.open('a');open.onsuccess=open.onerror=done});\
    await (await fetch('/cached')).text();";

/// Keeps the page from being at rest until it is done.
pub const HOLD: &str = "<img id=hold src=/never>";

fn page(script: &str) -> (String, Vec<u8>) {
    let html = format!(
        "<body style='margin:0;background:#fff'>{HOLD}<script>(async()=>{{{FOUND}{script}}})().finally(()=>hold.src='data:,')</script>"
    );
    ("200 OK\r\ncontent-type: text/html".into(), html.into())
}

/// A page that must find nothing, leaves something in every place and must then find all of it: blue. Red: something was
/// found that should not be; yellow: something was not that should be.
fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    let colour = "document.body.style.background";
    Some(match path {
        "/page" => page(&format!(
            "if((await found()).length){{{colour}='#f00';return}}{LEFT}{colour}=(await found()).length===5?'#00f':'#ff0'"
        )),
        "/cached" => {
            CACHED.fetch_add(1, Ordering::Relaxed);
            (
                "200 OK\r\ncontent-type: text/plain\r\ncache-control: max-age=9999".into(),
                b"x".into(),
            )
        }
        "/never" => (String::new(), Vec::new()),
        "/red" => colour_page("f00"),
        "/blue" => colour_page("00f"),
        _ => return None,
    })
}

fn colour_page(colour: &str) -> (String, Vec<u8>) {
    let html = format!("<body style='margin:0;background:#{colour}'>");
    ("200 OK\r\ncontent-type: text/html".into(), html.into())
}

async fn server() -> (Running, Jailer) {
    let site = Site::new(limits(10_000));
    site.write("keyset.json", &keyset(1, &[1, 2]));
    let jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, web::network(answers).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    (server, jailer)
}

pub fn body(url: &str) -> Value {
    json!({"url": url, "window_width": 200, "window_height": 100})
}

pub fn colour(answer: &Answer) -> [u8; 3] {
    answer.image().get_pixel(150, 80).0
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_nothing_that_a_page_leaves_is_found_by_the_next_capture_of_the_same_or_another_client() {
    let (server, _jailer) = server().await;
    for (at, client) in [1, 1, 2, 1, 2].into_iter().enumerate() {
        let answer = server
            .capture_as(key(client).0.text(), body("http://site.net/page"))
            .await;
        assert_eq!(colour(&answer), BLUE, "capture {at} of client {client}");
        let fetched = CACHED.load(Ordering::Relaxed);
        assert!(fetched > at, "capture {at} was served from the cache of an earlier one");
    }
    server.stop().await;
}

/// Sends a capture and hangs up after so long.
async fn hang_up(server: &Running, client: u8, url: &str, after: Duration) {
    let body = body(url).to_string();
    let head = format!(
        "POST /v1/capture HTTP/1.1\r\nhost: it\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        key(client).0.text(),
        body.len()
    );
    let mut stream = TcpStream::connect(server.api).await.unwrap();
    let whole = format!("{head}{body}");
    // Some hang up in the middle of what they say.
    let cut = if after.as_millis().is_multiple_of(5) {
        whole.len() / 2
    } else {
        whole.len()
    };
    stream.write_all(&whole.as_bytes()[..cut]).await.unwrap();
    tokio::time::sleep(after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t17_callers_that_hang_up_at_any_moment_leave_no_slot_taken_and_no_picture_with_another() {
    let (server, _jailer) = server().await;
    let mut chance = 17u64;
    for round in 0..12 {
        let mut wait = || {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            Duration::from_millis((chance >> 33) % 400)
        };
        let [red_page, blue_page] = ["http://a.net/red", "http://b.net/blue"];
        let hanging = [
            hang_up(&server, 1, red_page, wait()),
            hang_up(&server, 1, red_page, wait()),
            hang_up(&server, 2, blue_page, wait()),
            hang_up(&server, 2, blue_page, wait()),
        ];
        let [one, two, three, four] = hanging;
        let tokens = [key(1).0, key(2).0];
        let red = server.capture_as(tokens[0].text(), body(red_page));
        let blue = server.capture_as(tokens[1].text(), body(blue_page));
        let (red, blue, ..) = tokio::join!(red, blue, one, two, three, four);
        assert_eq!((colour(&red), colour(&blue)), ([255, 0, 0], BLUE), "round {round}");
    }
    until("every slot is free again", async || {
        let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
        metrics.lines().any(|line| line == "screenshot_server_slots_in_use 0")
    })
    .await;
    assert!(server.reasons().await.is_empty(), "{:?}", server.reasons().await);
    server.stop().await;
}
