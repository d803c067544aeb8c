//! Why a node does not begin a pod's containers: the kubelet tells that in Events alone, never in the pod's status.
//!
//! In: pods whose containers have been in creation for a while. Out: what the kubelet said last, if anything, and when to
//! look again. One call for each such pod; nothing is watched. What cannot be read is no news: the pass goes on without it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;

use crate::apply::call;
use crate::context::Context;
use crate::validate::Identity;
use crate::views::{PodState, Said};

/// How long containers may be in creation before somebody asks why: an image may be on its way.
const GRACE: SignedDuration = SignedDuration::from_secs(10);
/// The kubelet's word (pkg/kubelet/events of Kubernetes).
const REASON: &str = "FailedCreatePodSandBox";
/// The kubelet repeats itself by counting, so there are few.
const MOST: u32 = 50;

/// When the first pod that is in creation will have been for long enough to ask why.
pub(super) fn next_look(pods: &[PodState], now: Timestamp) -> Option<Timestamp> {
    let dues = pods.iter().filter_map(|pod| pod.creating?.checked_add(GRACE).ok());
    dues.filter(|due| *due > now).min()
}

/// What the kubelet says of a pod that it does not begin.
pub(super) async fn refusal(context: &Context, identity: &Identity, pod: &PodState) -> Option<Said> {
    if (context.now)().duration_since(pod.creating?) < GRACE {
        return None;
    }
    let api: Api<Event> = Api::namespaced(context.client.clone(), &identity.namespace);
    let selector = format!("regarding.uid={},reason={REASON}", pod.uid);
    let params = ListParams::default().fields(&selector).limit(MOST);
    match call("list", "Event", api.list(&params)).await {
        Ok(events) => latest(&events.items),
        Err(error) => {
            tracing::debug!(
                pod = pod.name,
                reason = error.reason(),
                "the events of a pod cannot be read"
            );
            None
        }
    }
}

fn latest(events: &[Event]) -> Option<Said> {
    let last = events.iter().max_by_key(|event| told_at(event))?;
    Some(Said {
        reason: REASON.to_owned(),
        message: last.note.clone()?,
        since: None,
    })
}

/// Old and new ways of telling it stand beside one another in the API.
fn told_at(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let old = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let new = event.event_time.as_ref().map(|time| time.0);
    series.max(old).max(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_several_events_the_one_told_last_counts_however_its_time_is_written() {
        let event = |note: &str, times: serde_json::Value| -> Event {
            let mut event = json!({"metadata": {"name": note}, "eventTime": null, "note": note});
            event
                .as_object_mut()
                .unwrap()
                .extend(times.as_object().unwrap().clone());
            serde_json::from_value(event).unwrap()
        };
        let old = event("old", json!({"deprecatedLastTimestamp": "2026-06-01T00:00:03Z"}));
        let new = event("new", json!({"eventTime": "2026-06-01T00:00:02.000000Z"}));
        let counted = event(
            "counted",
            json!({"eventTime": "2026-06-01T00:00:01.000000Z",
                "series": {"count": 9, "lastObservedTime": "2026-06-01T00:00:04.000000Z"}}),
        );
        let note = |events: &[&Event]| {
            let events: Vec<Event> = events.iter().map(|event| (*event).clone()).collect();
            latest(&events).map(|said| said.message)
        };
        assert_eq!(note(&[&old, &counted, &new]).as_deref(), Some("counted"));
        assert_eq!(note(&[&new, &old]).as_deref(), Some("old"));
        assert_eq!(note(&[]), None);
    }

    #[test]
    fn a_pod_in_creation_is_looked_at_again_when_its_time_is_over() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let pod = |creating| PodState {
            creating,
            ..PodState::default()
        };
        let pods = [pod(None), pod(Some(at(105))), pod(Some(at(102))), pod(Some(at(50)))];
        assert_eq!(next_look(&pods, at(106)), Some(at(112)));
        assert_eq!(next_look(&pods, at(112)), Some(at(115)));
        assert_eq!(next_look(&pods, at(200)), None);
    }
}
