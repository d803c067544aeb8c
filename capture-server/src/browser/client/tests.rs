use super::*;
use serde_json::{Value, json};

#[derive(Serialize)]
struct One {}
#[derive(Serialize)]
struct Two {}
#[derive(Serialize)]
struct Text {}

impl Command for One {
    const METHOD: &'static str = "A.one";
    type Answer = Value;
}
impl Command for Two {
    const METHOD: &'static str = "B.two";
    type Answer = Value;
}
impl Command for Text {
    const METHOD: &'static str = "C.text";
    type Answer = String;
}

struct Script(mpsc::UnboundedReceiver<Frame>);
struct Tape(mpsc::UnboundedSender<Vec<u8>>);

impl FrameSource for Script {
    async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        Ok(self.0.recv().await)
    }
}
impl FrameSink for Tape {
    async fn send(&mut self, frame: Vec<u8>) -> Result<(), WireError> {
        self.0.send(frame).map_err(|_| WireError::Io)
    }
}

struct Peer {
    say: Option<mpsc::UnboundedSender<Frame>>,
    hear: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Peer {
    async fn heard(&mut self) -> Value {
        serde_json::from_slice(&self.hear.recv().await.unwrap()).unwrap()
    }
    fn say(&self, value: &Value) {
        self.send(Frame::Whole(value.to_string().into_bytes()));
    }
    /// Says so much that only the ends of it are heard.
    fn say_too_much(&self, head: &str, tail: &str) {
        let (head, tail) = (head.into(), tail.into());
        self.send(Frame::Oversized { head, tail });
    }
    fn send(&self, frame: Frame) {
        self.say.as_ref().unwrap().send(frame).unwrap();
    }
}

fn pair() -> (Client, Peer) {
    let (say, script) = mpsc::unbounded_channel();
    let (tape, hear) = mpsc::unbounded_channel();
    (
        Client::start(Script(script), Tape(tape), Strays::default()),
        Peer { say: Some(say), hear },
    )
}

#[tokio::test]
async fn answers_find_their_commands_in_any_order() {
    let (client, mut peer) = pair();
    let first = client.call(None, &One {});
    let second = client.call(Some("s"), &Two {});
    let browser = async {
        let (a, b) = (peer.heard().await, peer.heard().await);
        assert_eq!(
            (a["method"].as_str(), b["sessionId"].as_str()),
            (Some("A.one"), Some("s"))
        );
        peer.say(&json!({"id": b["id"], "result": {"n": 2}}));
        peer.say(&json!({"id": a["id"], "result": {"n": 1}}));
    };
    let (one, two, ()) = tokio::join!(first, second, browser);
    assert_eq!(
        (one.unwrap()["n"].as_i64(), two.unwrap()["n"].as_i64()),
        (Some(1), Some(2))
    );
}

#[tokio::test]
async fn a_refused_command_names_itself_and_not_the_browsers_text() {
    let (client, mut peer) = pair();
    let (got, ()) = tokio::join!(client.call(None, &One {}), async {
        let id = peer.heard().await["id"].clone();
        peer.say(&json!({"id": id, "error": {"code": -32000, "message": "page text"}}));
    });
    assert_eq!(
        got.unwrap_err(),
        DriverError::Rejected {
            method: "A.one",
            code: -32000
        }
    );
}

#[tokio::test]
async fn a_dead_pipe_fails_pending_and_later_commands_at_once() {
    let (client, mut peer) = pair();
    let (got, ()) = tokio::join!(client.call(None, &One {}), async {
        peer.heard().await;
        peer.say = None;
    });
    assert_eq!(got.unwrap_err(), DriverError::Closed);
    assert_eq!(client.call(None, &Two {}).await.unwrap_err(), DriverError::Closed);
    client.gone().await;
    assert!(!client.is_alive());
}

#[tokio::test]
async fn events_go_to_their_own_session_only() {
    let (client, peer) = pair();
    let (mut mine, mut other) = (client.subscribe("mine"), client.subscribe("other"));
    peer.say(&json!({"method": "Inspector.targetCrashed", "sessionId": "mine", "params": {}}));
    assert_eq!(mine.recv().await, Some(Event::Crashed));
    assert!(other.try_recv().is_err());
}

#[tokio::test]
async fn a_page_hears_what_is_counted_in_its_frames_and_nothing_else_of_them() {
    let (client, peer) = pair();
    let mut page = client.subscribe("page");
    assert!(client.join("frame", "page", 1));
    assert!(!client.join("second", "page", 1) && !client.join("frame", "nobody", 9));
    for session in ["frame", "second"] {
        peer.say(&json!({"method": "Inspector.targetCrashed", "sessionId": session, "params": {}}));
        peer.say(&json!({"method": "Network.dataReceived", "sessionId": session, "params": {"dataLength": 7}}));
    }
    peer.say(&json!({"method": "Inspector.targetCrashed", "sessionId": "page", "params": {}}));
    assert_eq!(page.recv().await, Some(Event::Unpacked { bytes: 7 }));
    assert_eq!(page.recv().await, Some(Event::Crashed));
    client.unsubscribe("page");
    assert!(client.inner.tables().sessions.is_empty());
    assert_eq!(page.recv().await, None);
}

#[tokio::test]
async fn a_page_that_floods_is_given_up_with_its_frames() {
    let (client, peer) = pair();
    let mut page = client.subscribe("page");
    assert!(client.join("frame", "page", 1));
    for _ in 0..=MAX_EVENTS {
        peer.say(&json!({"method": "Network.dataReceived", "sessionId": "frame", "params": {"dataLength": 7}}));
    }
    while !client.inner.tables().sessions.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut heard = 0;
    while page.recv().await.is_some() {
        heard += 1;
    }
    assert_eq!(heard, MAX_EVENTS);
}

#[tokio::test]
async fn what_is_not_understood_is_counted_by_kind_and_breaks_nothing() {
    let (client, mut peer) = pair();
    let _page = client.subscribe("page");
    for event in ["Page.newInChromium200", "Target.newInChromium200"] {
        peer.say(&json!({"method": event, "sessionId": "page", "params": {"url": "secret"}}));
        peer.say(&json!({"method": event, "params": {"url": "secret"}}));
    }
    peer.say(&json!({"method": "Page.frameNavigated", "sessionId": "page", "params": {"frame": 7}}));
    peer.say(&json!({"method": "Page.loadEventFired", "sessionId": "page", "params": {}}));
    peer.say(&json!({"id": 1_000_000, "result": {}}));
    peer.say(&json!({"what": "is this"}));
    let (got, ()) = tokio::join!(client.call(None, &Text {}), async {
        let id = peer.heard().await["id"].clone();
        peer.say(&json!({"id": id, "result": {"not": "text"}}));
    });
    assert_eq!(got.unwrap_err(), DriverError::Protocol { method: "C.text" });
    let strays = &client.inner.strays;
    let seen = [
        Stray::UnknownEvent,
        Stray::DriftedEvent,
        Stray::UnknownAnswer,
        Stray::DriftedAnswer,
    ];
    assert_eq!(seen.map(|stray| strays.seen(stray)), [4, 1, 2, 1]);
    assert!(client.is_alive());
}

#[tokio::test]
async fn a_command_given_up_leaves_nothing_behind() {
    let (client, _peer) = pair();
    let call = client.call(None, &One {});
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(20), call)
            .await
            .is_err()
    );
    assert!(client.inner.tables().pending.is_empty());
}

#[tokio::test]
async fn a_message_that_is_no_json_ends_the_browser() {
    let (client, peer) = pair();
    peer.send(Frame::Whole(b"{oops".to_vec()));
    client.gone().await;
    assert_eq!(client.inner.tables().closed, Some(DriverError::Frame));
}

#[tokio::test]
async fn a_message_that_is_too_long_and_neither_answer_nor_event_ends_the_browser() {
    for head in ["{oops", "{\"id\":x", "{\"id\":12", " {\"method\":\"A.b\""] {
        let (client, peer) = pair();
        peer.say_too_much(head, "oops");
        client.gone().await;
        assert_eq!(client.inner.tables().closed, Some(DriverError::Frame), "{head}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_fails_its_own_command_and_everything_else_goes_on() {
    let (client, mut peer) = pair();
    let mut page = client.subscribe("s");
    let (first, second) = (client.call(Some("s"), &One {}), client.call(Some("s"), &Two {}));
    let browser = async {
        let (a, b) = (peer.heard().await, peer.heard().await);
        for id in [a["id"].as_u64().unwrap(), 1_000_000] {
            let head = format!(r#"{{"id":{id},"result":{{"data":"AAAA"#);
            peer.say_too_much(&head, r#"AAAA"},"sessionId":"s"}"#);
        }
        peer.say(&json!({"id": b["id"], "result": {"n": 2}}));
        peer.say(&json!({"method": "Inspector.targetCrashed", "sessionId": "s", "params": {}}));
    };
    let (first, second, ()) = tokio::join!(first, second, browser);
    assert_eq!(first.unwrap_err(), DriverError::Oversized { method: "A.one" });
    assert_eq!(second.unwrap()["n"].as_i64(), Some(2));
    assert_eq!(page.recv().await, Some(Event::Crashed));
    let strays = &client.inner.strays;
    let seen = [Stray::UnknownAnswer, Stray::OversizedEvent];
    assert_eq!(seen.map(|stray| strays.seen(stray)), [1, 0]);
    assert!(client.is_alive() && client.inner.tables().pending.is_empty());
}

/// A message of a WebSocket, say, that would count against what the page may unpack.
#[tokio::test]
async fn an_event_that_is_too_long_is_counted_and_its_page_alone_is_given_up() {
    const HEAD: &str = r#"{"method":"Network.webSocketFrameReceived","params":{"response":{"payloadData":"AAAA"#;
    let (client, peer) = pair();
    let (mut page, mut other) = (client.subscribe("page"), client.subscribe("other"));
    assert!(client.join("frame", "page", 1));
    // The browser's own, one whose text is made to look like the end of the other page's, and a session of nobody's.
    for tail in [
        r#"AAAA"}}}"#,
        r#"\",\"sessionId\":\"other"}}}"#,
        r#"AAAA"}},"sessionId":"nobody"}"#,
    ] {
        peer.say_too_much(HEAD, tail);
    }
    peer.say(&json!({"method": "Inspector.targetCrashed", "sessionId": "page", "params": {}}));
    assert_eq!(page.recv().await, Some(Event::Crashed));
    peer.say_too_much(HEAD, r#"AAAA"}},"sessionId":"frame"}"#);
    assert_eq!(page.recv().await, None);
    peer.say(&json!({"method": "Inspector.targetCrashed", "sessionId": "other", "params": {}}));
    assert_eq!(other.recv().await, Some(Event::Crashed));
    assert_eq!(client.inner.strays.seen(Stray::OversizedEvent), 4);
    assert!(client.is_alive());
}

#[test]
fn a_session_is_read_where_the_browser_writes_it_and_nowhere_else() {
    let read = |tail: &str| trailing_session(tail.as_bytes()).map(str::to_owned);
    assert_eq!(read(r#"x"},"sessionId":"0A"}"#).as_deref(), Some("0A"));
    for tail in [
        "",
        "}",
        "\"}",
        r#""sessionId":"0A"}"#,
        r#"x",{"sessionId":"0A"}}"#,
        r#"\",\"sessionId\":\"0A"}"#,
    ] {
        assert_eq!(read(tail), None, "{tail}");
    }
}
