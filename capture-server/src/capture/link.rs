//! One connection to the jailer, for async callers.
//!
//! In: a connected [`Jailer`], which blocks. Out: a [`Link`] whose questions are answered by a thread of its own, a note
//! of each answer's time, and a token that is cancelled once the jailer is gone. Must not: reconnect (the supervisor does),
//! judge answers, or keep more questions than a few: whoever asks more waits, and who leaves is not answered.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use capture_jail::client::{ClientError, Jailer, SPAWN_TIMEOUT, Spawned};
use capture_jail::protocol::{Exit, JailFacts, JailId, JailStats, SpawnSpec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::state::Heard;

/// How often the thread looks for a hang-up while nobody asks. Captures notice sooner, by their browser's pipe.
const IDLE_CHECK: Duration = Duration::from_millis(100);
/// Questions that may wait for the thread.
const QUEUE: usize = 16;

enum Ask {
    Spawn(SpawnSpec, oneshot::Sender<Result<Spawned, ClientError>>),
    Kill(JailId, oneshot::Sender<Result<Exit, ClientError>>),
    Stats(JailId, oneshot::Sender<Result<JailStats, ClientError>>),
    Facts(Option<JailId>, oneshot::Sender<Result<JailFacts, ClientError>>),
}

impl Ask {
    /// Whether nobody wants it done any more. A jail is killed whoever still waits for that.
    fn is_moot(&self) -> bool {
        match self {
            Self::Spawn(_, reply) => reply.is_closed(),
            Self::Kill(..) => false,
            Self::Stats(_, reply) => reply.is_closed(),
            Self::Facts(_, reply) => reply.is_closed(),
        }
    }
}

/// A question with its place in the queue, which it has until it is answered.
type Question = (Ask, OwnedSemaphorePermit);

/// A living connection. Dropping it closes the connection, which makes the jailer kill every jail.
#[derive(Debug)]
pub struct Link {
    asks: mpsc::SyncSender<Question>,
    places: Arc<Semaphore>,
    lost: CancellationToken,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.lost.cancel();
    }
}

impl Link {
    /// Starts the thread and the watch for a hang-up.
    pub fn start(jailer: Jailer, heard: Heard) -> std::io::Result<Self> {
        let (asks, questions) = mpsc::sync_channel(QUEUE);
        let lost = CancellationToken::new();
        let on_thread = lost.clone();
        std::thread::Builder::new()
            .name("jailer".into())
            .spawn(move || answer_all(jailer, &questions, &heard, &on_thread))?;
        let places = Arc::new(Semaphore::new(QUEUE));
        Ok(Self { asks, places, lost })
    }

    /// Builds a jail and starts its browser.
    pub async fn spawn(&self, spec: SpawnSpec) -> Result<Spawned, ClientError> {
        self.ask(|reply| Ask::Spawn(spec, reply)).await
    }

    /// Kills a jail; returns once it is reaped. Of one that ended by itself it tells how.
    pub async fn kill(&self, id: JailId) -> Result<Exit, ClientError> {
        self.ask(|reply| Ask::Kill(id, reply)).await
    }

    /// What a jail uses.
    pub async fn stats(&self, id: JailId) -> Result<JailStats, ClientError> {
        self.ask(|reply| Ask::Stats(id, reply)).await
    }

    /// What confines a jail, or, of none, what the jailer has.
    pub async fn facts(&self, id: Option<JailId>) -> Result<JailFacts, ClientError> {
        self.ask(|reply| Ask::Facts(id, reply)).await
    }

    /// Whether the jailer is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Resolves when the jailer is gone.
    pub async fn gone(&self) {
        self.lost.cancelled().await;
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<Result<T, ClientError>>) -> Ask) -> Result<T, ClientError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let question = (ask(reply), place.map_err(|_| ClientError::Closed)?);
            // Never waits: there are as many places as it holds.
            self.asks.send(question).map_err(|_| ClientError::Closed)?;
            answer.await.map_err(|_| ClientError::Closed)?
        };
        tokio::select! {
            biased;
            answer = asked => answer,
            () = self.lost.cancelled() => Err(ClientError::Closed),
        }
    }
}

fn answer_all(mut jailer: Jailer, questions: &mpsc::Receiver<Question>, heard: &Heard, lost: &CancellationToken) {
    loop {
        let (ask, _place) = match questions.recv_timeout(IDLE_CHECK) {
            Ok((ask, _)) if ask.is_moot() => continue,
            Ok(question) => question,
            Err(RecvTimeoutError::Timeout) if has_hung_up(&jailer) => break,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        // An asker that stopped waiting is no error; a jail that nobody takes is killed with its descriptors' end.
        let ended = match ask {
            Ask::Spawn(spec, reply) => {
                let answer = jailer.spawn(&spec, SPAWN_TIMEOUT);
                let ended = answer.as_ref().is_err_and(ends);
                if let Err(Ok(orphan)) = reply.send(answer) {
                    let _ = jailer.kill(orphan.id);
                }
                ended
            }
            Ask::Kill(id, reply) => give(jailer.kill(id), reply),
            Ask::Stats(id, reply) => give(jailer.stats(id), reply),
            Ask::Facts(id, reply) => give(jailer.facts(id), reply),
        };
        if ended || lost.is_cancelled() {
            break;
        }
        heard.answered(clock::monotonic());
    }
    lost.cancel();
}

/// Between questions the jailer never speaks, so that anything to read is its end.
fn has_hung_up(jailer: &Jailer) -> bool {
    let socket = jailer.hangup_fd();
    let mut polled = [PollFd::new(&socket, PollFlags::IN | PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut polled, Some(&now)), Ok(ready) if ready > 0)
}

fn give<T>(answer: Result<T, ClientError>, reply: oneshot::Sender<Result<T, ClientError>>) -> bool {
    let ended = answer.as_ref().is_err_and(ends);
    let _ = reply.send(answer);
    ended
}

/// Whether the connection is of no use any more. What the jailer itself refuses leaves it whole.
fn ends<E: std::borrow::Borrow<ClientError>>(error: E) -> bool {
    !matches!(error.borrow(), ClientError::Jail(_))
}
