use super::super::WireError;
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

struct Script(mpsc::UnboundedReceiver<Vec<u8>>);
struct Tape(mpsc::UnboundedSender<Vec<u8>>);

impl FrameSource for Script {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        Ok(self.0.recv().await)
    }
}
impl FrameSink for Tape {
    async fn send(&mut self, frame: Vec<u8>) -> Result<(), WireError> {
        self.0.send(frame).map_err(|_| WireError::Io)
    }
}

struct Peer {
    say: Option<mpsc::UnboundedSender<Vec<u8>>>,
    hear: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Peer {
    async fn heard(&mut self) -> Value {
        serde_json::from_slice(&self.hear.recv().await.unwrap()).unwrap()
    }
    fn say(&self, value: &Value) {
        self.say.as_ref().unwrap().send(value.to_string().into_bytes()).unwrap();
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
    peer.say.as_ref().unwrap().send(b"{oops".to_vec()).unwrap();
    client.gone().await;
    assert_eq!(client.inner.tables().closed, Some(DriverError::Frame));
}
