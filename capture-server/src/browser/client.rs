//! The CDP client: ids, pending answers, sessions, one reader task.
//!
//! In: a frame source and a frame sink. Out: answers to commands and the decoded events of a session.
//! Must not: wait without end on its own (callers put every await under their deadline; a dead wire fails every
//! pending command at once) and must not keep more than a bounded number of undelivered events.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use super::commands::Command;
use super::strays::{Stray, Strays};
use super::{DriverError, Event, Frame, FrameSink, FrameSource, WireError};

/// Undelivered events a page may have before it is given up: a page that floods us is treated as crashed.
const MAX_EVENTS: usize = 4096;
/// Commands waiting for the pipe.
const MAX_OUTGOING: usize = 64;
/// How the browser begins an answer.
const ANSWER: &[u8] = b"{\"id\":";
/// How it begins an event.
const EVENT: &[u8] = b"{\"method\":\"";
/// What it puts before the session at the very end of either. A page's text cannot look like it: its quotes have
/// backslashes.
const SESSION: &[u8] = b",\"sessionId\":\"";

type Answer = Result<Box<RawValue>, DriverError>;

struct Pending {
    method: &'static str,
    answer: oneshot::Sender<Answer>,
}

/// Who hears the events of a session.
struct Listener {
    events: mpsc::Sender<Event>,
    /// The page's session, if this is one of its frames or workers: of those only what is counted is heard.
    page: Option<String>,
}

#[derive(Default)]
struct Tables {
    pending: HashMap<u64, Pending>,
    sessions: HashMap<String, Listener>,
    closed: Option<DriverError>,
}

impl Tables {
    /// Ends the events of a session, and of those that joined it.
    fn unsubscribe(&mut self, session: &str) {
        self.sessions.remove(session);
        self.sessions
            .retain(|_, listener| listener.page.as_deref() != Some(session));
    }

    /// Gives up the page that the session is, or is a part of: it counts as crashed.
    fn give_up(&mut self, session: &str) {
        let Some(listener) = self.sessions.get(session) else {
            return;
        };
        let page = listener.page.clone().unwrap_or_else(|| session.to_owned());
        self.unsubscribe(&page);
    }
}

struct Inner {
    next_id: AtomicU64,
    tables: Mutex<Tables>,
    outgoing: mpsc::Sender<Vec<u8>>,
    alive: watch::Sender<bool>,
    strays: Strays,
}

/// A handle on one browser's pipe. Cheap to clone; the reader ends when the pipe does.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a, P> {
    id: u64,
    method: &'static str,
    params: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    result: Option<Box<RawValue>>,
    error: Option<CdpError>,
}

#[derive(Deserialize)]
struct CdpError {
    code: i64,
}

impl Client {
    /// Starts the reader and the writer on a wire. What is not understood is counted in `strays`.
    pub fn start(source: impl FrameSource, sink: impl FrameSink, strays: Strays) -> Self {
        let (outgoing, frames) = mpsc::channel(MAX_OUTGOING);
        let (alive, _) = watch::channel(true);
        let inner = Arc::new(Inner {
            next_id: AtomicU64::new(1),
            tables: Mutex::new(Tables::default()),
            outgoing,
            alive,
            strays,
        });
        tokio::spawn(write_all(sink, frames));
        tokio::spawn(read_all(Arc::clone(&inner), source));
        Self { inner }
    }

    /// Sends a command and waits for its answer. The caller bounds the wait; giving up early leaks nothing.
    pub async fn call<C: Command>(&self, session: Option<&str>, command: &C) -> Result<C::Answer, DriverError> {
        let method = C::METHOD;
        let (id, frame) = self.frame(session, command)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut tables = self.inner.tables();
            if let Some(error) = tables.closed {
                return Err(error);
            }
            tables.pending.insert(id, Pending { method, answer });
        }
        let forget = Forget { inner: &self.inner, id };
        self.inner.outgoing.send(frame).await.map_err(|_| DriverError::Closed)?;
        let raw = answered.await.map_err(|_| DriverError::Closed)??;
        drop(forget);
        serde_json::from_str(raw.get()).map_err(|_| {
            self.inner.strays.count(Stray::DriftedAnswer);
            DriverError::Protocol { method }
        })
    }

    /// Sends a command whose answer nobody waits for.
    pub async fn send(&self, session: &str, command: &impl Command) -> Result<(), DriverError> {
        let (_, frame) = self.frame(Some(session), command)?;
        self.inner.outgoing.send(frame).await.map_err(|_| DriverError::Closed)
    }

    /// The events of a session from now on. The stream ends when the browser is gone or the page floods us.
    pub fn subscribe(&self, session: &str) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let mut tables = self.inner.tables();
        if tables.closed.is_none() {
            tables
                .sessions
                .insert(session.to_owned(), Listener { events, page: None });
        }
        receiver
    }

    /// Lets the page on the session `page` hear what is counted on `session`, too: one of its frames or workers.
    /// Whether it does; a page that has `most` of them, or is gone, does not.
    pub fn join(&self, session: &str, page: &str, most: usize) -> bool {
        let mut tables = self.inner.tables();
        let joined = tables
            .sessions
            .values()
            .filter(|other| other.page.as_deref() == Some(page));
        if joined.count() >= most {
            return false;
        }
        let Some(events) = tables.sessions.get(page).map(|listener| listener.events.clone()) else {
            return false;
        };
        let page = Some(page.to_owned());
        tables.sessions.insert(session.to_owned(), Listener { events, page });
        true
    }

    /// Ends the events of a session, and of those that joined it.
    pub fn unsubscribe(&self, session: &str) {
        self.inner.tables().unsubscribe(session);
    }

    /// Whether the pipe still stands.
    pub fn is_alive(&self) -> bool {
        self.inner.tables().closed.is_none()
    }

    /// Resolves when the pipe has ended.
    pub async fn gone(&self) {
        let mut alive = self.inner.alive.subscribe();
        let _ = alive.wait_for(|alive| !alive).await;
    }

    fn frame<C: Command>(&self, session: Option<&str>, command: &C) -> Result<(u64, Vec<u8>), DriverError> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            id,
            method: C::METHOD,
            params: command,
            session_id: session,
        };
        let frame = serde_json::to_vec(&request).map_err(|_| DriverError::Protocol { method: C::METHOD })?;
        Ok((id, frame))
    }
}

/// Takes a command out of the table when its caller stops waiting, however that happens.
struct Forget<'a> {
    inner: &'a Inner,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.inner.tables().pending.remove(&self.id);
    }
}

impl Inner {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, frame: &[u8]) -> Result<(), DriverError> {
        let incoming: Incoming<'_> = serde_json::from_slice(frame).map_err(|_| DriverError::Frame)?;
        match (incoming.id, incoming.method, incoming.session_id) {
            (Some(id), _, _) => self.answer(id, incoming.result, incoming.error),
            (None, Some(method), session) => match (Event::decode(&method, incoming.params), session) {
                (Ok(Some(event)), Some(session)) => self.publish(&session, event),
                (Ok(_), _) => {}
                (Err(stray), _) => self.strays.count(stray),
            },
            (None, None, _) => self.strays.count(Stray::UnknownAnswer),
        }
        Ok(())
    }

    /// Of a frame that is too long only the ends are there. An answer fails its own command and nothing else. An event
    /// is dropped and its page given up: it may have been what counts (bytes that were unpacked, another document).
    fn oversized(&self, head: &[u8], tail: &[u8]) -> Result<(), DriverError> {
        if let Some(id) = leading_id(head) {
            if let Some(Pending { method, answer }) = self.pending(id) {
                let _ = answer.send(Err(DriverError::Oversized { method }));
            }
            return Ok(());
        }
        if !head.starts_with(EVENT) {
            return Err(DriverError::Frame);
        }
        self.strays.count(Stray::OversizedEvent);
        if let Some(session) = trailing_session(tail) {
            self.tables().give_up(session);
        }
        Ok(())
    }

    /// Who waits for this answer.
    fn pending(&self, id: u64) -> Option<Pending> {
        let pending = self.tables().pending.remove(&id);
        // Of what was asked, somebody may have stopped waiting.
        if pending.is_none() && id >= self.next_id.load(Ordering::Relaxed) {
            self.strays.count(Stray::UnknownAnswer);
        }
        pending
    }

    fn answer(&self, id: u64, result: Option<Box<RawValue>>, error: Option<CdpError>) {
        let Some(Pending { method, answer }) = self.pending(id) else {
            return;
        };
        let outcome = match (result, error) {
            (_, Some(CdpError { code })) => Err(DriverError::Rejected { method, code }),
            (Some(raw), None) => Ok(raw),
            (None, None) => Err(DriverError::Protocol { method }),
        };
        // A caller that stopped waiting is no error.
        let _ = answer.send(outcome);
    }

    fn publish(&self, session: &str, event: Event) {
        let mut tables = self.tables();
        let Some(listener) = tables.sessions.get(session) else {
            return;
        };
        if listener.page.is_some() && !event.is_counted() {
            return;
        }
        if listener.events.try_send(event).is_err() {
            tables.give_up(session);
        }
    }

    fn close(&self, error: DriverError) {
        let (pending, sessions) = {
            let mut tables = self.tables();
            tables.closed.get_or_insert(error);
            (
                std::mem::take(&mut tables.pending),
                std::mem::take(&mut tables.sessions),
            )
        };
        drop(sessions);
        for (_, Pending { answer, .. }) in pending {
            let _ = answer.send(Err(error));
        }
        self.alive.send_replace(false);
    }
}

/// The id of an answer of which only the beginning is there.
fn leading_id(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(ANSWER)?;
    // A number whose end is not there is not known.
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// The session of a message of which only the end is there.
fn trailing_session(tail: &[u8]) -> Option<&str> {
    let rest = tail.strip_suffix(b"\"}")?;
    let quote = rest.iter().rposition(|byte| *byte == b'"')?;
    let (before, session) = rest.split_at(quote + 1);
    let session = std::str::from_utf8(session).ok()?;
    before.ends_with(SESSION).then_some(session)
}

async fn read_all(inner: Arc<Inner>, mut source: impl FrameSource) {
    let error = loop {
        let delivered = match source.next().await {
            Ok(Some(Frame::Whole(frame))) => inner.deliver(&frame),
            Ok(Some(Frame::Oversized { head, tail })) => inner.oversized(&head, &tail),
            Ok(None) | Err(WireError::Io) => Err(DriverError::Closed),
        };
        if let Err(error) = delivered {
            break error;
        }
    };
    inner.close(error);
}

async fn write_all(mut sink: impl FrameSink, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if sink.send(frame).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
