//! Tries the canary that the operator names, past this server's own proxy, as a page would that broke out of everything.
//!
//! In: a canary out of an authenticated attestation request, its nonce, the proxy's own decision about an address. Out:
//! [`CanaryFacts`] for the answer, and what follows for readiness ([`follows`]). Plain TCP with short deadlines; one
//! attempt at a time, and few: an answer that is seconds old is given again. Must not: connect to anything else.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Mutex as Shared, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use screenshot_policy::canary::{Canary, CanaryFacts, Finding, LENGTH, Outcome, Try};
use screenshot_policy::policy::Enforcement;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;

/// For a connection. Many engines drop what they do not let through, so this is what an attempt mostly takes.
const CONNECT: Duration = Duration::from_millis(500);
/// After which it is asked for once more: TCP repeats its first packet only after a second (RFC 6298), and one lost packet
/// shall not pass for a NetworkPolicy.
const AGAIN: Duration = Duration::from_millis(200);
/// For the canary's answer.
const ANSWER: Duration = Duration::from_millis(500);
/// For as long an attempt at the same addresses is not repeated.
const FRESH: Duration = Duration::from_secs(5);
/// Between two attempts, whatever they are at.
const GAP: Duration = Duration::from_secs(1);
/// After the start of the server; in some clusters NetworkPolicies reach a new pod that late.
const EARLY: Duration = Duration::from_secs(20);
/// A finding is shown in metrics for so long.
const SHOWN: Duration = Duration::from_secs(300);

/// Tries canaries, one at a time.
#[derive(Debug)]
pub struct Prober {
    began: Instant,
    last: Mutex<Option<Attempt>>,
    found: Shared<Option<(Instant, bool)>>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// For whoever asked.
    pub facts: CanaryFacts,
    /// What this server goes by. Once the canary was reached, it takes two attempts to believe that it no longer is: the
    /// operator that listened may just have gone. In a pod that has only just started it is the policies that come late.
    pub believed: Option<Finding>,
}

#[derive(Debug)]
struct Attempt {
    at: Instant,
    facts: CanaryFacts,
    /// Whether the canary was reached before, and never out of reach since.
    after_open: bool,
}

impl Attempt {
    fn of(tries: Vec<Try>, after_open: bool) -> Self {
        let facts = CanaryFacts {
            tries,
            ..CanaryFacts::default()
        };
        Self {
            at: clock::monotonic(),
            facts,
            after_open,
        }
    }

    fn believed(&self) -> Option<Finding> {
        let finding = self.facts.finding();
        (finding != Finding::Closed || !self.after_open).then_some(finding)
    }

    fn leaves_open(&self) -> bool {
        match self.facts.finding() {
            Finding::Open => true,
            Finding::Closed => false,
            Finding::Unproven(_) => self.after_open,
        }
    }

    fn is_of(&self, canary: &Canary) -> bool {
        let tried = self.facts.tries.iter().map(|one| one.address);
        tried.eq(canary.addresses().iter().copied())
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self {
            began: clock::monotonic(),
            last: Mutex::default(),
            found: Shared::default(),
        }
    }
}

impl Prober {
    /// Tries every address of the canary, or says again what a try within the last seconds found. `refused` is the
    /// proxy's own decision about each address.
    pub async fn attempt(&self, canary: &Canary, challenge: [u8; LENGTH], refused: &[bool]) -> Found {
        let mut last = self.last.lock().await;
        let since = |attempt: &Attempt| clock::monotonic().saturating_duration_since(attempt.at);
        if !last
            .as_ref()
            .is_some_and(|known| known.is_of(canary) && since(known) < FRESH)
        {
            let pause = last.as_ref().map(|known| GAP.saturating_sub(since(known)));
            sleep(pause.unwrap_or_default()).await;
            let after_open = !self.is_early() && last.as_ref().is_some_and(Attempt::leaves_open);
            // Counts even if whoever asked hangs up meanwhile.
            *last = Some(Attempt::of(Vec::new(), after_open));
            *last = Some(Attempt::of(every(canary, challenge, refused).await, after_open));
        }
        let Some(attempt) = &*last else {
            return Found::default();
        };
        let believed = attempt.believed();
        if let Some(finding @ (Finding::Open | Finding::Closed)) = believed {
            self.note(finding == Finding::Closed);
        }
        Found {
            facts: CanaryFacts {
                age_seconds: since(attempt).as_secs(),
                early: believed == Some(Finding::Open) && self.is_early(),
                ..attempt.facts.clone()
            },
            believed,
        }
    }

    fn is_early(&self) -> bool {
        self.began.elapsed() < EARLY
    }

    fn note(&self, closed: bool) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some((clock::monotonic(), closed));
    }

    /// Whether the canary was last found out of reach; `None` when that is not known or minutes ago.
    pub fn closed(&self) -> Option<bool> {
        let found = *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, closed) = found.filter(|(at, _)| at.elapsed() < SHOWN)?;
        Some(closed)
    }
}

async fn every(canary: &Canary, challenge: [u8; LENGTH], refused: &[bool]) -> Vec<Try> {
    let mut dials = JoinSet::new();
    for (place, address) in canary.addresses().iter().copied().enumerate() {
        let canary = canary.clone();
        dials.spawn(async move { (place, dial(address, &challenge, &canary).await) });
    }
    let addresses = canary.addresses().iter().enumerate();
    let mut tries: Vec<Try> = addresses
        .map(|(place, address)| Try {
            address: *address,
            outcome: Outcome::NotTried,
            proxy_refuses: refused.get(place).copied().unwrap_or_default(),
        })
        .collect();
    while let Some(dialled) = dials.join_next().await {
        if let Ok((place, outcome)) = dialled
            && let Some(one) = tries.get_mut(place)
        {
            one.outcome = outcome;
        }
    }
    tries
}

#[expect(
    clippy::disallowed_methods,
    reason = "past the proxy is the point; the address came from the operator"
)]
async fn dial(address: SocketAddr, challenge: &[u8; LENGTH], canary: &Canary) -> Outcome {
    let again = async {
        sleep(AGAIN).await;
        TcpStream::connect(address).await
    };
    let connected = async {
        tokio::select! {
            first = TcpStream::connect(address) => first,
            second = again => second,
        }
    };
    let mut stream = match timeout(CONNECT, connected).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return unconnected(&error),
        Err(_) => return Outcome::TimedOut,
    };
    let exchange = async {
        stream.write_all(challenge).await?;
        let mut answer = [0; LENGTH];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match timeout(ANSWER, exchange).await {
        Ok(Ok(answer)) if canary.gave(&answer) => Outcome::Reached,
        _ => Outcome::Mistaken,
    }
}

/// What a failed connection says. Only what comes from the network counts; a shortage of our own proves nothing.
fn unconnected(error: &std::io::Error) -> Outcome {
    match error.kind() {
        // The last two are what an ICMP "administratively prohibited" becomes, by family.
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::HostUnreachable
        | ErrorKind::PermissionDenied => Outcome::Refused,
        ErrorKind::TimedOut => Outcome::TimedOut,
        ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => Outcome::NoRoute,
        _ if Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT) => Outcome::NoRoute,
        _ => Outcome::NotTried,
    }
}

/// What a finding means for readiness: `Some(true)` that this server takes captures as far as this goes, `Some(false)`
/// that it does not, `None` that it stays as it was. Without an operator nothing is found, and nothing changes.
pub fn follows(believed: Option<Finding>, enforcement: Enforcement) -> Option<bool> {
    match (believed?, enforcement) {
        (Finding::Open, Enforcement::Required) => Some(false),
        (Finding::Open, Enforcement::Advisory) | (Finding::Closed, _) => Some(true),
        (Finding::Unproven(_), _) => None,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "listeners on loopback")]
mod tests {
    use screenshot_policy::canary::CanaryKey;
    use tokio::net::TcpListener;

    use super::*;

    const CHALLENGE: [u8; LENGTH] = [7; LENGTH];

    fn answer() -> [u8; LENGTH] {
        CanaryKey::from_bytes([1; 32]).answer(&CHALLENGE)
    }

    /// A listener that gives this answer to everybody, and how often it was asked.
    async fn listener(answer: Vec<u8>) -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let count = std::sync::Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let mut challenge = [0; LENGTH];
                let _ = stream.read_exact(&mut challenge).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        (address, asked)
    }

    async fn attempted(prober: &Prober, address: SocketAddr) -> Found {
        let canary = Canary::new(&[address], &answer()).unwrap();
        prober.attempt(&canary, CHALLENGE, &[true]).await
    }

    async fn found(prober: &Prober, address: SocketAddr) -> CanaryFacts {
        attempted(prober, address).await.facts
    }

    /// An address of loopback where nobody listens.
    fn nobody() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    }

    #[tokio::test]
    async fn only_the_canarys_own_answer_counts_as_reached() {
        let (canary, _) = listener(answer().to_vec()).await;
        let facts = found(&Prober::default(), canary).await;
        assert_eq!((facts.finding(), facts.early), (Finding::Open, true));
        for wrong in [vec![0; LENGTH], answer()[..31].to_vec(), Vec::new()] {
            let (stray, _) = listener(wrong).await;
            let facts = found(&Prober::default(), stray).await;
            assert_eq!(facts.finding(), Finding::Unproven(Outcome::Mistaken));
        }
    }

    #[tokio::test]
    async fn nobody_there_is_out_of_reach() {
        let prober = Prober::default();
        assert_eq!(prober.closed(), None);
        assert_eq!(found(&prober, nobody()).await.finding(), Finding::Closed);
        assert_eq!(prober.closed(), Some(true));
    }

    #[tokio::test]
    async fn a_lost_packet_is_no_policy() {
        // A queue of one that is full: the system drops what comes, and TCP itself asks again after a second only.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
            assert!(waiting.len() < 10, "the queue is never full");
        }
        let serving = async {
            sleep(AGAIN / 2).await;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut challenge = [0; LENGTH];
                    if stream.read_exact(&mut challenge).await.is_ok() {
                        let _ = stream.write_all(&answer()).await;
                    }
                });
            }
        };
        let prober = Prober::default();
        // The queue is emptied first where both are due.
        let facts = tokio::select! {
            biased;
            () = serving => unreachable!(),
            facts = found(&prober, address) => facts,
        };
        assert_eq!(facts.finding(), Finding::Open);
    }

    #[tokio::test]
    async fn once_it_was_reached_it_is_out_of_reach_when_that_is_found_twice() {
        let (canary, _) = listener(answer().to_vec()).await;
        let (stray, _) = listener(Vec::new()).await;
        let prober = Prober {
            began: clock::monotonic().checked_sub(EARLY).unwrap(),
            ..Prober::default()
        };
        let believed = async |address| attempted(&prober, address).await.believed;
        assert_eq!(believed(canary).await, Some(Finding::Open));
        // Each is another canary, or what was just found would be said again.
        assert_eq!(believed(stray).await, Some(Finding::Unproven(Outcome::Mistaken)));
        let once = attempted(&prober, nobody()).await;
        assert_eq!((once.facts.finding(), once.believed), (Finding::Closed, None));
        assert_eq!(prober.closed(), Some(false));
        assert_eq!(believed(nobody()).await, Some(Finding::Closed));
        assert_eq!(prober.closed(), Some(true));
    }

    #[tokio::test]
    async fn attempts_are_bounded_in_their_rate() {
        let (canary, asked) = listener(answer().to_vec()).await;
        let prober = Prober::default();
        for _ in 0..20 {
            assert_eq!(found(&prober, canary).await.finding(), Finding::Open);
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
        // Another canary is another matter, and still not at once.
        let (other, asked) = listener(answer().to_vec()).await;
        let began = Instant::now();
        assert_eq!(found(&prober, other).await.finding(), Finding::Open);
        assert!(
            began.elapsed() + Duration::from_millis(200) >= GAP
                && asked.load(std::sync::atomic::Ordering::Relaxed) == 1
        );
    }

    #[test]
    fn a_shortage_of_our_own_proves_nothing() {
        for (number, expected) in [
            (Errno::CONNREFUSED, Outcome::Refused),
            (Errno::HOSTUNREACH, Outcome::Refused),
            (Errno::ACCESS, Outcome::Refused),
            (Errno::PERM, Outcome::Refused),
            (Errno::TIMEDOUT, Outcome::TimedOut),
            (Errno::NETUNREACH, Outcome::NoRoute),
            (Errno::AFNOSUPPORT, Outcome::NoRoute),
            (Errno::MFILE, Outcome::NotTried),
            (Errno::NOMEM, Outcome::NotTried),
        ] {
            assert_eq!(unconnected(&number.into()), expected, "{number:?}");
        }
    }

    #[test]
    fn only_what_is_required_and_known_to_be_open_stops_captures_and_only_a_closed_canary_lets_them_on() {
        let (required, advisory) = (Enforcement::Required, Enforcement::Advisory);
        for (finding, enforcement, expected) in [
            (Finding::Open, required, Some(false)),
            (Finding::Open, advisory, Some(true)),
            (Finding::Closed, required, Some(true)),
            (Finding::Closed, advisory, Some(true)),
            (Finding::Unproven(Outcome::Mistaken), required, None),
            (Finding::Unproven(Outcome::NotTried), advisory, None),
        ] {
            assert_eq!(
                follows(Some(finding), enforcement),
                expected,
                "{finding:?} {enforcement:?}"
            );
        }
    }
}
