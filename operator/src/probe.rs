//! Asks a URL until it answers 200: what `helm test` runs.
//!
//! In: a URL, how long to go on. Out: nothing, or the last answer. One GET a second, plain HTTP, no redirect followed;
//! of the answer only the status is read.

use std::fmt;
use std::time::Duration;

use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep, timeout};

const INTERVAL: Duration = Duration::from_secs(1);
const ONE_TRY: Duration = Duration::from_secs(3);

/// The last answer, when none was 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Another status.
    Status(StatusCode),
    /// No connection, or it broke off.
    None(String),
    /// Not within three seconds.
    Late,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "it answers {status}"),
            Self::None(why) => write!(f, "it does not answer: {why}"),
            Self::Late => write!(f, "it does not answer within {} s", ONE_TRY.as_secs()),
        }
    }
}

/// It never answered 200.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {last} (asked for {} s)", .patience.as_secs())]
pub struct Unready {
    url: Uri,
    last: Answer,
    patience: Duration,
}

/// Asks until it answers 200.
///
/// # Errors
/// The last answer, once `patience` is over.
#[expect(
    clippy::disallowed_methods,
    reason = "`helm test` asks a Service by its name, from a pod of its own: no page has a say in it"
)]
pub async fn probe(url: &Uri, patience: Duration) -> Result<(), Unready> {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let deadline = Instant::now() + patience;
    loop {
        let last = match once(&client, url).await {
            Answer::Status(StatusCode::OK) => return Ok(()),
            other => other,
        };
        if Instant::now() + INTERVAL > deadline {
            let url = url.clone();
            return Err(Unready { url, last, patience });
        }
        sleep(INTERVAL).await;
    }
}

async fn once(client: &Client<HttpConnector, Empty<Bytes>>, url: &Uri) -> Answer {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.clone();
    match timeout(ONE_TRY, client.request(request)).await {
        Ok(Ok(response)) => Answer::Status(response.status()),
        Ok(Err(error)) => Answer::None(root(&error)),
        Err(_) => Answer::Late,
    }
}

/// The innermost cause: hyper's own text says no more than that it could not connect.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "servers on loopback")]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::Router;
    use axum::routing::get;

    use super::*;

    /// A server that gets ready when it is told so.
    fn readying(ready: Arc<AtomicBool>) -> Router {
        let answer = move || {
            let ready = ready.load(Ordering::Acquire);
            async move {
                if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            }
        };
        Router::new().route("/readyz", get(answer))
    }

    async fn served(router: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn url(address: SocketAddr, path: &str) -> Uri {
        format!("http://{address}{path}").parse().unwrap()
    }

    #[tokio::test]
    async fn it_waits_until_the_operator_is_ready() {
        let ready = Arc::<AtomicBool>::default();
        let address = served(readying(Arc::clone(&ready))).await;
        tokio::spawn(async move {
            sleep(Duration::from_millis(300)).await;
            ready.store(true, Ordering::Release);
        });
        let outcome = probe(&url(address, "/readyz"), Duration::from_secs(5)).await;
        assert_eq!(outcome, Ok(()));
    }

    #[tokio::test]
    async fn what_never_gets_ready_is_said_with_its_last_answer() {
        let address = served(readying(Arc::default())).await;
        let said = probe(&url(address, "/readyz"), Duration::from_millis(10)).await;
        let text = format!("http://{address}/readyz: it answers 503 Service Unavailable (asked for 0 s)");
        assert_eq!(said.unwrap_err().to_string(), text);
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_a_way() {
        let router = Router::new().route("/", get(|| async { (StatusCode::FOUND, [("location", "/ok")]) }));
        let address = served(router.route("/ok", get(|| async {}))).await;
        let said = probe(&url(address, "/"), Duration::ZERO).await.unwrap_err();
        assert_eq!(said.last, Answer::Status(StatusCode::FOUND));
    }

    #[tokio::test]
    async fn a_closed_port_is_named_as_the_cause() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let said = probe(&url(address, "/readyz"), Duration::ZERO)
            .await
            .unwrap_err()
            .to_string();
        assert!(said.contains("it does not answer: Connection refused"), "{said}");
    }
}
