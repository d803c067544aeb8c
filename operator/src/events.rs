//! Events: one for each transition, none for what stays as it is.
//!
//! In: the status before and after a pass, the rotation steps taken. Out: events on the resource, texts without secrets.
//! An event that cannot be published is logged and forgotten: the status says the same.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use screenshot_api::ScreenshotServiceStatus;

use crate::apply::PutBack;
use crate::context::Context;
use crate::status::DEGRADED;

/// The condition about exceptions.
const LASTING: &str = "ExceptionsLasting";

/// What to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    warning: bool,
    reason: String,
    text: String,
    action: &'static str,
    /// The child and field that it is about: what is about another one is another event, not a repetition.
    about: Option<ObjectReference>,
    /// An object of its own, although there is one of that reason: counting up would keep the text of the earlier one.
    anew: bool,
}

/// What changed that a person may want to know.
pub fn notes(before: &ScreenshotServiceStatus, after: &ScreenshotServiceStatus, steps: &[&'static str]) -> Vec<Note> {
    let mut notes: Vec<Note> = steps.iter().filter_map(|step| rotation_note(step)).collect();
    for condition in &after.conditions {
        let old = before.conditions.iter().find(|old| old.type_ == condition.type_);
        if old.is_some_and(|old| same(old, condition)) {
            continue;
        }
        let (warning, told) = match condition.type_.as_str() {
            // A service that runs with less protection than it could have is as wanted, and still worth a warning.
            "Ready" => (condition.reason == DEGRADED, condition.status == "True"),
            "Stalled" => (true, true),
            // That it does not hold, and that it holds again.
            "EgressEnforced" | "AddressesChecked" => {
                let again = condition.status == "True" && old.is_some_and(|old| old.status == "False");
                (condition.status == "False", again || condition.status == "False")
            }
            // That an exception ends soon, and that it has ended.
            LASTING => (true, condition.status == "False"),
            _ => (false, false),
        };
        let repeated = notes.iter().any(|note| note.reason == condition.reason);
        if told && !repeated {
            notes.push(Note {
                warning,
                reason: condition.reason.clone(),
                text: condition.message.chars().take(900).collect(),
                action: "Reconcile",
                about: None,
                anew: condition.type_ == LASTING,
            });
        }
    }
    notes
}

/// Whether nothing changed that is told. Another message alone is no transition, but where it is about exceptions: it
/// changes when an end comes near or has come, several of which may follow each other, and with the spec.
fn same(old: &Condition, new: &Condition) -> bool {
    let said = new.type_ != LASTING || old.message == new.message;
    said && old.status == new.status && old.reason == new.reason
}

fn rotation_note(step: &str) -> Option<Note> {
    let (reason, text) = match step {
        "Establish" => ("KeysetEstablished", "wrote the keyset"),
        "Stage" => (
            "TokenStaged",
            "a new token is known to the capture pods; clients get it when all accept it",
        ),
        "WriteClient" => ("TokenPromoted", "wrote the token to the client Secret"),
        "Retire" => ("TokenRetired", "a replaced token no longer works"),
        "Abandon" => ("TokenAbandoned", "gave up a staged token whose pending Secret is gone"),
        _ => return None,
    };
    Some(Note {
        warning: false,
        reason: reason.into(),
        text: text.into(),
        action: "Rotate",
        about: None,
        anew: false,
    })
}

/// An edited child was put back: which fields, and whose hand it was. Never what was in them.
pub fn put_back(child: &PutBack) -> Note {
    let fields: Vec<String> = child
        .fields
        .iter()
        .map(|(field, manager)| format!("{field} (changed by {manager})"))
        .collect();
    let text = format!("put back in {} {}: {}", child.kind, child.name, fields.join(", "));
    Note {
        warning: true,
        reason: "DriftCorrected".into(),
        text: text.chars().take(900).collect(),
        action: "Reconcile",
        about: Some(ObjectReference {
            kind: Some(child.kind.to_owned()),
            namespace: Some(child.namespace.clone()),
            name: Some(child.name.clone()),
            field_path: child.fields.first().map(|(field, _)| field.clone()),
            ..ObjectReference::default()
        }),
        anew: false,
    }
}

/// So many events are remembered at most.
const REMEMBERED: usize = 256;

/// Writes events. One that repeats counts up in the object that it made first. The recorder would remember all of the
/// last minutes for that, megabytes where services are made by the thousand; hence another one takes over every now and
/// then, and what repeats after that makes an object of its own.
pub struct Teller {
    client: Client,
    reporter: Reporter,
    recorder: Mutex<(Recorder, usize)>,
}

impl Teller {
    /// One that has told of nothing yet.
    pub fn new(client: Client, reporter: Reporter) -> Self {
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self {
            client,
            reporter,
            recorder: Mutex::new((recorder, 0)),
        }
    }

    async fn tell(&self, event: &Event, subject: &ObjectReference, anew: bool) -> Result<(), kube::Error> {
        let recorder = if anew {
            Recorder::new(self.client.clone(), self.reporter.clone())
        } else {
            self.recorder()
        };
        recorder.publish(event, subject).await
    }

    fn recorder(&self) -> Recorder {
        let mut held = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if held.1 == REMEMBERED {
            *held = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        held.1 += 1;
        held.0.clone()
    }
}

/// Publishes them.
pub async fn publish(context: &Context, subject: &ObjectReference, notes: Vec<Note>) {
    for note in notes {
        let anew = note.anew;
        let event = Event {
            type_: if note.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: note.reason,
            note: Some(note.text),
            action: note.action.to_owned(),
            secondary: note.about,
        };
        let published = crate::apply::call("create", "Event", context.teller.tell(&event, subject, anew)).await;
        if let Err(error) = published {
            tracing::warn!(reason = error.reason(), "an event was not published");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use std::sync::Arc;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    /// A client whose calls are noted by method, and answered with what was sent.
    fn noting(calls: &Arc<Mutex<Vec<String>>>) -> Client {
        let calls = Arc::clone(calls);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            calls.lock().unwrap().push(request.method().to_string());
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(body.to_vec())))
            }
        });
        Client::new(service, "web")
    }

    #[tokio::test]
    async fn a_repeated_event_is_counted_in_its_object_and_memory_of_events_is_bounded() {
        let calls = Arc::default();
        let teller = Teller::new(noting(&calls), "test".into());
        let event = |reason: String| Event {
            type_: EventType::Normal,
            reason,
            note: None,
            action: "Reconcile".into(),
            secondary: None,
        };
        let subject = ObjectReference {
            name: Some("shots".into()),
            namespace: Some("web".into()),
            ..ObjectReference::default()
        };
        let tell = async |reason: &str| {
            teller.tell(&event(reason.to_owned()), &subject, false).await.unwrap();
            calls.lock().unwrap().pop().unwrap()
        };
        assert_eq!(tell("Repeated").await, "POST");
        assert_eq!(tell("Repeated").await, "PATCH");
        for n in 2..REMEMBERED {
            assert_eq!(tell(&n.to_string()).await, "POST");
        }
        assert_eq!(tell("Repeated").await, "POST", "forgotten with all before");
        assert_eq!(tell("Repeated").await, "PATCH");
        // What has another text each time is an object of its own.
        teller
            .tell(&event("Repeated".to_owned()), &subject, true)
            .await
            .unwrap();
        assert_eq!(calls.lock().unwrap().pop().unwrap(), "POST");
    }

    fn status(kind: &str, status: &str, reason: &str) -> ScreenshotServiceStatus {
        ScreenshotServiceStatus {
            conditions: vec![Condition {
                type_: kind.into(),
                status: status.into(),
                reason: reason.into(),
                message: "why".into(),
                observed_generation: None,
                last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            }],
            ..Default::default()
        }
    }

    #[test]
    fn a_transition_is_told_once_and_as_a_warning_when_protection_is_less_or_somebody_is_needed() {
        let nothing = ScreenshotServiceStatus::default();
        let note = |warning: bool, reason: &str| {
            vec![Note {
                warning,
                reason: reason.into(),
                text: "why".into(),
                action: "Reconcile",
                about: None,
                anew: false,
            }]
        };
        for (after, expected) in [
            (status("Ready", "True", "AsWanted"), note(false, "AsWanted")),
            (status("Ready", "True", "Degraded"), note(true, "Degraded")),
            (
                status("Stalled", "True", "SeccompProfileMissing"),
                note(true, "SeccompProfileMissing"),
            ),
            (status("Ready", "False", "PodsNotReady"), vec![]),
            (status("Available", "True", "PodsReady"), vec![]),
            (
                status("EgressEnforced", "False", "NetworkPolicyNotEnforced"),
                note(true, "NetworkPolicyNotEnforced"),
            ),
            (status("EgressEnforced", "Unknown", "CanaryUnavailable"), vec![]),
            (status("EgressEnforced", "True", "CanaryOutOfReach"), vec![]),
        ] {
            assert_eq!(notes(&nothing, &after, &[]), expected);
            assert_eq!(notes(&after, &after, &[]), []);
        }
        let enforced = |value: &str, reason: &str| status("EgressEnforced", value, reason);
        let (bad, good) = (
            enforced("False", "NetworkPolicyNotEnforced"),
            enforced("True", "CanaryOutOfReach"),
        );
        assert_eq!(notes(&bad, &good, &[]), note(false, "CanaryOutOfReach"));
        // Told once, though two conditions say it.
        let mut both = bad.clone();
        both.conditions.insert(
            0,
            status("Stalled", "True", "NetworkPolicyNotEnforced")
                .conditions
                .remove(0),
        );
        assert_eq!(notes(&nothing, &both, &[]), note(true, "NetworkPolicyNotEnforced"));
    }

    #[test]
    fn another_message_is_told_of_exceptions_that_end_or_have_ended_and_of_nothing_else() {
        let saying = |kind: &str, value: &str, message: &str| {
            let mut status = status(kind, value, "SomeReason");
            status.conditions[0].message = message.into();
            status
        };
        for (kind, value, told) in [
            ("ExceptionsLasting", "False", 1),
            ("ExceptionsLasting", "True", 0),
            ("Ready", "True", 0),
            ("Stalled", "True", 0),
            ("EgressEnforced", "False", 0),
        ] {
            let (one, other) = (saying(kind, value, "one"), saying(kind, value, "other"));
            let texts = |before, after| -> Vec<String> {
                let notes = notes(before, after, &[]).into_iter();
                notes.inspect(|note| assert!(note.anew)).map(|note| note.text).collect()
            };
            assert_eq!(texts(&one, &other), vec!["other"; told], "{kind} {value}");
            assert!(texts(&other, &other).is_empty(), "{kind} {value}");
        }
    }
}
