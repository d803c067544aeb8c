//! Named exceptions: the only way to private addresses and other ports.
//!
//! In: host, ports, range, reason, end. Out: whether it can ever act, whether it holds now, and what it names: for the
//! proxy address by address, for a NetworkPolicy as a range. It never opens metadata addresses, the pod itself or its link,
//! which is `reach`'s affair, and it ends by itself.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::{self, AddressClass, Nat64Prefix, UNIQUE_LOCAL, V6_GLOBAL, classify, classify_with};
use crate::cidr::Cidr;
use crate::host::Host;
use crate::unit::{Port, Reason};

/// At most this many ports stand in an exception.
pub const MAX_EXCEPTION_PORTS: usize = 16;

/// A named exception.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressException {
    /// Host name or literal address, matched exactly.
    pub host: Host,
    /// Ports that are opened on it: 1 to [`MAX_EXCEPTION_PORTS`].
    #[cfg_attr(test, schemars(length(min = 1, max = 16)))]
    pub ports: Vec<Port>,
    /// The range that the host's addresses must lie in; without it, any address that can be excepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Why it is needed.
    pub reason: Reason,
    /// When it ends by itself.
    #[cfg_attr(test, schemars(schema_with = "crate::schema::instant"))]
    pub expires: Timestamp,
}

/// Which rule an exception breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExceptionError {
    /// No port, or too many.
    #[error("ports must have 1 to {MAX_EXCEPTION_PORTS} items")]
    Ports,
    /// The range or literal address can never be opened.
    #[error("{} can never be excepted", .0.reason())]
    NeverExcepted(AddressClass),
    /// An IPv6 range that is neither public nor private throughout.
    #[error("an IPv6 range must lie within {V6_GLOBAL} or {UNIQUE_LOCAL}")]
    Mixed,
}

impl EgressException {
    /// Checks everything that does not depend on time, in a cluster whose network translates these prefixes to IPv4.
    pub fn check(&self, nat64: &[Nat64Prefix]) -> Result<(), ExceptionError> {
        if self.ports.is_empty() || self.ports.len() > MAX_EXCEPTION_PORTS {
            return Err(ExceptionError::Ports);
        }
        let mut ranges = self.cidr.into_iter().chain(self.literal());
        ranges.try_for_each(|range| check_range(range, nat64))
    }

    /// Whether it holds at a point in time.
    pub fn active(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// The host as a range of one, if it is an address.
    fn literal(&self) -> Option<Cidr> {
        match self.host {
            Host::Ip(ip) => Some(Cidr::of(ip)),
            Host::Name(_) => None,
        }
    }

    /// What it names: the literal address itself if its range holds it, or else its range. None for a name without a
    /// range: then it is the pods behind a Service, or nothing.
    pub(super) fn range(&self) -> Option<Cidr> {
        match self.host {
            Host::Ip(ip) => self.literal().filter(|_| self.holds(ip)),
            Host::Name(_) => self.cidr,
        }
    }

    pub(super) fn matches(&self, host: &Host, port: Port, now: Timestamp) -> bool {
        self.active(now) && self.ports.contains(&port) && self.host == *host
    }

    pub(super) fn holds(&self, ip: IpAddr) -> bool {
        self.cidr.is_none_or(|cidr| cidr.contains(ip))
    }
}

/// The last address of a range that leads anywhere: bits 64 to 71 are zero in prefixes shorter than 96.
fn last_translated(net: IpNet, around: &[Nat64Prefix]) -> IpAddr {
    match net.broadcast() {
        IpAddr::V6(ip) if net.prefix_len() <= 64 && around.iter().any(|prefix| prefix.net().prefix_len() < 96) => {
            let mut octets = ip.octets();
            octets[8] = 0;
            IpAddr::from(octets)
        }
        last => last,
    }
}

/// A range is judged by both its ends: one that starts in private space and ends in multicast opens too much. One that
/// holds a metadata address is refused too, though neither proxy nor NetworkPolicy would open that address. In a NAT64
/// prefix it is judged by what it leads to as well; a range that holds a whole prefix is about more than that, so there
/// what is special behind the prefix merely stays closed.
pub(super) fn check_range(cidr: Cidr, nat64: &[Nat64Prefix]) -> Result<(), ExceptionError> {
    let net = cidr.net();
    let metadata = address::metadata();
    let around = nat64.iter().filter(|prefix| IpNet::V6(prefix.net()).contains(&net));
    let around: Vec<Nat64Prefix> = around.copied().collect();
    let behind: Vec<IpNet> = around.iter().flat_map(|prefix| prefix.images(&metadata)).collect();
    if metadata.iter().chain(&behind).any(|closed| net.contains(closed)) {
        return Err(ExceptionError::NeverExcepted(AddressClass::Metadata));
    }
    // No prefix opens what is refused without it.
    let ends = [net.network(), net.broadcast()];
    let led_to = [net.network(), last_translated(net, &around)];
    let behind = led_to.map(|ip| classify_with(ip, &around));
    let mut classes = ends.map(classify).into_iter().chain(behind);
    if let Some(class) = classes.find(|class| !class.may_be_excepted()) {
        return Err(ExceptionError::NeverExcepted(class));
    }
    match net {
        IpNet::V6(net) if !V6_GLOBAL.contains(&net) && !UNIQUE_LOCAL.contains(&net) => Err(ExceptionError::Mixed),
        _ => Ok(()),
    }
}
