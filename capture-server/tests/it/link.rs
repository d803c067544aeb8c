//! The queue in front of a jailer that takes its time.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use capture_jail::client::{ClientError, Jailer};
use capture_jail::protocol::{self, Call, JailError, JailId, Outcome, Request, Response, SandboxReason, Step, VERSION};
use capture_server::capture::link::Link;
use capture_server::state::Heard;

/// Questions that may wait, as the product has it.
const QUEUE: usize = 16;

/// A jailer that says nothing until it is told to go on, and then no to everything; it counts what it is asked.
fn held_up(listener: &UnixListener, asked: &[AtomicUsize; 2], go: &mpsc::Receiver<()>) {
    let (mut stream, _) = listener.accept().unwrap();
    while let Ok(request) = protocol::read_frame::<Request>(&mut stream) {
        asked[usize::from(matches!(request.call, Call::Kill { .. }))].fetch_add(1, Ordering::Relaxed);
        // The first word is one for all.
        let _ = go.recv();
        let error = JailError {
            step: Step::Request,
            errno: None,
            reason: SandboxReason::UnknownJail,
        };
        let response = Response {
            version: VERSION,
            number: request.number,
            outcome: Outcome::Failed(error),
        };
        protocol::write_frame(&mut stream, &response).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_questions_wait_for_the_jailer_and_of_those_whose_asker_left_only_kills_are_asked() {
    const LEFT: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("s")).unwrap();
    let asked: Arc<[AtomicUsize; 2]> = Arc::default();
    let (counting, (go, gone)) = (Arc::clone(&asked), mpsc::channel());
    std::thread::spawn(move || held_up(&listener, &counting, &gone));
    let jailer = Jailer::connect(&directory.path().join("s")).unwrap();
    let link = Link::start(jailer, Heard::default()).unwrap();
    let short = Duration::from_millis(1);
    for _ in 0..LEFT {
        assert!(tokio::time::timeout(short, link.facts(None)).await.is_err());
    }
    for _ in 0..3 * QUEUE {
        assert!(tokio::time::timeout(short, link.kill(JailId(1))).await.is_err());
    }
    drop(go);
    assert!(matches!(link.stats(JailId(1)).await, Err(ClientError::Jail(_))));
    let [others, kills] = [0, 1].map(|at| asked[at].load(Ordering::Relaxed));
    assert!((QUEUE - LEFT..=QUEUE).contains(&kills), "{kills} kills");
    // The last one, and perhaps one that was being asked as its asker left.
    assert!(others <= 2, "{others} others");
}
