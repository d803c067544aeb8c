//! The few browser events that decide about a capture, as minimal structs: only the fields that are used, so that a
//! newer Chromium never breaks decoding.
//!
//! In: a CDP method name and its raw parameters. Out: an [`Event`], nothing for events nobody waits for, or a [`Stray`].
//! An event that does not decode is as if it had not come; deadlines bound what that can cost, and a counter tells.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::strays::Stray;

/// Events that the domains in use are known to send, and that nobody waits for. Of the Network domain, which is on only
/// while bytes are counted, that is all others.
const IGNORED: &[&str] = &[
    "Inspector.detached",
    "Inspector.targetReloadedAfterCrash",
    "Inspector.workerScriptLoaded",
    "Page.backForwardCacheNotUsed",
    "Page.documentOpened",
    "Page.domContentEventFired",
    "Page.downloadProgress",
    "Page.downloadWillBegin",
    "Page.frameAttached",
    "Page.frameClearedScheduledNavigation",
    "Page.frameDetached",
    "Page.frameRequestedNavigation",
    "Page.frameResized",
    "Page.frameScheduledNavigation",
    "Page.frameStartedLoading",
    "Page.frameStartedNavigating",
    "Page.frameStoppedLoading",
    "Page.frameSubtreeWillBeDetached",
    "Page.javascriptDialogClosed",
    "Page.loadEventFired",
    "Page.navigatedWithinDocument",
    "Page.windowOpen",
    "Target.targetCrashed",
    "Target.targetDestroyed",
    "Target.targetInfoChanged",
];
const NETWORK: &str = "Network.";

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
        /// Where the document came from: the end of its redirects.
        url: String,
        /// Whether it could not be had, so that the browser shows a page of its own instead.
        failed: bool,
    },
    /// A piece of an answer's body, or a message of a WebSocket, was unpacked. Comes only when asked for.
    Unpacked {
        /// Its bytes after decompression.
        bytes: u64,
    },
    /// Something is asked for over HTTP or a WebSocket, be it in a tunnel or in the browser's own cache. Comes only when
    /// asked for.
    Requested,
    /// A frame of another site, or a worker, can be talked to on a session of its own. Comes only when asked for.
    Attached {
        /// The session.
        session: String,
    },
    /// Such a session has ended.
    Detached {
        /// The session.
        session: String,
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
    url: String,
    unreachable_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataReceived {
    data_length: u64,
}

#[derive(Deserialize)]
struct Requested<'a> {
    #[serde(borrow)]
    request: Asked<'a>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

/// A frame of a WebSocket, decompressed; of binary ones the payload is base64, a third more than it was. It is only counted,
/// where it stands.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    response: Payload<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    payload_data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_id: String,
}

/// Bytes of a JSON string without its quotes and escapes; either half of a surrogate pair counts as two. `None`: it is none.
fn string_bytes(json: &str) -> Option<u64> {
    let mut rest = json.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut bytes = rest.len();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let unit = rest.get(at + 2..at + 6).filter(|_| rest.get(at + 1) == Some(&b'u'));
        let unit = unit.and_then(|unit| u16::from_str_radix(std::str::from_utf8(unit).ok()?, 16).ok());
        let (written, meant) = match unit {
            None => (2, 1),
            Some(..0x80) => (6, 1),
            Some(0x80..0x800 | 0xd800..0xe000) => (6, 2),
            Some(_) => (6, 3),
        };
        bytes = bytes.saturating_sub(written - meant);
        rest = rest.get(at + written..).unwrap_or_default();
    }
    u64::try_from(bytes).ok()
}

fn parse<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<T, Stray> {
    let params = params.ok_or(Stray::DriftedEvent)?;
    serde_json::from_str(params.get()).map_err(|_| Stray::DriftedEvent)
}

impl Event {
    /// Whether it is about bytes, requests or about who else is to be counted, rather than about the page itself.
    pub const fn is_counted(&self) -> bool {
        matches!(
            self,
            Self::Unpacked { .. } | Self::Requested | Self::Attached { .. } | Self::Detached { .. }
        )
    }

    /// Decodes an event of a page's session; `None` for what nobody waits for.
    ///
    /// # Errors
    /// A [`Stray`] if the browser is not known to send this, or not in this form.
    pub fn decode(method: &str, params: Option<&RawValue>) -> Result<Option<Self>, Stray> {
        Ok(match method {
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
                    url,
                    unreachable_url,
                } = parse::<FrameNavigated>(params)?.frame;
                Some(Self::FrameNavigated {
                    frame: id,
                    loader: loader_id,
                    top: parent_id.is_none(),
                    failed: unreachable_url.is_some(),
                    url: unreachable_url.unwrap_or(url),
                })
            }
            "Network.dataReceived" => {
                let DataReceived { data_length: bytes } = parse(params)?;
                Some(Self::Unpacked { bytes })
            }
            "Network.requestWillBeSent" => {
                let Requested { request } = parse(params)?;
                // Not `data:` and `blob:`, which are parts of what is there.
                request.url.starts_with("http").then_some(Self::Requested)
            }
            "Network.webSocketCreated" => Some(Self::Requested),
            "Network.webSocketFrameReceived" => {
                let Message { response } = parse(params)?;
                let bytes = string_bytes(response.payload_data.get()).ok_or(Stray::DriftedEvent)?;
                Some(Self::Unpacked { bytes })
            }
            "Target.attachedToTarget" => {
                let Session { session_id: session } = parse(params)?;
                Some(Self::Attached { session })
            }
            "Target.detachedFromTarget" => {
                let Session { session_id: session } = parse(params)?;
                Some(Self::Detached { session })
            }
            "Page.javascriptDialogOpening" => Some(Self::DialogOpening),
            "Inspector.targetCrashed" => Some(Self::Crashed),
            known if known.starts_with(NETWORK) || IGNORED.contains(&known) => None,
            _ => return Err(Stray::UnknownEvent),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(method: &str, params: &str) -> Result<Option<Event>, Stray> {
        let raw = RawValue::from_string(params.to_owned()).unwrap();
        Event::decode(method, Some(&raw))
    }

    fn decode(method: &str, params: &str) -> Option<Event> {
        decoded(method, params).unwrap()
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
    fn a_document_that_could_not_be_had_is_told_with_its_own_address() {
        let navigated = |more: &str| {
            let url = if more.is_empty() {
                "http://a.example/"
            } else {
                "chrome-error://chromewebdata/"
            };
            decode(
                "Page.frameNavigated",
                &format!(r#"{{"type":"Navigation","frame":{{"id":"f","loaderId":"l","url":"{url}"{more}}}}}"#),
            )
        };
        let expected = |failed| {
            Some(Event::FrameNavigated {
                frame: "f".into(),
                loader: "l".into(),
                top: true,
                url: "http://a.example/".into(),
                failed,
            })
        };
        assert_eq!(navigated(""), expected(false));
        assert_eq!(navigated(r#","unreachableUrl":"http://a.example/""#), expected(true));
    }

    #[test]
    fn bytes_are_counted_as_they_are_after_decompression() {
        let data = r#"{"requestId":"r","timestamp":1,"dataLength":65536,"encodedDataLength":64}"#;
        assert_eq!(
            decode("Network.dataReceived", data),
            Some(Event::Unpacked { bytes: 65_536 })
        );
    }

    #[test]
    fn what_is_asked_of_the_network_is_a_request_and_what_is_in_the_page_is_none() {
        let asked = |url: &str| {
            decode(
                "Network.requestWillBeSent",
                &format!(r#"{{"requestId":"r","request":{{"url":"{url}","method":"GET"}}}}"#),
            )
        };
        assert_eq!(asked("https://a.example/\\u0041"), Some(Event::Requested));
        assert_eq!((asked("data:,x"), asked("blob:https://a.example/1")), (None, None));
        let socket = r#"{"requestId":"r","url":"wss://a.example/"}"#;
        assert_eq!(decode("Network.webSocketCreated", socket), Some(Event::Requested));
    }

    #[test]
    fn a_message_has_the_bytes_that_it_has_without_escapes() {
        for text in ["", "five!", "f\u{fc}nf", "\"\\\n\u{1}/", "\u{20ac}\u{1f600}", "\\u0041"] {
            let ascii = text
                .encode_utf16()
                .fold(String::new(), |all, unit| format!("{all}\\u{unit:04x}"));
            for written in [serde_json::to_string(text).unwrap(), format!("\"{ascii}\"")] {
                let message = format!(r#"{{"response":{{"opcode":1,"payloadData":{written}}}}}"#);
                let bytes = u64::try_from(text.len()).unwrap();
                assert_eq!(
                    decode("Network.webSocketFrameReceived", &message),
                    Some(Event::Unpacked { bytes }),
                    "{written}"
                );
            }
        }
        let drifted = decoded("Network.webSocketFrameReceived", r#"{"response":{"payloadData":7}}"#);
        assert_eq!(drifted, Err(Stray::DriftedEvent));
    }

    #[test]
    fn what_is_not_known_or_has_drifted_is_told_apart_from_what_nobody_waits_for() {
        let drifted = Err(Stray::DriftedEvent);
        assert_eq!(decoded("Page.lifecycleEvent", r#"{"frameId":7}"#), drifted);
        assert_eq!(Event::decode("Page.lifecycleEvent", None), drifted);
        assert_eq!(decoded("Page.loadEventFired", "{}"), Ok(None));
        assert_eq!(decoded("Network.loadingFinished", r#"{"requestId":7}"#), Ok(None));
        assert_eq!(decoded("Page.newInChromium200", "{}"), Err(Stray::UnknownEvent));
    }

    #[test]
    fn a_crash_and_a_dialog_need_no_parameters() {
        assert_eq!(Event::decode("Inspector.targetCrashed", None), Ok(Some(Event::Crashed)));
        assert_eq!(
            decode("Page.javascriptDialogOpening", r#"{"message":"secret"}"#),
            Some(Event::DialogOpening)
        );
    }
}
