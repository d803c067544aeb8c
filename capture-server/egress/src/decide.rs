//! The egress decision.
//!
//! In: a host and port that a page asked for. Out: pinned destinations, or the refusal. The order is fixed:
//! policy on the name, host budget, look-up, policy on every alias and every address. The rules are the policy crate's.
//! Only this room makes a [`Pinned`], and `dial` accepts nothing else, so an unchecked connection does not compile.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use screenshot_policy::host::Host;
use screenshot_policy::policy::EffectivePolicy;
use tokio::sync::watch;

use crate::budget::Meter;
use crate::log::Site;
use crate::refusal::Refusal;
use crate::resolve::{Answers, Resolver};

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

/// Decides by the policy.
pub(crate) struct Decider {
    pub(crate) policy: watch::Receiver<Arc<EffectivePolicy>>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) clock: Clock,
}

impl Decider {
    /// The destinations for one connection to `site`, checked now; IPv4 first.
    pub(crate) async fn decide(&self, site: &Site, meter: &Meter) -> Result<Vec<Pinned>, Refusal> {
        // One policy for the whole decision, though another may come meanwhile.
        let policy = Arc::clone(&self.policy.borrow());
        let verdict = policy.admit_host(&site.host, site.port, (self.clock)())?;
        meter.host(&site.host.to_string())?;
        let answers = self.answers(&site.host).await?;
        policy.admit_aliases(&verdict, &answers.aliases)?;
        // The time is read again: an exception may have run out during the look-up.
        let mut admitted = policy.admit_addresses(&verdict, &answers.addresses, (self.clock)())?;
        admitted.sort_by_key(IpAddr::is_ipv6);
        let pin = |ip| Pinned {
            address: SocketAddr::new(ip, site.port),
        };
        Ok(admitted.into_iter().map(pin).collect())
    }

    async fn answers(&self, host: &Host) -> Result<Answers, Refusal> {
        match host {
            Host::Ip(ip) => Ok(Answers {
                aliases: Vec::new(),
                addresses: vec![*ip],
            }),
            Host::Name(name) => Ok(self.resolver.lookup(name).await?),
        }
    }
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
