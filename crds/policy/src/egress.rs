//! Egress decisions: what a page may reach, before and after the name is resolved.
//!
//! In: the policy, a host, a port, addresses, a point in time. Out: a verdict or a [`Refusal`].
//! Pure: the proxy resolves and connects, the operator renders NetworkPolicies, both ask here.
//! A named exception opens exactly one host on its ports until it expires; it never opens metadata addresses,
//! the pod itself or its link.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::{AddressClass, classify};
use crate::host::{Host, HostError};
use crate::policy::EffectivePolicy;

/// At most this many addresses of one name are looked at; more is refused.
pub const MAX_ADDRESSES: usize = 64;
/// At most this many ports stand in an exception.
pub const MAX_EXCEPTION_PORTS: usize = 16;

/// A named exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressException {
    /// Host name or literal address, matched exactly.
    pub host: String,
    /// Ports that are opened on it: 1 to [`MAX_EXCEPTION_PORTS`].
    pub ports: Vec<u16>,
    /// The range that the host's addresses must lie in; without it, any address that can be excepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<IpNet>,
    /// Why it is needed: 1 to 256 characters.
    pub reason: String,
    /// When it ends by itself.
    pub expires: Timestamp,
}

/// Which rule an exception breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExceptionError {
    /// The host is not a host.
    #[error("host: {0}")]
    Host(HostError),
    /// No port, too many, or port 0.
    #[error("ports must have 1 to {MAX_EXCEPTION_PORTS} items between 1 and 65535")]
    Ports,
    /// No reason given, or too long.
    #[error("reason must have 1 to 256 characters")]
    Reason,
    /// The range or literal address can never be opened.
    #[error("{} can never be excepted", .0.reason())]
    NeverExcepted(AddressClass),
}

impl EgressException {
    /// Checks everything that does not depend on time.
    pub fn check(&self) -> Result<(), ExceptionError> {
        let host: Host = self.host.parse().map_err(ExceptionError::Host)?;
        if self.ports.is_empty() || self.ports.len() > MAX_EXCEPTION_PORTS || self.ports.contains(&0) {
            return Err(ExceptionError::Ports);
        }
        if self.reason.is_empty() || self.reason.chars().count() > 256 {
            return Err(ExceptionError::Reason);
        }
        let mut named = self.cidr.map(|net| net.network()).into_iter().chain(match host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        });
        match named.find(|ip| !classify(*ip).may_be_excepted()) {
            Some(ip) => Err(ExceptionError::NeverExcepted(classify(ip))),
            None => Ok(()),
        }
    }

    /// Whether it holds at a point in time.
    pub fn active(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    fn matches(&self, host: &Host, port: u16, now: Timestamp) -> bool {
        self.active(now) && self.ports.contains(&port) && self.host.parse::<Host>().is_ok_and(|named| named == *host)
    }

    fn admits(&self, ip: IpAddr) -> bool {
        classify(ip).may_be_excepted() && self.cidr.is_none_or(|net| net.contains(&ip.to_canonical()))
    }
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The port is not open.
    Port,
    /// The name only means something inside; the word says which rule.
    SpecialName(&'static str),
    /// One of the addresses is not global.
    SpecialAddress(AddressClass),
    /// The name has no address.
    NoAddress,
    /// The name has more than [`MAX_ADDRESSES`] addresses.
    TooManyAddresses,
    /// The exception's range does not hold one of the addresses, or the exception ended meanwhile.
    OutsideException,
}

impl Refusal {
    /// The bounded word for metrics, logs and problem details.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Port => "port_not_allowed",
            Self::SpecialName(rule) => rule,
            Self::SpecialAddress(class) => class.reason(),
            Self::NoAddress => "no_address",
            Self::TooManyAddresses => "too_many_addresses",
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
}

impl EffectivePolicy {
    fn exception(&self, host: &Host, port: u16, now: Timestamp) -> Option<&EgressException> {
        self.exceptions()
            .iter()
            .find(|exception| exception.matches(host, port, now))
    }

    /// Before the look-up: port and name.
    pub fn admit_host(&self, host: &Host, port: u16, now: Timestamp) -> Result<HostVerdict, Refusal> {
        let excepted = self.exception(host, port, now).is_some();
        if !excepted {
            if let Host::Name(name) = host
                && let Some(rule) = name.special()
            {
                return Err(Refusal::SpecialName(rule));
            }
            if let Host::Ip(ip) = host
                && !classify(*ip).is_global()
            {
                return Err(Refusal::SpecialAddress(classify(*ip)));
            }
            if !self.egress_ports().contains(&port) {
                return Err(Refusal::Port);
            }
        }
        Ok(HostVerdict {
            host: host.clone(),
            port,
            excepted,
        })
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
        let exception = verdict
            .excepted
            .then(|| self.exception(&verdict.host, verdict.port, now));
        for ip in addresses {
            match exception {
                None if classify(*ip).is_global() => {}
                None => return Err(Refusal::SpecialAddress(classify(*ip))),
                Some(_) if !classify(*ip).may_be_excepted() => {
                    return Err(Refusal::SpecialAddress(classify(*ip)));
                }
                Some(Some(exception)) if exception.admits(*ip) => {}
                Some(_) => return Err(Refusal::OutsideException),
            }
        }
        Ok(addresses.iter().map(IpAddr::to_canonical).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Ceiling, PolicyDocument};

    const NOW: &str = "2026-11-25T00:00:00Z";

    fn exception(host: &str, cidr: Option<&str>) -> EgressException {
        EgressException {
            host: host.into(),
            ports: vec![8080],
            cidr: cidr.map(|text| text.parse().unwrap()),
            reason: "a test".into(),
            expires: "2026-12-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn policy(exceptions: Vec<EgressException>) -> EffectivePolicy {
        let mut document = PolicyDocument::secure_default("web", "shots");
        document.egress.exceptions = exceptions;
        EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
    }

    fn judge(
        policy: &EffectivePolicy,
        host: &str,
        port: u16,
        addresses: &[&str],
        at: &str,
    ) -> Result<usize, &'static str> {
        let now = at.parse().unwrap();
        let verdict = policy
            .admit_host(&host.parse().unwrap(), port, now)
            .map_err(|refusal| refusal.reason())?;
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        policy
            .admit_addresses(&verdict, &addresses, now)
            .map(|list| list.len())
            .map_err(|refusal| refusal.reason())
    }

    #[test]
    fn without_exceptions_only_global_addresses_on_open_ports_pass() {
        let policy = policy(vec![]);
        assert_eq!(judge(&policy, "example.com", 443, &["93.184.216.34"], NOW), Ok(1));
        assert_eq!(
            judge(&policy, "example.com", 8080, &["93.184.216.34"], NOW),
            Err("port_not_allowed")
        );
        assert_eq!(
            judge(&policy, "example.com", 80, &["93.184.216.34", "10.0.0.1"], NOW),
            Err("private_address")
        );
        assert_eq!(
            judge(&policy, "example.com", 80, &["169.254.169.254"], NOW),
            Err("metadata_address")
        );
        assert_eq!(
            judge(&policy, "example.com", 80, &["::ffff:127.0.0.1"], NOW),
            Err("loopback_address")
        );
        assert_eq!(judge(&policy, "example.com", 80, &[], NOW), Err("no_address"));
        assert_eq!(
            judge(&policy, "example.com", 80, &["8.8.8.8"; 65], NOW),
            Err("too_many_addresses")
        );
        assert_eq!(judge(&policy, "web.t1.svc", 80, &["8.8.8.8"], NOW), Err("cluster_name"));
        assert_eq!(
            judge(&policy, "127.0.0.1", 80, &["127.0.0.1"], NOW),
            Err("loopback_address")
        );
    }

    #[test]
    fn an_exception_opens_its_host_and_port_until_it_expires() {
        let policy = policy(vec![exception("web.t1.svc.cluster.local", None)]);
        let host = "web.t1.svc.cluster.local";
        assert_eq!(judge(&policy, host, 8080, &["10.96.0.7"], NOW), Ok(1));
        assert_eq!(judge(&policy, host, 8081, &["10.96.0.7"], NOW), Err("cluster_name"));
        assert_eq!(
            judge(&policy, "other.t1.svc.cluster.local", 8080, &["10.96.0.7"], NOW),
            Err("cluster_name")
        );
        assert_eq!(
            judge(&policy, host, 8080, &["10.96.0.7"], "2026-11-30T23:59:59Z"),
            Ok(1)
        );
        assert_eq!(
            judge(&policy, host, 8080, &["10.96.0.7"], "2026-12-01T00:00:00Z"),
            Err("cluster_name")
        );
    }

    #[test]
    fn an_exception_that_ends_between_the_two_decisions_admits_nothing() {
        let policy = policy(vec![exception("web.t1.svc", None)]);
        let verdict = policy
            .admit_host(&"web.t1.svc".parse().unwrap(), 8080, NOW.parse().unwrap())
            .unwrap();
        let late = "2026-12-02T00:00:00Z".parse().unwrap();
        assert_eq!(
            policy.admit_addresses(&verdict, &["10.96.0.7".parse().unwrap()], late),
            Err(Refusal::OutsideException)
        );
    }

    #[test]
    fn no_exception_opens_metadata_loopback_or_link_addresses() {
        let policy = policy(vec![exception("web.t1.svc", None)]);
        for (ip, reason) in [
            ("169.254.169.254", "metadata_address"),
            ("168.63.129.16", "metadata_address"),
            ("127.0.0.1", "loopback_address"),
            ("169.254.7.7", "link_local_address"),
            ("::1", "loopback_address"),
            ("fd00:ec2::254", "metadata_address"),
        ] {
            assert_eq!(judge(&policy, "web.t1.svc", 8080, &[ip], NOW), Err(reason), "{ip}");
        }
    }

    #[test]
    fn an_exception_with_a_range_admits_only_addresses_in_it() {
        let policy = policy(vec![exception("intra.example.org", Some("10.1.0.0/16"))]);
        assert_eq!(judge(&policy, "intra.example.org", 8080, &["10.1.2.3"], NOW), Ok(1));
        assert_eq!(
            judge(&policy, "intra.example.org", 8080, &["10.2.2.3"], NOW),
            Err("outside_exception")
        );
        assert_eq!(
            judge(&policy, "intra.example.org", 8080, &["10.1.2.3", "8.8.8.8"], NOW),
            Err("outside_exception")
        );
    }

    #[test]
    fn exceptions_that_could_never_act_or_always_act_are_refused() {
        assert_eq!(
            exception("169.254.169.254", None).check(),
            Err(ExceptionError::NeverExcepted(AddressClass::Metadata))
        );
        assert_eq!(
            exception("a.example.org", Some("127.0.0.0/8")).check(),
            Err(ExceptionError::NeverExcepted(AddressClass::Loopback))
        );
        assert_eq!(
            exception("a b", None).check(),
            Err(ExceptionError::Host(HostError::Character))
        );
        assert_eq!(
            EgressException {
                ports: vec![],
                ..exception("a.b", None)
            }
            .check(),
            Err(ExceptionError::Ports)
        );
        assert_eq!(
            EgressException {
                ports: vec![0],
                ..exception("a.b", None)
            }
            .check(),
            Err(ExceptionError::Ports)
        );
        assert_eq!(
            EgressException {
                reason: String::new(),
                ..exception("a.b", None)
            }
            .check(),
            Err(ExceptionError::Reason)
        );
        assert_eq!(exception("10.1.2.3", None).check(), Ok(()));
    }
}
