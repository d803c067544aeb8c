//! Addresses under a policy: the table together with the policy's own ranges.
//!
//! In: the policy's ranges. Out: for the proxy the reason why an address is closed, for a NetworkPolicy the blocks
//! that are open. Both are read from one value, so that they cannot drift apart.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::Refusal;
use crate::address::{self, AddressClass, Block, Nat64Prefix, V6_GLOBAL};
use crate::cidr::Cidr;
use crate::policy::{EffectivePolicy, EgressRules};

/// A policy's view of the address space.
pub(crate) struct Reach<'p> {
    rules: &'p EgressRules,
    /// What the cluster has of its own beside what the policy says.
    cluster: &'p [Cidr],
}

impl<'p> Reach<'p> {
    /// The view of this policy.
    pub(crate) fn of(policy: &'p EffectivePolicy) -> Self {
        Self {
            rules: policy.egress(),
            cluster: policy.cluster_ranges().cidrs(),
        }
    }

    /// The view of these rules in a cluster with these ranges of its own.
    pub(super) fn within(rules: &'p EgressRules, cluster: &'p [Cidr]) -> Self {
        Self { rules, cluster }
    }

    /// The class of an address on this cluster's network.
    pub(crate) fn class(&self, ip: IpAddr) -> AddressClass {
        address::classify_with(ip, &self.rules.nat64_prefixes)
    }

    /// Why a page may not reach the address without an exception.
    pub(crate) fn closed(&self, ip: IpAddr) -> Option<Refusal> {
        let class = self.class(ip);
        if !class.is_global() {
            return Some(Refusal::SpecialAddress(class));
        }
        let rules = self.rules;
        if self.held(&rules.cidrs.deny, ip) {
            Some(Refusal::DeniedAddress)
        } else if self.held(&rules.cluster.cidrs, ip) || self.held(self.cluster, ip) {
            Some(Refusal::ClusterAddress)
        } else if !rules.cidrs.allow.is_empty() && !self.held(&rules.cidrs.allow, ip) {
            Some(Refusal::UnlistedAddress)
        } else {
            None
        }
    }

    /// Why not even an exception opens the address.
    pub(crate) fn never(&self, ip: IpAddr) -> Option<Refusal> {
        let class = self.class(ip);
        if !class.may_be_excepted() {
            Some(Refusal::SpecialAddress(class))
        } else if self.held(&self.rules.cidrs.deny, ip) {
            Some(Refusal::DeniedAddress)
        } else {
            None
        }
    }

    /// Whether a range holds the address, or the IPv4 address that it leads to.
    fn held(&self, ranges: &[Cidr], ip: IpAddr) -> bool {
        let behind = address::behind(ip, &self.rules.nat64_prefixes);
        ranges
            .iter()
            .any(|range| range.contains(ip) || behind.is_some_and(|v4| range.contains(v4)))
    }

    /// The blocks that are open without an exception.
    pub(crate) fn open(&self) -> Vec<Block> {
        let rules = self.rules;
        let (deny4, deny6) = families(rules.cidrs.deny.iter().chain(&rules.cluster.cidrs).chain(self.cluster));
        let (allow4, allow6) = families(&rules.cidrs.allow);
        let any = rules.cidrs.allow.is_empty();

        let mut closed4 = address::v4_excepts();
        closed4.extend(&deny4);
        let base4 = if any { vec![Ipv4Net::default()] } else { allow4.clone() };
        let mut open = opened(
            base4.into_iter().map(IpNet::V4),
            closed4.iter().map(|net| IpNet::V4(*net)),
        );

        // A translated prefix has rules of its own, so the block around it must leave it out.
        let translated = rules.nat64_prefixes.iter().map(|prefix| IpNet::V6(prefix.net()));
        let special6 = address::v6_excepts().into_iter().map(IpNet::V6);
        let closed6 = special6.chain(deny6.iter().copied()).chain(translated);
        let whole6 = IpNet::V6(V6_GLOBAL);
        let base6 = if any { vec![whole6] } else { within(&allow6, whole6) };
        open.extend(opened(base6, closed6));

        for prefix in &rules.nat64_prefixes {
            let closed = closed4.iter().map(|net| image(*prefix, *net));
            let closed = closed.chain(address::fixed()).chain(deny6.iter().copied());
            let base = if any {
                vec![IpNet::V6(prefix.net())]
            } else {
                let images = allow4.iter().map(|net| image(*prefix, *net));
                images.chain(within(&allow6, IpNet::V6(prefix.net()))).collect()
            };
            open.extend(opened(base, closed));
        }
        open
    }

    /// The blocks of a range that the policy names: all of it but what [`never`](Self::never) closes.
    pub(crate) fn named(&self, range: IpNet) -> Vec<Block> {
        let rules = self.rules;
        let denied = || rules.cidrs.deny.iter().map(|cidr| cidr.net());
        let closed: Vec<IpNet> = address::never_excepted().into_iter().chain(denied()).collect();
        // As in `open`: what lies in a translated prefix is judged by what it leads to.
        let translated = rules.nat64_prefixes.iter().map(|prefix| IpNet::V6(prefix.net()));
        let mut open = opened([range], closed.iter().copied().chain(translated));
        for prefix in &rules.nat64_prefixes {
            let base = within(&[range], IpNet::V6(prefix.net()));
            let closed = prefix.images(&closed).chain(address::fixed()).chain(denied());
            open.extend(opened(base, closed));
        }
        open
    }
}

fn image(prefix: Nat64Prefix, net: Ipv4Net) -> IpNet {
    IpNet::V6(prefix.image(net))
}

fn families<'c>(ranges: impl IntoIterator<Item = &'c Cidr>) -> (Vec<Ipv4Net>, Vec<IpNet>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for range in ranges {
        match range.net() {
            IpNet::V4(net) => v4.push(net),
            net @ IpNet::V6(_) => v6.push(net),
        }
    }
    (v4, v6)
}

/// The parts of `ranges` that lie in `whole`: ranges nest or are apart, so each is itself, `whole` or nothing.
fn within(ranges: &[IpNet], whole: IpNet) -> Vec<IpNet> {
    let part = |range: &IpNet| {
        if whole.contains(range) {
            Some(*range)
        } else {
            range.contains(&whole).then_some(whole)
        }
    };
    ranges.iter().filter_map(part).collect()
}

fn opened(base: impl IntoIterator<Item = IpNet>, closed: impl IntoIterator<Item = IpNet>) -> Vec<Block> {
    let closed = IpNet::aggregate(&closed.into_iter().collect());
    IpNet::aggregate(&base.into_iter().collect())
        .into_iter()
        .flat_map(|base| address::blocks(base, &closed))
        .collect()
}
