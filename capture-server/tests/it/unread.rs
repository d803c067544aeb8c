//! Answers that their caller does not read: they have a bound, which other callers do not feel.

use capture_server::server::Server;
use serde_json::json;

use crate::harness::{Jailer, Running, Site, key, keyset, limits, until};

/// What the answers of one client that are not read may take.
const PART: usize = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_what_it_asked_for_gets_no_more_of_it_and_another_client_does() {
    let site = Site::new(limits(8_000));
    site.write("keyset.json", &keyset(1, &[1, 2]));
    let _jailer = Jailer::start(&site);
    let server = Server::start(site.args()).await.unwrap();
    let app = server.app();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    assert_eq!(server.html("<p>before").await.status, 200);
    let service = app.service().unwrap();
    // What was read has left its room.
    until("the room", async || service.answers.at_once("it", PART).is_some()).await;

    let unread = service.answers.at_once("it", PART).unwrap();
    let (token, _) = key(2);
    let beside = json!({"html_content": "<p>beside", "window_width": 200, "window_height": 100});
    let (own, other) = tokio::join!(server.html("<p>own"), server.capture_as(token.text(), beside));
    assert_eq!(own.problem(), (504, "timeout".into()));
    assert_eq!(own.json()["phase"], "queue");
    assert_eq!(other.status, 200);
    drop(unread);
    assert_eq!(server.html("<p>after").await.status, 200);
    server.stop().await;
}
