//! Egress decisions: what a page may reach, before and after the name is resolved.
//!
//! In: the policy, a host, a port, addresses, a point in time. Out: a verdict or a [`Refusal`].
//! Pure: the proxy resolves and connects, the operator renders NetworkPolicies, both ask here.
//! The order is fixed. Deny rules stand above everything, also above exceptions; an allow rule or an exception never
//! switches off the check of addresses, and nothing opens metadata addresses, the pod itself or its link.

mod exception;
mod reach;
mod upstream;

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::address::{AddressClass, Block};
use crate::domain::{self, DomainRule};
use crate::host::{Host, HostName};
use crate::policy::EffectivePolicy;
use crate::unit::Port;

pub use exception::{EgressException, ExceptionError, MAX_EXCEPTION_PORTS};
pub(crate) use reach::Reach;
#[cfg(test)]
pub(crate) use upstream::tests::{no_wider_way, some_upstream};
pub use upstream::{Resolution, UpstreamProxy, UpstreamRule, UpstreamScheme};

/// At most this many addresses of one name are looked at; more is refused.
pub const MAX_ADDRESSES: usize = 64;
/// At most this many aliases (CNAME records) may stand between a name and its addresses; more is refused.
pub const MAX_ALIASES: usize = 8;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The port is not open.
    Port,
    /// The name only means something inside; the word says which rule.
    SpecialName(&'static str),
    /// A deny rule holds the name.
    DeniedName,
    /// There are allow rules, and none holds the name (an address has none).
    UnlistedName,
    /// One of the addresses is not global.
    SpecialAddress(AddressClass),
    /// A deny rule holds one of the addresses.
    DeniedAddress,
    /// One of the addresses is the cluster's own, although it is public.
    ClusterAddress,
    /// There are allow rules for addresses, and none holds one of them.
    UnlistedAddress,
    /// The name has no address.
    NoAddress,
    /// The name has more than [`MAX_ADDRESSES`] addresses.
    TooManyAddresses,
    /// More than [`MAX_ALIASES`] aliases stand between the name and its addresses.
    TooManyAliases,
    /// The exception's range does not hold one of the addresses, or the exception ended meanwhile.
    OutsideException,
}

impl Refusal {
    /// The bounded word for metrics, logs and problem details.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Port => "port_not_allowed",
            Self::SpecialName(rule) => rule,
            Self::DeniedName => "denied_name",
            Self::UnlistedName => "unlisted_name",
            Self::SpecialAddress(class) => class.reason(),
            Self::DeniedAddress => "denied_address",
            Self::ClusterAddress => "cluster_address",
            Self::UnlistedAddress => "unlisted_address",
            Self::NoAddress => "no_address",
            Self::TooManyAddresses => "too_many_addresses",
            Self::TooManyAliases => "too_many_aliases",
            Self::OutsideException => "outside_exception",
        }
    }
}

/// A host and port that may be resolved. Only [`EffectivePolicy::admit_host`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostVerdict {
    host: Host,
    port: u16,
    excepted: bool,
    /// Whether an exception that holds says nothing of where the host may lead.
    unbounded: bool,
}

impl HostVerdict {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether an exception names it.
    pub fn is_excepted(&self) -> bool {
        self.excepted
    }
}

impl EffectivePolicy {
    /// The exceptions that hold for a host and port now: several may, each with a range of its own.
    fn excepting<'a>(
        &'a self,
        host: &'a Host,
        port: u16,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a EgressException> + Clone {
        let port = Port::try_from(port).ok();
        let holds = move |exception: &&EgressException| port.is_some_and(|port| exception.matches(host, port, now));
        self.exceptions().iter().filter(holds)
    }

    /// Before the look-up: port and name.
    pub fn admit_host(&self, host: &Host, port: u16, now: Timestamp) -> Result<HostVerdict, Refusal> {
        let rules = self.egress();
        if self.denies_host(host) {
            return Err(Refusal::DeniedName);
        }
        let exceptions = self.excepting(host, port, now);
        let excepted = exceptions.clone().next().is_some();
        let unbounded = exceptions.clone().any(|exception| exception.cidr.is_none());
        if !excepted {
            match host {
                Host::Name(name) => self.admit_name(name)?,
                Host::Ip(ip) => self.admit_literal(*ip)?,
            }
            if !rules.ports.iter().any(|open| open.get() == port) {
                return Err(Refusal::Port);
            }
        }
        Ok(HostVerdict {
            host: host.clone(),
            port,
            excepted,
            unbounded,
        })
    }

    fn admit_name(&self, name: &HostName) -> Result<(), Refusal> {
        let rules = self.egress();
        if let Some(rule) = self.special(name) {
            return Err(Refusal::SpecialName(rule));
        }
        let listed = rules.domains.allow.is_empty() || domain::any_holds(&rules.domains.allow, name);
        if listed { Ok(()) } else { Err(Refusal::UnlistedName) }
    }

    fn admit_literal(&self, ip: IpAddr) -> Result<(), Refusal> {
        if let Some(refusal) = Reach::of(self).closed(ip) {
            return Err(refusal);
        }
        let listed = self.egress().domains.allow.is_empty();
        if listed { Ok(()) } else { Err(Refusal::UnlistedName) }
    }

    /// After the look-up, the names on the way: a public name must not be an alias of one that is denied or only means
    /// something inside, or the cluster's own name server would be made to answer for it. A Service that an exception
    /// opens without a range is no alias: whoever may edit it would choose the address (`ExternalName`).
    pub fn admit_aliases(&self, verdict: &HostVerdict, aliases: &[HostName]) -> Result<(), Refusal> {
        if aliases.len() > MAX_ALIASES {
            return Err(Refusal::TooManyAliases);
        }
        if !aliases.is_empty() && self.trusts_service(verdict) {
            return Err(Refusal::OutsideException);
        }
        let rules = self.egress();
        for alias in aliases {
            if domain::any_holds(&rules.domains.deny, alias) {
                return Err(Refusal::DeniedName);
            }
            if let Some(rule) = self.special(alias).filter(|_| !verdict.excepted) {
                return Err(Refusal::SpecialName(rule));
            }
        }
        Ok(())
    }

    /// Whether an exception opens a Service of the cluster wherever it points to.
    fn trusts_service(&self, verdict: &HostVerdict) -> bool {
        let service = verdict.host.in_cluster_service(&self.egress().cluster.domain);
        verdict.unbounded && service.is_some()
    }

    fn special(&self, name: &HostName) -> Option<&'static str> {
        let own = name.is_or_under(self.egress().cluster.domain.as_str());
        name.special().or(own.then_some("cluster_name"))
    }

    /// After the look-up: every address must be admissible, else none is (a name that answers with a public and a
    /// private address is an attack or a mistake).
    pub fn admit_addresses(
        &self,
        verdict: &HostVerdict,
        addresses: &[IpAddr],
        now: Timestamp,
    ) -> Result<Vec<IpAddr>, Refusal> {
        if addresses.is_empty() {
            return Err(Refusal::NoAddress);
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(Refusal::TooManyAddresses);
        }
        let reach = Reach::of(self);
        // They may have ended since the name was admitted.
        let exceptions = self.excepting(&verdict.host, verdict.port, now);
        for ip in addresses {
            let refusal = if verdict.excepted {
                reach.never(*ip).or_else(|| {
                    let holds = exceptions.clone().any(|exception| exception.holds(*ip));
                    (!holds).then_some(Refusal::OutsideException)
                })
            } else {
                reach.closed(*ip)
            };
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
        }
        Ok(addresses.iter().map(IpAddr::to_canonical).collect())
    }

    /// Every range that the policy names for this cluster, allowed or denied, those that were found included.
    pub fn own_ranges(&self) -> impl Iterator<Item = IpNet> {
        let rules = self.egress();
        let denied = rules.cidrs.deny.iter().chain(&rules.cluster.cidrs);
        let own = rules.cidrs.allow.iter().chain(denied);
        own.chain(self.cluster_ranges().cidrs()).map(|cidr| cidr.net())
    }

    /// What a NetworkPolicy opens on the policy's ports: every global address but the cluster's and the denied ones.
    pub fn open_blocks(&self) -> Vec<Block> {
        Reach::of(self).open()
    }

    /// What a NetworkPolicy opens for one of the policy's exceptions on its ports: the literal address or the range, less
    /// what nothing opens. Empty for a name without a range: then it is the pods behind a Service, or nothing.
    pub fn exception_blocks(&self, exception: &EgressException) -> Vec<Block> {
        if self.denies_host(&exception.host) {
            return Vec::new();
        }
        let blocks = exception.range().map(|range| Reach::of(self).named(range.net()));
        blocks.unwrap_or_default()
    }

    /// Whether a deny list takes away all that an exception would open.
    pub fn denies_exception(&self, exception: &EgressException) -> bool {
        // The check of exceptions left none that is closed as a whole without the lists.
        let ranged = exception.range().is_some();
        self.denies_host(&exception.host) || (ranged && self.exception_blocks(exception).is_empty())
    }

    /// By the name that was asked for, or by that which is looked up for it.
    fn denies_host(&self, host: &Host) -> bool {
        let rules = self.egress();
        let denies = |name: &HostName| domain::any_holds(&rules.domains.deny, name);
        let Host::Name(name) = host else { return false };
        let domain = &rules.cluster.domain;
        let is_service = || host.in_cluster_service(domain).is_some();
        denies(name) || (is_service() && host.full_name(domain).is_some_and(|full| denies(&full)))
    }

    /// Whether a rule that allows is about nothing that a page could reach without an exception: only names that mean
    /// something inside.
    pub fn allows_nothing(&self, rule: &DomainRule) -> bool {
        rule.sample().is_some_and(|name| self.special(&name).is_some())
    }
}

#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod tests;
