//! T13, what only pages over TLS can leave behind: service workers, the Cache API, HSTS.

use super::{BLUE, HOLD, body, colour, colour_page};
use crate::certificates::started;
use crate::harness::{key, without_a_route_out};

const GREEN: [u8; 3] = [0, 255, 0];
/// The host's pages are to be asked for over TLS alone from now on.
const HSTS: &str = "200 OK\r\ncontent-type: text/html\r\nstrict-transport-security: max-age=9999";

/// A page that must find nothing, leaves a worker and a cache and must then find both: blue. Red: something was found that
/// should not be; yellow: something was not that should be; cyan: it could not be left.
const STATE: &str = "<script>(async()=>{const show=colour=>document.body.style.background=colour;\
    const found=async()=>[(await caches.keys()).length,(await navigator.serviceWorker.getRegistrations()).length].filter(Boolean);\
    try{if((await found()).length)return show('#f00');await (await caches.open('a')).put('/cached',new Response('x'));\
    await navigator.serviceWorker.register('/worker.js');await navigator.serviceWorker.ready;\
    show((await found()).length===2?'#00f':'#ff0')}catch{show('#0ff')}})().finally(()=>hold.src='data:,')</script>";

fn secure(path: &str) -> Option<(String, Vec<u8>)> {
    let page = |html: String| (HSTS.to_owned(), html.into_bytes());
    Some(match path {
        "/state" => page(format!("<body style='margin:0;background:#fff'>{HOLD}{STATE}")),
        "/worker.js" => (
            "200 OK\r\ncontent-type: text/javascript".into(),
            b"onfetch=()=>{}".into(),
        ),
        "/to-plain" => page("<script>location='http://good.net/plain'</script>".into()),
        "/plain" => colour_page("0f0"),
        "/never" => (String::new(), Vec::new()),
        _ => return None,
    })
}

fn plain(path: &str) -> Option<(String, Vec<u8>)> {
    (path == "/plain").then(|| colour_page("00f"))
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_no_worker_cache_or_strict_transport_of_a_page_is_there_for_the_next_capture() {
    if !without_a_route_out(
        "threats::secure::t13_no_worker_cache_or_strict_transport_of_a_page_is_there_for_the_next_capture",
    ) {
        return;
    }
    let (server, _jailer) = started(secure, plain).await;
    for (at, client) in [1, 1, 2, 1, 2].into_iter().enumerate() {
        let answer = server
            .capture_as(key(client).0.text(), body("https://good.net/state"))
            .await;
        assert_eq!(colour(&answer), BLUE, "capture {at} of client {client}");
    }
    // Within one capture the browser keeps to it: what is asked for without TLS comes over TLS.
    let kept = server.capture(body("https://good.net/to-plain")).await;
    assert_eq!(colour(&kept), GREEN);
    for client in [1, 2] {
        let answer = server
            .capture_as(key(client).0.text(), body("http://good.net/plain"))
            .await;
        assert_eq!(
            colour(&answer),
            BLUE,
            "client {client} met what an earlier page had asked for"
        );
    }
    server.stop().await;
}
