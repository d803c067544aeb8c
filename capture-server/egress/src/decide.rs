//! The egress decision.
//!
//! In: a host and port that a page asked for. Out: pinned destinations or what the upstream may be asked for, or the refusal.
//! The order is fixed: policy on the name, host budget, look-up, policy on every alias and every address. The rules are the
//! policy crate's. Only this room makes a [`Pinned`] or a [`Target`], and `dial` and `upstream` accept nothing else, so an
//! unchecked connection does not compile.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use screenshot_policy::egress::{Resolution, UpstreamProxy};
use screenshot_policy::host::Host;
use screenshot_policy::policy::EffectivePolicy;
use screenshot_policy::tls::{SpkiPin, Trust};
use tokio::sync::watch;

use crate::budget::Meter;
use crate::log::Site;
use crate::refusal::Refusal;
use crate::resolve::{Answers, ResolveError, Resolver};
use crate::upstream::UpstreamError;

/// Tells the time that exceptions expire by.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// An address that the policy has admitted for one connection.
///
/// ```compile_fail,E0451
/// let _ = capture_egress::Pinned { address: "127.0.0.1:80".parse().unwrap() };
/// ```
/// ```compile_fail,E0599
/// let _ = capture_egress::Pinned::new("127.0.0.1:80".parse().unwrap());
/// ```
/// ```compile_fail,E0308
/// use capture_egress::{Dial, SystemDial};
/// let address: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
/// let _ = SystemDial.connect(address);
/// ```
/// Reading one is fine (this is what shows that the three above fail for the right reason):
/// ```
/// fn read(pinned: capture_egress::Pinned) -> std::net::SocketAddr {
///     pinned.address()
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    address: SocketAddr,
}

impl Pinned {
    /// The address to connect to.
    pub fn address(self) -> SocketAddr {
        self.address
    }
}

/// What the upstream may be asked for: a checked address, or a name where the policy says that the upstream resolves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    host: Host,
    port: u16,
}

impl Target {
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address, if that is what is asked for.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The way of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the destination itself.
    Direct(Vec<Pinned>),
    /// Through the upstream.
    Upstream(UpstreamProxy, Vec<Target>),
}

/// What one connection to a host that the policy names asks of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) trust: Trust,
    pub(crate) pins: Vec<SpkiPin>,
}

/// Decides by the policy.
pub(crate) struct Decider {
    pub(crate) policy: watch::Receiver<Arc<EffectivePolicy>>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) clock: Clock,
}

impl Decider {
    /// The way of one connection to `site`, its destinations checked now; IPv4 first.
    pub(crate) async fn decide(&self, site: &Site, meter: &Meter) -> Result<Way, Refusal> {
        // One policy for the whole decision, though another may come meanwhile.
        let policy = Arc::clone(&self.policy.borrow());
        let verdict = policy.admit_host(&site.host, site.port, (self.clock)())?;
        meter.host(&site.host.to_string())?;
        // An exception is a place inside, which nobody outside could lead to.
        let upstream = policy.upstream().filter(|_| !verdict.is_excepted());
        if let (Some(upstream), Host::Name(_)) = (upstream, &site.host)
            && upstream.resolve == Resolution::Remote
        {
            let target = Target {
                host: site.host.clone(),
                port: site.port,
            };
            return Ok(Way::Upstream(upstream.clone(), vec![target]));
        }
        let answers = self.answers(&policy, &site.host).await?;
        policy.admit_aliases(&verdict, &answers.aliases)?;
        // The time is read again: an exception may have run out during the look-up.
        let mut admitted = policy.admit_addresses(&verdict, &answers.addresses, (self.clock)())?;
        admitted.sort_by_key(IpAddr::is_ipv6);
        let target = |ip| Target {
            host: Host::Ip(ip),
            port: site.port,
        };
        Ok(match upstream {
            None => Way::Direct(pin(admitted, site.port)),
            Some(upstream) => Way::Upstream(upstream.clone(), admitted.into_iter().map(target).collect()),
        })
    }

    /// The upstream's own addresses, checked now; IPv4 first.
    pub(crate) async fn upstream(&self, upstream: &UpstreamProxy) -> Result<Vec<Pinned>, UpstreamError> {
        let policy = Arc::clone(&self.policy.borrow());
        let answers = self.answers(&policy, &upstream.host).await;
        let answers = answers.map_err(|_| UpstreamError::Unresolved)?;
        let mut admitted = policy
            .admit_upstream(upstream, &answers.aliases, &answers.addresses)
            .map_err(|_| UpstreamError::Address)?;
        admitted.sort_by_key(IpAddr::is_ipv6);
        Ok(pin(admitted, upstream.port.get()))
    }

    /// What has to vouch now for a host whose keys the policy names, and the keys.
    pub(crate) fn keys(&self, host: &Host) -> Option<Keys> {
        let policy = self.policy.borrow();
        policy.tls_host(host).map(|named| Keys {
            trust: named.trust_at((self.clock)()),
            pins: named.spki_pins.clone(),
        })
    }

    async fn answers(&self, policy: &EffectivePolicy, host: &Host) -> Result<Answers, Refusal> {
        if let Host::Ip(ip) = host {
            return Ok(Answers {
                aliases: Vec::new(),
                addresses: vec![*ip],
            });
        }
        let name = host
            .full_name(&policy.egress().cluster.domain)
            .ok_or(ResolveError::NotFound)?;
        Ok(self.resolver.lookup(&name).await?)
    }
}

fn pin(admitted: Vec<IpAddr>, port: u16) -> Vec<Pinned> {
    let pin = |ip| Pinned {
        address: SocketAddr::new(ip, port),
    };
    admitted.into_iter().map(pin).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a target on loopback")]
mod tests {
    use super::*;
    use crate::dial::{Dial, SystemDial};

    #[tokio::test]
    async fn the_system_dialler_connects_to_exactly_the_pinned_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = SystemDial.connect(Pinned { address }).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert_eq!(listener.accept().await.unwrap().1, stream.local_addr().unwrap());
    }
}
