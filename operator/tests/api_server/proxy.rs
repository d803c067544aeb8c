//! An API server that misbehaves: a proxy on loopback in front of the real one.
//!
//! In: a client of the real one, faults to inject. Out: an address for a client under test. Speaks plain HTTP; who the
//! caller is, the real client decides.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this code, and a Retry-After in seconds if that is not 0.
    Refuse(u16, u32),
    /// It is carried out late.
    Late(Duration),
    /// It is carried out, and the answer is lost.
    AnswerLost,
}

/// Which calls, and what goes wrong.
type Rule = (Box<dyn Fn(&Method, &str) -> bool + Send>, usize, Fault);

#[derive(Default)]
struct State {
    rules: Mutex<VecDeque<Rule>>,
    /// Text that answers about the resource hold, and what they are made to hold instead.
    garbled: Mutex<Option<(String, String)>>,
    /// Groups of the API that are not served.
    hidden: Mutex<Vec<String>>,
    /// What was asked for by GET, and as what.
    heard: Mutex<Vec<(String, String)>>,
    /// Cancelled while the API server is away; every connection ends.
    away: Mutex<CancellationToken>,
    /// Cancelled while connections stay open and carry nothing; those that did once never carry anything again.
    silent: Mutex<CancellationToken>,
}

/// The proxy.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    pub async fn start(upstream: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, upstream) = (Arc::clone(&shared), upstream.clone());
                let (away, silent) = (state.away.lock().unwrap().clone(), state.silent.lock().unwrap().clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = answer(Arc::clone(&state), upstream.clone(), request);
                        unless_silent(silent.clone(), answer)
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    tokio::select! {
                        _ = server.serve_connection(TokioIo::new(stream), service) => {}
                        () = away.cancelled() => {}
                    }
                });
            }
        });
        Self { address, state }
    }

    pub fn config(&self) -> Config {
        Config::new(format!("http://{}", self.address).parse().unwrap())
    }

    /// The next `times` calls that match go wrong.
    pub fn inject(&self, times: usize, fault: Fault, calls: impl Fn(&Method, &str) -> bool + Send + 'static) {
        self.state
            .rules
            .lock()
            .unwrap()
            .push_back((Box::new(calls), times, fault));
    }

    /// Path and `Accept` of everything that was asked for by GET.
    pub fn heard(&self) -> Vec<(String, String)> {
        self.state.heard.lock().unwrap().clone()
    }

    /// From now on, answers about the resource hold another text.
    pub fn garble(&self, from: &str, to: &str) {
        *self.state.garbled.lock().unwrap() = Some((from.into(), to.into()));
    }

    /// From now on the API server does not serve this group: it is asked for one that does not exist.
    pub fn hide(&self, group: &str) {
        self.state.hidden.lock().unwrap().push(format!("/apis/{group}"));
    }

    /// It serves every group again.
    pub fn show(&self) {
        self.state.hidden.lock().unwrap().clear();
    }

    /// The API server goes away: connections end, new ones too.
    pub fn away(&self) {
        self.state.away.lock().unwrap().cancel();
    }

    /// Connections stay open, new ones are taken, and nothing is forwarded.
    pub fn silent(&self) {
        self.state.silent.lock().unwrap().cancel();
    }

    /// It is back, for connections that begin from now on.
    pub fn back(&self) {
        *self.state.away.lock().unwrap() = CancellationToken::new();
        *self.state.silent.lock().unwrap() = CancellationToken::new();
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// The answer, for as long as the connection carries anything.
async fn unless_silent(
    silent: CancellationToken,
    answer: impl Future<Output = Result<Answer, std::io::Error>>,
) -> Result<Answer, std::io::Error> {
    let response = or_nothing(&silent, answer).await?;
    Ok(response.map(|body| {
        let frames = stream::unfold((body, silent), |(mut body, silent)| async move {
            let frame = or_nothing(&silent, body.frame()).await?;
            Some((frame, (body, silent)))
        });
        StreamBody::new(frames).boxed_unsync()
    }))
}

async fn or_nothing<T>(silent: &CancellationToken, coming: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = silent.cancelled() => std::future::pending().await,
        it = coming => it,
    }
}

async fn answer(state: Arc<State>, upstream: Client, request: Request<Incoming>) -> Result<Answer, std::io::Error> {
    if request.method() == Method::GET {
        let accept = request.headers().get(http::header::ACCEPT);
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let heard = (request.uri().path().to_owned(), accept.to_owned());
        state.heard.lock().unwrap().push(heard);
    }
    let fault = {
        let mut rules = state.rules.lock().unwrap();
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let hit = rules
            .iter_mut()
            .find(|(calls, times, _)| *times > 0 && calls(request.method(), path));
        hit.map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        })
    };
    match &fault {
        Some(Fault::Refuse(code, after)) => return Ok(refusal(*code, *after)),
        Some(Fault::Late(wait)) => tokio::time::sleep(*wait).await,
        _ => {}
    }
    let garbled = state.garbled.lock().unwrap().clone();
    let garbled = garbled.filter(|_| request.uri().path().contains("/screenshotservices"));
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(http::header::HOST);
    let mut path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let hidden = state.hidden.lock().unwrap().clone();
    if let Some(group) = hidden.iter().find(|group| path.starts_with(group.as_str())) {
        path.insert_str(group.len(), ".absent");
    }
    parts.uri = path.parse().unwrap();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let sent = upstream
        .send(Request::from_parts(parts, Body::from(body.to_vec())))
        .await;
    let response = sent.map_err(std::io::Error::other)?;
    if matches!(fault, Some(Fault::AnswerLost)) {
        return Err(std::io::Error::other("lost"));
    }
    let (mut parts, body) = response.into_parts();
    // The upstream's body was decoded already, and its connection is another one.
    for name in [
        http::header::CONTENT_ENCODING,
        http::header::CONTENT_LENGTH,
        http::header::TRANSFER_ENCODING,
        http::header::CONNECTION,
    ] {
        parts.headers.remove(name);
    }
    parts.version = http::Version::HTTP_11;
    let body = body.map_err(Into::into).map_frame(move |frame| match &garbled {
        // Objects are small: each comes in one piece.
        Some((from, to)) => frame.map_data(|data| Bytes::from(String::from_utf8_lossy(&data).replace(from, to))),
        None => frame,
    });
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

fn refusal(code: u16, after: u32) -> Answer {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "injected", "code": code,
        "reason": reason, "details": {"retryAfterSeconds": after}});
    let body = Full::new(Bytes::from(status.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
