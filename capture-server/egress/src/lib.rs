//! The filtering forward proxy of one capture: the only way from a page to the network.
//!
//! In: a listener that only one browser context can reach, and a [`Scope`]. Out: a [`Session`], and at its end an
//! [`EgressReport`]. The proxy resolves names itself, refuses if any answer is special, connects to exactly the
//! address that it checked, for each connection anew, and meters what goes through.
//! The crate knows the policy and nothing of callers or of the browser's control protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use screenshot_policy::host::Host;
use screenshot_policy::policy::EffectivePolicy;
use screenshot_policy::tls::SpkiPin;
use tokio::net::TcpListener;
use tokio::sync::watch;

mod budget;
mod connection;
mod decide;
mod dial;
mod forward;
#[cfg(test)]
mod fuzz;
mod head;
mod hello;
mod log;
mod refusal;
mod resolve;
mod response;
mod session;
mod synthetic;
mod tls;
mod tunnel;
mod upstream;
mod wire;

pub use budget::{Budget, Spent};
pub use decide::{Clock, Pinned};
pub use dial::{ConnectError, Dial, SystemDial};
pub use head::{HeadError, MAX_HEAD};
pub use hello::{HelloError, MAX_HELLO};
pub use log::{ALLOWED, Decision, MAX_DECISIONS};
pub use refusal::{Fault, Refusal};
pub use resolve::{Answers, LOOKUP_TIMEOUT, ResolveError, Resolver, SystemResolver};
pub use response::ResponseError;
pub use session::{EgressReport, Scope, Session};
pub use synthetic::Synthetic;
pub use tls::TlsError;
pub use upstream::{Access, AccessError, Credentials, MAX_ANSWER, MAX_CREDENTIAL, UpstreamError};

/// How long the proxy waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// For a whole request head, or the first bytes through a tunnel.
    pub header: Duration,
    /// For one attempt to connect; all attempts of one connection get twice that.
    pub connect: Duration,
    /// Until the first byte of a target: of its response, counted from the last byte of the request, or through a tunnel,
    /// which is of its handshake.
    pub first_byte: Duration,
    /// While nothing moves in either direction.
    pub idle: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(15),
        }
    }
}

/// The proxy: what all sessions share.
#[derive(Clone)]
pub struct Egress {
    decider: Arc<decide::Decider>,
    dial: Arc<dyn Dial>,
    access: watch::Receiver<Arc<Access>>,
    /// Present if the policy names hosts whose keys are checked here.
    tls: Option<Arc<tls::Terminator>>,
    timings: Timings,
    heard: log::Heard,
}

impl Egress {
    /// A proxy that decides by `policy`, whose exceptions expire by `clock`.
    pub fn new(resolver: Arc<dyn Resolver>, dial: Arc<dyn Dial>, policy: Arc<EffectivePolicy>, clock: Clock) -> Self {
        // Its sender is gone: this one stays.
        Self::following(resolver, dial, watch::channel(policy).1, clock)
    }

    /// A proxy that decides by the policy that was sent last; a connection that is open stays so.
    pub fn following(
        resolver: Arc<dyn Resolver>,
        dial: Arc<dyn Dial>,
        policy: watch::Receiver<Arc<EffectivePolicy>>,
        clock: Clock,
    ) -> Self {
        let tls = tls::Terminator::new(policy.borrow().tls_hosts(), &clock).map(Arc::new);
        let decider = Arc::new(decide::Decider {
            policy,
            resolver,
            clock,
        });
        Self {
            decider,
            dial,
            access: watch::channel(Arc::default()).1,
            tls,
            timings: Timings::default(),
            heard: log::Heard::default(),
        }
    }

    /// The same, and `heard` is told the outcome of each decision of every session as it is made, by its bounded word.
    #[must_use]
    pub fn heard_by(self, heard: Arc<dyn Fn(&'static str) + Send + Sync>) -> Self {
        Self {
            heard: log::Heard(heard),
            ..self
        }
    }

    /// The same, with what the upstream proxy is asked with: what was sent last. Without it an upstream that wants a password,
    /// or is spoken to over TLS, is not asked at all.
    #[must_use]
    pub fn with_access(self, access: watch::Receiver<Arc<Access>>) -> Self {
        Self { access, ..self }
    }

    /// The same with other timings.
    #[must_use]
    pub fn with_timings(self, timings: Timings) -> Self {
        Self { timings, ..self }
    }

    /// The same with these authorities instead of the public ones, for the hosts that the policy names.
    #[must_use]
    pub fn with_authorities(self, roots: rustls::RootCertStore) -> Self {
        let tls = self.tls.map(|tls| Arc::new(tls.with_authorities(roots)));
        Self { tls, ..self }
    }

    /// The key of the certificates that browsers are shown in place of those of the hosts that the policy names. Browsers
    /// have to be told to accept it, and no other. It is new with every proxy and never leaves this process.
    pub fn browser_side_key(&self) -> Option<SpkiPin> {
        self.tls.as_ref().map(|tls| tls.key())
    }

    /// What a page would be told now that asks for this address: nothing is connected, counted or logged.
    ///
    /// # Errors
    /// The refusal.
    pub async fn judge(&self, address: SocketAddr) -> Result<(), Refusal> {
        let site = log::Site {
            host: Host::Ip(address.ip()),
            port: address.port(),
        };
        let meter = budget::Meter::new(Budget {
            requests: 1,
            hosts: 1,
            sockets: 1,
            wire_bytes: 1,
        });
        self.decider.decide(&site, &meter).await.map(drop)
    }

    /// Serves `listener` under `scope` until the session is finished or dropped. Must be called in a tokio runtime.
    pub fn open(&self, listener: TcpListener, scope: Scope) -> Session {
        let context = connection::Context {
            decider: Arc::clone(&self.decider),
            dial: Arc::clone(&self.dial),
            access: self.access.clone(),
            tls: self.tls.clone(),
            timings: self.timings,
            synthetic: scope.synthetic,
            meter: budget::Meter::new(scope.budget),
            log: log::Log::new(scope.capture_id, self.heard.clone()),
        };
        Session::start(context, listener, scope.deadline)
    }
}
