//! The cluster's own public ranges: those of its Services, pods, nodes, load balancers and API server.
//!
//! In: addresses as they are found, or the bytes of the file that pods load again and again. Out: one sorted, bounded set
//! with a digest. It is apart from the policy because it changes by itself: a node more must close one more address in
//! every pod without replacing a single one. Only what is public is in it, as everything else is closed anyway; most
//! clusters have none. A set that would be too long is made coarser: more is closed then, never less.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::holds_global;
use crate::canonical;
use crate::cidr::Cidr;
use crate::policy::rule;

/// The only version of the document.
pub const VERSION: u32 = 1;
/// The longest document in bytes.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// At most this many ranges stand in it.
pub const MAX_RANGES: usize = 256;
/// By so many bits ranges grow at a time when there are too many.
const STEP: u8 = 4;

/// The ranges, sorted and apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRanges {
    version: u32,
    cidrs: Vec<Cidr>,
}

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterRangesError {
    /// Not JSON of this shape.
    #[error("the cluster's ranges are not valid: {0}")]
    Syntax(String),
    /// More than [`MAX_DOCUMENT`] bytes.
    #[error("the cluster's ranges have more than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// Another version.
    #[error("version {0} of the cluster's ranges is not supported, expected {VERSION}")]
    Version(u64),
    /// More than [`MAX_RANGES`].
    #[error("there are more than {MAX_RANGES} ranges of the cluster")]
    TooMany,
}

impl ClusterRangesError {
    /// The bounded word for attestation, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::TooLarge => "cluster_ranges_syntax",
            Self::Version(_) => "cluster_ranges_version",
            Self::TooMany => "cluster_ranges_too_many",
        }
    }
}

impl Default for ClusterRanges {
    fn default() -> Self {
        Self {
            version: VERSION,
            cidrs: Vec::new(),
        }
    }
}

impl ClusterRanges {
    /// The set that closes all of these that are public.
    pub fn closing(found: impl IntoIterator<Item = IpNet>) -> Self {
        let public = found
            .into_iter()
            .map(|net| net.trunc())
            .filter(|net| holds_global(*net));
        let mut nets = IpNet::aggregate(&public.collect());
        while nets.len() > MAX_RANGES {
            nets = coarser(&nets);
        }
        // A range that cannot be written is IPv4-mapped, and none of those is public.
        let mut cidrs: Vec<Cidr> = nets.into_iter().filter_map(|net| net.try_into().ok()).collect();
        cidrs.sort_unstable();
        Self {
            version: VERSION,
            cidrs,
        }
    }

    /// Reads the document.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn load(bytes: &[u8]) -> Result<Self, ClusterRangesError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        if bytes.len() > MAX_DOCUMENT {
            return Err(ClusterRangesError::TooLarge);
        }
        let syntax = |error: serde_json::Error| ClusterRangesError::Syntax(rule(&error));
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(syntax)?;
        if versioned.version != u64::from(VERSION) {
            return Err(ClusterRangesError::Version(versioned.version));
        }
        let read: Self = serde_json::from_slice(bytes).map_err(syntax)?;
        if read.cidrs.len() > MAX_RANGES {
            return Err(ClusterRangesError::TooMany);
        }
        Ok(Self::closing(read.cidrs.into_iter().map(Cidr::net)))
    }

    /// The canonical text: what the ConfigMap holds.
    pub fn canonical_json(&self) -> String {
        canonical::json(self)
    }

    /// `sha256:` digest of the canonical text; `None` of the empty set, which needs no file.
    pub fn digest(&self) -> Option<String> {
        (!self.is_empty()).then(|| canonical::digest(self.canonical_json().as_bytes()))
    }

    /// The ranges.
    pub fn cidrs(&self) -> &[Cidr] {
        &self.cidrs
    }

    /// Whether nothing of the cluster is public.
    pub fn is_empty(&self) -> bool {
        self.cidrs.is_empty()
    }

    /// Whether all that `other` closes is closed here.
    pub fn covers(&self, other: &Self) -> bool {
        let held = |net: IpNet| self.cidrs.iter().any(|own| own.net().contains(&net));
        other.cidrs.iter().all(|cidr| held(cidr.net()))
    }
}

/// The range of one address.
pub fn host(ip: IpAddr) -> IpNet {
    Cidr::of(ip).net()
}

/// The smallest ranges of the family that has more of them grow. Ends at one range of length zero for each family.
fn coarser(nets: &[IpNet]) -> Vec<IpNet> {
    let v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
    let most_v4 = nets.iter().filter(|net| v4(net)).count() * 2 >= nets.len();
    let chosen = |net: &IpNet| v4(net) == most_v4;
    let longest = nets.iter().filter(|net| chosen(net)).map(IpNet::prefix_len).max();
    let to = longest.unwrap_or(0).saturating_sub(STEP);
    let grown = nets.iter().map(|net| {
        if chosen(net) && net.prefix_len() > to {
            IpNet::new(net.addr(), to).map_or(*net, |net| net.trunc())
        } else {
            *net
        }
    });
    IpNet::aggregate(&grown.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn text(ranges: &ClusterRanges) -> Vec<String> {
        ranges.cidrs().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_is_public_is_kept_and_neighbours_become_one() {
        let ranges = ClusterRanges::closing(nets(&[
            "10.96.0.0/12",
            "192.168.1.7/32",
            "fd00::/8",
            "169.254.169.254/32",
            "20.1.2.0/25",
            "20.1.2.128/25",
            "20.1.2.3/32",
            "2a00:1::1/64",
        ]));
        assert_eq!(text(&ranges), ["20.1.2.0/24", "2a00:1::/64"]);
        assert_eq!(ClusterRanges::closing(nets(&["10.0.0.0/8"])).digest(), None);
        assert!(ranges.digest().is_some_and(|digest| digest.starts_with("sha256:")));
    }

    #[test]
    fn a_document_reads_back_and_a_wrong_one_is_refused_by_its_rule() {
        let ranges = ClusterRanges::closing(nets(&["20.1.2.0/24", "2a00:1::/64"]));
        assert_eq!(ClusterRanges::load(ranges.canonical_json().as_bytes()), Ok(ranges));
        let many: Vec<String> = (0..257)
            .map(|n| format!("\"20.{}.{}.0/32\"", n / 128, n % 128 * 2))
            .collect();
        for (document, reason) in [
            ("{".to_owned(), "cluster_ranges_syntax"),
            (r#"{"version":1}"#.to_owned(), "cluster_ranges_syntax"),
            (
                r#"{"version":1,"cidrs":["20.1.2.3/24"]}"#.to_owned(),
                "cluster_ranges_syntax",
            ),
            (
                r#"{"version":1,"cidrs":[],"more":1}"#.to_owned(),
                "cluster_ranges_syntax",
            ),
            (r#"{"version":2,"ranges":[]}"#.to_owned(), "cluster_ranges_version"),
            (
                format!(r#"{{"version":1,"cidrs":[{}]}}"#, many.join(",")),
                "cluster_ranges_too_many",
            ),
            (" ".repeat(MAX_DOCUMENT + 1), "cluster_ranges_syntax"),
        ] {
            let refused = ClusterRanges::load(document.as_bytes()).map_err(|error| error.reason());
            assert_eq!(refused, Err(reason), "{document:.60}");
        }
    }

    #[test]
    fn covering_is_told_range_by_range() {
        let wide = ClusterRanges::closing(nets(&["20.1.0.0/16", "9.9.9.9/32"]));
        let narrow = ClusterRanges::closing(nets(&["20.1.2.0/24"]));
        assert!(wide.covers(&narrow) && wide.covers(&wide) && wide.covers(&ClusterRanges::default()));
        assert!(!narrow.covers(&wide));
    }

    #[test]
    fn thousands_of_nodes_become_few_ranges_that_close_all_of_them_and_not_the_world() {
        let nodes: Vec<IpAddr> = (0..5_000u32)
            .map(|n| IpAddr::from((0x1400_0000 + n * 37).to_be_bytes()))
            .collect();
        let ranges = ClusterRanges::closing(nodes.iter().map(|ip| host(*ip)));
        assert!(ranges.cidrs().len() <= MAX_RANGES);
        assert!(
            nodes
                .iter()
                .all(|ip| ranges.cidrs().iter().any(|cidr| cidr.contains(*ip)))
        );
        let closed: u64 = ranges
            .cidrs()
            .iter()
            .map(|cidr| 1u64 << (32 - cidr.net().prefix_len()))
            .sum();
        assert!(closed <= 0x10_0000, "{closed} addresses are closed for 5000 nodes");
    }

    prop_compose! {
        fn range()(bits: u32, length in 8u8..=32, six: bool) -> IpNet {
            if six {
                let address = std::net::Ipv6Addr::from((0x2a00_u128 << 112) | (u128::from(bits) << 64));
                IpNet::new(address.into(), length.saturating_mul(2).max(16)).unwrap().trunc()
            } else {
                IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap().trunc()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_found_is_closed_within_the_bound_and_in_one_form(mut found in prop::collection::vec(range(), 0..600)) {
            let ranges = ClusterRanges::closing(found.clone());
            prop_assert!(ranges.cidrs().len() <= MAX_RANGES);
            for net in found.iter().filter(|net| holds_global(**net)) {
                prop_assert!(ranges.cidrs().iter().any(|cidr| cidr.net().contains(net)), "{}", net);
            }
            found.reverse();
            prop_assert_eq!(&ClusterRanges::closing(found), &ranges, "the order does not matter");
            prop_assert_eq!(ClusterRanges::load(ranges.canonical_json().as_bytes()), Ok(ranges));
        }
    }
}
