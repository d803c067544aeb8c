//! The canary: the operator's own listener, which answers a capture pod only if no NetworkPolicy is enforced.
//!
//! In: the addresses of this pod, a random key, connections from anybody. Out: the answer to a challenge of 32 bytes, and
//! [`Offer`]: whether pods can be asked to try it. It has to be certain to answer, or "out of reach" would prove nothing:
//! before pods are asked, the listener is tried through the pod's own addresses. The chart's NetworkPolicy lets everybody
//! in on its port. Must not: read more than the challenge, hold a connection for longer than a moment, or let one address
//! take the places of all others: who keeps pods from an answer hides that nothing is enforced.

pub mod knock;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use screenshot_policy::canary::{self, Canary as Asked, CanaryFacts, CanaryKey, Finding, LENGTH, Outcome};
use screenshot_policy::policy::EffectivePolicy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::context::random;
use crate::error::Error;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 128;
/// Connections at a time from one address; more are closed at once. A challenge takes milliseconds, so that this is enough
/// for many pods behind one address of their node; one of them that is turned away is asked again later.
const FROM_ONE: usize = 8;
/// For one connection, from its first byte to its last. The challenge comes at once, and TCP repeats one that was lost after
/// a fifth of a second. Less than a pod waits, so that one that has to wait for a place is answered still.
const PATIENCE: Duration = Duration::from_millis(250);
/// For the listener's own answer to this process.
const SELF_CHECK: Duration = Duration::from_millis(500);
/// A check of the listener counts for so long.
const CHECKED: Duration = Duration::from_secs(10);

/// Whether pods can be asked to try the canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// They can.
    Made,
    /// This process knows no address of its pod, or shares the node's.
    #[default]
    NoAddress,
    /// The listener does not answer through the pod's own address.
    Deaf,
    /// The service's policy opens the canary's address, so that it would be reached and prove nothing.
    Opened,
}

/// The canary of this process.
#[derive(Debug)]
pub struct Canary {
    key: CanaryKey,
    addresses: Vec<SocketAddr>,
    checked: Mutex<Option<(Instant, bool)>>,
}

impl Canary {
    /// None: no pod is ever asked, and nothing listens.
    pub fn absent() -> Self {
        Self {
            key: CanaryKey::from_bytes([0; 32]),
            addresses: Vec::new(),
            checked: Mutex::default(),
        }
    }

    /// A canary at `port` of the pod's addresses. Addresses of the node do not count: what is on the node a network plugin
    /// may let its pods reach whatever policies say.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn at(pod: &[IpAddr], node: &[IpAddr], port: u16) -> Result<Self, Error> {
        let own = pod.iter().filter(|ip| !node.contains(ip));
        Ok(Self {
            key: CanaryKey::from_bytes(random()?),
            addresses: own.map(|ip| SocketAddr::new(*ip, port)).collect(),
            checked: Mutex::default(),
        })
    }

    /// The addresses that pods try.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Answers until the token is cancelled.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut peers: HashMap<IpAddr, Arc<Semaphore>> = HashMap::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of descriptors, for example.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // Who has no connection open is forgotten: there are never more of them than connections.
            peers.retain(|_, own| own.available_permits() < FROM_ONE);
            let own = peers
                .entry(peer.ip())
                .or_insert_with(|| Arc::new(Semaphore::new(FROM_ONE)));
            let Ok(own) = Arc::clone(own).try_acquire_owned() else {
                continue;
            };
            // Not for long: each is free again after a moment.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let canary = Arc::clone(&self);
            tokio::spawn(async move {
                let _ = timeout(PATIENCE, canary.answer(stream)).await;
                drop((own, place));
            });
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut challenge = [0; LENGTH];
        stream.read_exact(&mut challenge).await?;
        stream.write_all(&self.key.answer(&challenge)).await?;
        stream.shutdown().await
    }

    /// Whether pods of a service can be asked to try it now.
    pub async fn offer(&self, policy: &EffectivePolicy, operator_namespace: &str, now: Timestamp) -> Offer {
        if self.addresses.is_empty() {
            return Offer::NoAddress;
        }
        let closed = |address: &SocketAddr| canary::is_closed(policy, *address, now);
        let by_selector = || {
            let active = policy.exceptions().iter().filter(|exception| exception.active(now));
            let domain = &policy.egress().cluster.domain;
            let hosts = active.map(|exception| &exception.host);
            let hosts = hosts.chain(policy.upstream().map(|upstream| &upstream.host));
            let mut services = hosts.filter_map(|host| host.in_cluster_service(domain));
            services.any(|(_, namespace)| namespace == operator_namespace)
        };
        if !self.addresses.iter().all(closed) || by_selector() {
            return Offer::Opened;
        }
        if self.answers().await { Offer::Made } else { Offer::Deaf }
    }

    /// What a pod is asked in an attestation request with this nonce.
    pub fn asked(&self, nonce: &[u8; LENGTH]) -> Option<Asked> {
        Asked::new(&self.addresses, &self.key.answer(nonce))
    }

    /// Whether the listener answers through each address of the pod. Asked at most every ten seconds.
    pub async fn answers(&self) -> bool {
        self.answered(|at| at.elapsed() < CHECKED).await
    }

    /// Takes back that a pod found the canary out of reach, if it does not answer this process any more: then nobody was
    /// there, and nothing is proven of the cluster's half. What the pod's proxy refuses stays.
    pub async fn confirm(&self, found: &mut Option<CanaryFacts>) {
        let told = Instant::now();
        let Some(facts) = found.as_mut().filter(|facts| facts.finding() == Finding::Closed) else {
            return;
        };
        // Once more: that one connection was slow is no absence.
        if self.answered(|at| at >= told).await || self.answered(|_| false).await {
            return;
        }
        for one in &mut facts.tries {
            one.outcome = Outcome::NotTried;
        }
    }

    /// What a check said that counts by the time it began at, or one that is made now.
    async fn answered(&self, counts: impl Fn(Instant) -> bool) -> bool {
        let mut checked = self.checked.lock().await;
        if let Some((at, answered)) = *checked
            && counts(at)
        {
            return answered;
        }
        let began = Instant::now();
        let mut answered = !self.addresses.is_empty();
        for address in &self.addresses {
            answered = answered && timeout(SELF_CHECK, self.check(*address)).await.unwrap_or(false);
        }
        if !answered && !self.addresses.is_empty() {
            tracing::warn!("the canary does not answer through this pod's own address");
        }
        *checked = Some((began, answered));
        answered
    }

    #[expect(clippy::disallowed_methods, reason = "this pod's own address")]
    async fn check(&self, address: SocketAddr) -> bool {
        let Ok(challenge) = random::<LENGTH>() else {
            return false;
        };
        let asked = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(&challenge).await?;
            let mut answer = [0; LENGTH];
            stream.read_exact(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        asked.await.is_ok_and(|answer| answer == self.key.answer(&challenge))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the listener on loopback")]
mod tests;
