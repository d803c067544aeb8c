//! The upstream proxy: where every public connection goes that is not an exception's.
//!
//! In: scheme, host, port, who resolves, a range. Out: whether it can ever act, which of its addresses may be dialled, and
//! for a NetworkPolicy the blocks that hold them. Its address may be private, as it was named by whoever owns the service;
//! it is never a metadata address, the pod itself or its link. No secret stands here: only that one is needed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::exception::check_range;
use super::{ExceptionError, MAX_ADDRESSES, Reach, Refusal};
use crate::address::Block;
use crate::cidr::Cidr;
use crate::host::{Host, HostName};
use crate::policy::{CidrLists, EffectivePolicy, EgressRules};
use crate::unit::Port;

/// How the upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum UpstreamScheme {
    /// HTTP CONNECT over TCP.
    Http,
    /// HTTP CONNECT over TLS.
    Https,
    /// SOCKS version 5, RFC 1928.
    Socks5,
}

/// Who turns a page's host name into an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Resolution {
    /// The capture pod, which checks the address and hands that on.
    #[default]
    Local,
    /// The upstream, which is handed the name: no address is checked. Explicit and shown as a warning.
    Remote,
}

/// Where public connections go first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamProxy {
    /// How it is spoken to.
    pub scheme: UpstreamScheme,
    /// Host name or literal address.
    pub host: Host,
    /// Its port.
    pub port: Port,
    /// The range that its addresses must lie in. Without one: the literal address, the pods behind a Service, else any
    /// public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Who resolves.
    pub resolve: Resolution,
    /// Whether it is asked with a user name and a password; then never without.
    pub authenticated: bool,
    /// Whether its certificate must be from the authorities that the pod is given, instead of the public ones.
    pub ca_bundle: bool,
}

/// Which rule an upstream proxy breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamRule {
    /// Its range or literal address can never be dialled.
    #[error("{0}")]
    Range(#[from] ExceptionError),
    /// There are lists of addresses, which nothing holds where the upstream resolves.
    #[error("lists of address ranges cannot hold where the upstream proxy resolves names")]
    UnheldLists,
}

impl UpstreamProxy {
    /// Checks it together with the rules that it stands in.
    pub(crate) fn check(&self, rules: &EgressRules) -> Result<(), UpstreamRule> {
        let range = self.range();
        range.map_or(Ok(()), |range| check_range(range, &rules.nat64_prefixes))?;
        let listed = !rules.cidrs.allow.is_empty() || !rules.cidrs.deny.is_empty();
        if self.resolve == Resolution::Remote && listed {
            return Err(UpstreamRule::UnheldLists);
        }
        Ok(())
    }

    /// The range that its addresses lie in, if it says so.
    fn range(&self) -> Option<Cidr> {
        match self.host {
            Host::Ip(ip) => Some(Cidr::of(ip)),
            Host::Name(_) => self.cidr,
        }
    }
}

impl EffectivePolicy {
    /// Where public connections go first, if not straight to their destination.
    pub fn upstream(&self) -> Option<&UpstreamProxy> {
        self.egress().upstream_proxy.as_ref()
    }

    /// Whether anything is asked of the upstream at all: without a port that is open there are only exceptions.
    pub fn uses_upstream(&self) -> bool {
        self.upstream().is_some() && !self.egress_ports().is_empty()
    }

    /// The addresses of the upstream that may be dialled: all that it has, else none. A Service without a range is no alias,
    /// as none is that an exception opens: whoever may edit it would choose the address (`ExternalName`).
    ///
    /// # Errors
    /// The first reason against one of them.
    pub fn admit_upstream(
        &self,
        upstream: &UpstreamProxy,
        aliases: &[HostName],
        addresses: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Refusal> {
        if addresses.is_empty() {
            return Err(Refusal::NoAddress);
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(Refusal::TooManyAddresses);
        }
        let rules = self.without_lists();
        let reach = Reach::within(&rules, self.cluster_ranges().cidrs());
        let service = upstream.host.in_cluster_service(&self.egress().cluster.domain);
        if !aliases.is_empty() && service.is_some() && upstream.range().is_none() {
            return Err(Refusal::OutsideException);
        }
        let against = |ip: IpAddr| match upstream.range() {
            Some(range) => reach
                .never(ip)
                .or_else(|| (!range.contains(ip)).then_some(Refusal::OutsideException)),
            None if service.is_some() => reach.never(ip),
            None => reach.closed(ip),
        };
        match addresses.iter().find_map(|ip| against(*ip)) {
            Some(refusal) => Err(refusal),
            None => Ok(addresses.iter().map(IpAddr::to_canonical).collect()),
        }
    }

    /// What a NetworkPolicy opens for the upstream on its port. Empty for a Service without a range: then it is the pods
    /// behind it.
    pub fn upstream_blocks(&self, upstream: &UpstreamProxy) -> Vec<Block> {
        let service = upstream.host.in_cluster_service(&self.egress().cluster.domain);
        let rules = self.without_lists();
        let reach = Reach::within(&rules, self.cluster_ranges().cidrs());
        match upstream.range() {
            Some(range) => reach.named(range.net()),
            None if service.is_some() => Vec::new(),
            None => reach.open(),
        }
    }

    /// The rules less the lists of addresses: those are about pages, not about the way out.
    fn without_lists(&self) -> EgressRules {
        EgressRules {
            cidrs: CidrLists::default(),
            ..self.egress().clone()
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
