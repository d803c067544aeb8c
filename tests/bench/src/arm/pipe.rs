//! The simplest correct CDP client over a pipe: numbered commands, answers, and which events a session had.
//!
//! In: the two pipe ends of a browser. Out: answers as JSON text. An ended pipe fails whatever waits. Deliberately not
//! the capture server's own driver: the benchmark compares against it. Must not: know what a command means.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::Failure;

const CHUNK: usize = 256 * 1024;

type Answer = Result<String, String>;

#[derive(Default)]
struct Tables {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    sessions: HashMap<String, mpsc::UnboundedSender<String>>,
}

/// One browser's pipe. Cheap to clone.
#[derive(Clone)]
pub struct Pipe {
    next: Arc<AtomicU64>,
    tables: Arc<Mutex<Tables>>,
    sink: Arc<tokio::sync::Mutex<pipe::Sender>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Pipe {
    /// Takes the browser's ends over and starts to read.
    pub fn start(from_browser: OwnedFd, to_browser: OwnedFd) -> Result<Self, Failure> {
        let source = pipe::Receiver::from_owned_fd(from_browser)?;
        let sink = pipe::Sender::from_owned_fd(to_browser)?;
        let tables = Arc::new(Mutex::new(Tables::default()));
        tokio::spawn(read_all(source, Arc::clone(&tables)));
        Ok(Self {
            next: Arc::default(),
            tables,
            sink: Arc::new(tokio::sync::Mutex::new(sink)),
        })
    }

    /// Sends a command and waits for its answer.
    pub async fn call<R: DeserializeOwned>(
        &self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<R, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        lock(&self.tables).waiting.insert(id, answer);
        let mut command = serde_json::json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut frame = serde_json::to_vec(&command)?;
        frame.push(0);
        self.sink.lock().await.write_all(&frame).await?;
        let text = answered
            .await
            .map_err(|_| "the browser closed its pipe")?
            .map_err(|error| format!("{method}: {error}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The names of the events of a session, from now on.
    pub fn events(&self, session: &str) -> mpsc::UnboundedReceiver<String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.tables).sessions.insert(session.to_owned(), sender);
        receiver
    }

    /// Forgets a session.
    pub fn forget(&self, session: &str) {
        lock(&self.tables).sessions.remove(session);
    }
}

fn lock(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_all(mut source: pipe::Receiver, tables: Arc<Mutex<Tables>>) {
    let (mut buffer, mut searched) = (Vec::new(), 0);
    loop {
        while let Some(length) = buffer[searched..].iter().position(|byte| *byte == 0) {
            let end = searched + length;
            deliver(&buffer[..end], &tables);
            buffer.drain(..=end);
            searched = 0;
        }
        searched = buffer.len();
        buffer.reserve(CHUNK);
        if !matches!(source.read_buf(&mut buffer).await, Ok(1..)) {
            break;
        }
    }
    *lock(&tables) = Tables::default();
}

fn deliver(frame: &[u8], tables: &Mutex<Tables>) {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(frame) else {
        return;
    };
    let mut tables = lock(tables);
    if let Some(answer) = message.id.and_then(|id| tables.waiting.remove(&id)) {
        let _ = answer.send(match message.error {
            Some(error) => Err(error.get().to_owned()),
            None => Ok(message.result.map_or("{}", RawValue::get).to_owned()),
        });
    } else if let (Some(session), Some(method)) = (message.session_id, message.method)
        && let Some(events) = tables.sessions.get(session.as_ref())
    {
        let _ = events.send(method.into_owned());
    }
}
