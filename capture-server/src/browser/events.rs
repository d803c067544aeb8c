//! The few browser events that decide about a capture, as minimal structs: only the fields that are used, so that a
//! newer Chromium never breaks decoding.
//!
//! In: a CDP method name and its raw parameters. Out: an [`Event`], or nothing for events nobody waits for.
//! Must not: fail. An event that does not decode is as if it had not come; deadlines bound what that can cost.

use serde::Deserialize;
use serde_json::value::RawValue;

/// An event of one page (or, for crashes, of the browser about one page).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A document of a frame reached a stage of its life.
    Lifecycle {
        /// The frame.
        frame: String,
        /// The document's loader.
        loader: String,
        /// `init`, `DOMContentLoaded`, `load`, …
        name: String,
    },
    /// A frame committed a document.
    FrameNavigated {
        /// The frame.
        frame: String,
        /// The document's loader.
        loader: String,
        /// Whether it is the page's top frame.
        top: bool,
    },
    /// A document is asked for; one event per redirect hop.
    DocumentRequested {
        /// The frame that will show it.
        frame: String,
        /// Equal to the loader's id for a document.
        request: String,
        /// Where it is asked for.
        url: String,
    },
    /// The head of a document's answer arrived.
    DocumentAnswered {
        /// The frame that will show it.
        frame: String,
        /// Where it came from.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// A dialog holds the page up.
    DialogOpening,
    /// The page's process is gone. Final: nothing on this page answers afterwards.
    Crashed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    frame_id: String,
    loader_id: String,
    name: String,
}

#[derive(Deserialize)]
struct FrameNavigated {
    frame: Frame,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    id: String,
    loader_id: String,
    parent_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WillBeSent {
    request_id: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    frame_id: Option<String>,
    request: Located,
}

#[derive(Deserialize)]
struct Located {
    url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    #[serde(rename = "type")]
    kind: Option<String>,
    frame_id: Option<String>,
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    url: String,
    status: i64,
}

fn parse<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(params?.get()).ok()
}

impl Event {
    /// Decodes an event of a page's session; `None` for what nobody waits for.
    pub fn decode(method: &str, params: Option<&RawValue>) -> Option<Self> {
        match method {
            "Page.lifecycleEvent" => {
                let Lifecycle {
                    frame_id,
                    loader_id,
                    name,
                } = parse(params)?;
                Some(Self::Lifecycle {
                    frame: frame_id,
                    loader: loader_id,
                    name,
                })
            }
            "Page.frameNavigated" => {
                let Frame {
                    id,
                    loader_id,
                    parent_id,
                } = parse::<FrameNavigated>(params)?.frame;
                Some(Self::FrameNavigated {
                    frame: id,
                    loader: loader_id,
                    top: parent_id.is_none(),
                })
            }
            "Network.requestWillBeSent" => {
                let sent: WillBeSent = parse(params)?;
                let document = sent.kind.as_deref() == Some("Document");
                let frame = sent.frame_id.filter(|_| document)?;
                Some(Self::DocumentRequested {
                    frame,
                    request: sent.request_id,
                    url: sent.request.url,
                })
            }
            "Network.responseReceived" => {
                let got: Received = parse(params)?;
                let document = got.kind.as_deref() == Some("Document");
                let frame = got.frame_id.filter(|_| document)?;
                let status = u16::try_from(got.response.status).unwrap_or(0);
                Some(Self::DocumentAnswered {
                    frame,
                    url: got.response.url,
                    status,
                })
            }
            "Page.javascriptDialogOpening" => Some(Self::DialogOpening),
            "Inspector.targetCrashed" => Some(Self::Crashed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(method: &str, params: &str) -> Option<Event> {
        let raw = RawValue::from_string(params.to_owned()).unwrap();
        Event::decode(method, Some(&raw))
    }

    #[test]
    fn unknown_fields_of_a_newer_browser_do_not_break_decoding() {
        let event = decode(
            "Page.lifecycleEvent",
            r#"{"frameId":"f","loaderId":"l","name":"load","timestamp":1,"new":{}}"#,
        );
        assert_eq!(
            event,
            Some(Event::Lifecycle {
                frame: "f".into(),
                loader: "l".into(),
                name: "load".into()
            })
        );
    }

    #[test]
    fn only_documents_are_told_of_the_network() {
        let image = r#"{"type":"Image","frameId":"f","response":{"url":"http://x/","status":404}}"#;
        assert_eq!(decode("Network.responseReceived", image), None);
        let document = r#"{"type":"Document","frameId":"f","response":{"url":"http://x/","status":404}}"#;
        let expected = Event::DocumentAnswered {
            frame: "f".into(),
            url: "http://x/".into(),
            status: 404,
        };
        assert_eq!(decode("Network.responseReceived", document), Some(expected));
    }

    #[test]
    fn a_malformed_event_is_as_if_it_had_not_come() {
        assert_eq!(decode("Page.lifecycleEvent", r#"{"frameId":7}"#), None);
        assert_eq!(Event::decode("Page.lifecycleEvent", None), None);
    }

    #[test]
    fn a_crash_and_a_dialog_need_no_parameters() {
        assert_eq!(Event::decode("Inspector.targetCrashed", None), Some(Event::Crashed));
        assert_eq!(
            decode("Page.javascriptDialogOpening", r#"{"message":"secret"}"#),
            Some(Event::DialogOpening)
        );
    }
}
