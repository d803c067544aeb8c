//! The client that one watch uses: no answer is waited for in vain, and whatever comes is noted.
//!
//! In: the operator's client, for how long a list or the beginning of a watch may take, whom to tell. Out: a client whose
//! calls end in time. kube bounds only a watch that has begun: one that says nothing, not even a bookmark, for longer
//! than the API server lets a watch live is begun anew.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;

use crate::client::is_watch;

/// What follows everything that is watched, in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Seconds until the API server ends a watch and it is begun anew: some fifteen watches then cost two calls a minute.
    pub watch_seconds: u32,
    /// For how long a list, or the beginning of a watch, may say nothing.
    pub answer: Duration,
    /// A watch that fails for so long is stalled.
    pub stalled: Duration,
    /// Between looks for the optional kinds, which come and go rarely.
    pub discovery: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            watch_seconds: 420,
            answer: Duration::from_secs(15),
            stalled: Duration::from_secs(20),
            discovery: Duration::from_secs(300),
        }
    }
}

/// kube gives a watch up that is silent 5 s beyond its life; the next one has so long to be heard.
const MARGIN: Duration = Duration::from_secs(10);

impl Bounds {
    /// A watch that was not heard for so long is stalled, whatever its client believes.
    pub fn silence(&self) -> Duration {
        Duration::from_secs(self.watch_seconds.into()) + MARGIN
    }
}

/// The API server took a call and did not answer it.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer in time")]
pub struct Unanswered;

/// Such a client. `heard` is called whenever something of a good answer came.
pub fn client(inner: Client, answer: Duration, heard: impl Fn() + Clone + Send + 'static) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (inner, heard) = (inner.clone(), heard.clone());
        async move {
            let limit = (!is_watch(request.uri().query().unwrap_or(""))).then_some(answer);
            let response = timeout(answer, inner.send(request)).await.map_err(|_| unanswered())??;
            let good = response.status().is_success();
            let heard = move || {
                if good {
                    heard();
                }
            };
            heard();
            Ok::<_, kube::Error>(listened_to(response, limit, heard))
        }
    });
    Client::new(service, namespace)
}

type Answer = Response<StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, kube::Error>>>>;

fn listened_to(response: Response<Body>, limit: Option<Duration>, heard: impl Fn() + Send + 'static) -> Answer {
    response.map(|body| {
        let frames = stream::unfold((Some(body), heard), move |(body, heard)| async move {
            let mut body = body?;
            let next = match limit {
                Some(limit) => timeout(limit, body.frame()).await,
                None => Ok(body.frame().await),
            };
            match next {
                Ok(Some(frame)) => {
                    heard();
                    Some((frame, (Some(body), heard)))
                }
                Ok(None) => None,
                Err(_) => Some((Err(unanswered()), (None, heard))),
            }
        });
        StreamBody::new(Box::pin(frames) as stream::BoxStream<'static, _>)
    })
}

fn unanswered() -> kube::Error {
    kube::Error::Service(Box::new(Unanswered))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::StreamExt as _;
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::{ListParams, WatchParams};

    use super::*;

    const ANSWER: Duration = Duration::from_secs(15);

    /// A client of an API server that begins to answer, says `text`, and then nothing more.
    fn hanging(text: &'static str, heard: &Arc<AtomicUsize>) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let said = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(text)))]);
            let body = StreamBody::new(said.chain(stream::pending()));
            Ok::<_, Infallible>(Response::new(body))
        });
        let heard = Arc::clone(heard);
        client(Client::new(service, "web"), ANSWER, move || {
            heard.fetch_add(1, Ordering::Relaxed);
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_stops_in_the_middle_ends_in_time_and_a_watch_that_has_begun_lasts() {
        let heard = Arc::default();
        let pods: Api<Pod> = Api::all(hanging("{\"kind\":\"PodL", &heard));
        let begun = tokio::time::Instant::now();
        let error = pods.list(&ListParams::default()).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Service(_)), "{error:?}");
        assert_eq!(begun.elapsed(), ANSWER);
        assert_eq!(heard.load(Ordering::Relaxed), 2, "the beginning and one piece");

        let bookmark = "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":\
                        {\"resourceVersion\":\"7\"}}}\n";
        let pods: Api<Pod> = Api::all(hanging(bookmark, &heard));
        let mut events = pods.watch(&WatchParams::default(), "1").await.unwrap().boxed();
        assert!(events.next().await.unwrap().is_ok());
        assert!(timeout(20 * ANSWER, events.next()).await.is_err(), "cut off");
        assert_eq!(heard.load(Ordering::Relaxed), 4, "a bookmark is heard too");
    }

    #[tokio::test]
    async fn the_text_of_a_refusal_is_not_heard() {
        let service = tower::service_fn(async |_: Request<Body>| {
            let text = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","code":403}"#;
            let refused = Response::builder().status(403);
            Ok::<_, Infallible>(refused.body(Body::from(text.as_bytes().to_vec())).unwrap())
        });
        let pods: Api<Pod> = Api::all(client(Client::new(service, "web"), ANSWER, || panic!("heard")));
        let refused = pods.watch(&WatchParams::default(), "1").await;
        assert!(matches!(refused.err(), Some(kube::Error::Api(status)) if status.code == 403));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_answers_ends_in_time_and_is_not_heard() {
        let service =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let pods: Api<Pod> = Api::all(client(Client::new(service, "web"), ANSWER, || panic!("heard")));
        let begun = tokio::time::Instant::now();
        assert!(pods.watch(&WatchParams::default(), "1").await.is_err());
        assert!(pods.list(&ListParams::default()).await.is_err());
        assert_eq!(begun.elapsed(), 2 * ANSWER);
    }
}
