//! IPv6 addresses that lead to IPv4 addresses.
//!
//! In: a NAT64 prefix of the cluster's network, an IPv6 address. Out: the IPv4 address behind it. The prefixes are
//! RFC 6052's; what `64:ff9b::/96` and friends mean without a prefix configured is the table's: refused.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::cidr::{Cidr, CidrError};

/// At most this many NAT64 prefixes stand in a policy.
pub const MAX_NAT64: usize = 4;

/// A prefix that the cluster's network translates to IPv4 (RFC 6052 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nat64Prefix(Ipv6Net);

/// Which rule a NAT64 prefix breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nat64Error {
    /// Not a range.
    #[error(transparent)]
    Range(#[from] CidrError),
    /// IPv4, or another length.
    #[error("a NAT64 prefix must be IPv6 of length 32, 40, 48, 56, 64 or 96")]
    Length,
    /// Bits 64 to 71 of a prefix of length 96 are not zero.
    #[error("bits 64 to 71 of a NAT64 prefix must be zero")]
    Octet,
}

impl Nat64Error {
    /// The rules that are its own.
    pub const ALL: [Self; 2] = [Self::Length, Self::Octet];
}

impl Nat64Prefix {
    /// The prefix as a range.
    pub fn net(self) -> Ipv6Net {
        self.0
    }

    /// The IPv4 address that `ip`, which lies in the prefix, leads to. None if bits 64 to 71, which must be zero,
    /// are not: no translator takes such an address.
    pub(super) fn decode(self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = ip.octets();
        let length = usize::from(self.0.prefix_len());
        if length < 96 && octets[8] != 0 {
            return None;
        }
        let mut v4 = [0; 4];
        let places = (length / 8..16).filter(|place| *place != 8);
        for (to, place) in v4.iter_mut().zip(places) {
            *to = octets[place];
        }
        Some(Ipv4Addr::from(v4))
    }

    /// The range of IPv6 addresses that lead into the IPv4 range.
    pub(crate) fn image(self, net: Ipv4Net) -> Ipv6Net {
        let length = self.0.prefix_len();
        let mut octets = self.0.network().octets();
        let places = (usize::from(length) / 8..16).filter(|place| *place != 8);
        for (place, octet) in places.zip(net.network().octets()) {
            octets[place] = octet;
        }
        // The zero octet stands among the IPv4 bits once they reach beyond bit 63.
        let bits = length + net.prefix_len();
        let bits = if length < 96 && bits > 64 { bits + 8 } else { bits };
        Ipv6Net::new(Ipv6Addr::from(octets), bits).unwrap_or(self.0)
    }

    /// The ranges that lead into those of `nets` that are IPv4; the others have none.
    pub fn images(self, nets: &[IpNet]) -> impl Iterator<Item = IpNet> {
        nets.iter().filter_map(move |net| match net {
            IpNet::V4(net) => Some(IpNet::V6(self.image(*net))),
            IpNet::V6(_) => None,
        })
    }

    /// Whether the two hold an address in common.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl FromStr for Nat64Prefix {
    type Err = Nat64Error;

    fn from_str(text: &str) -> Result<Self, Nat64Error> {
        match text.parse::<Cidr>()?.net() {
            IpNet::V6(net) if [32, 40, 48, 56, 64, 96].contains(&net.prefix_len()) => {
                if net.network().octets()[8] == 0 {
                    Ok(Self(net))
                } else {
                    Err(Nat64Error::Octet)
                }
            }
            _ => Err(Nat64Error::Length),
        }
    }
}

impl TryFrom<String> for Nat64Prefix {
    type Error = Nat64Error;

    fn try_from(text: String) -> Result<Self, Nat64Error> {
        text.parse()
    }
}

impl From<Nat64Prefix> for String {
    fn from(prefix: Nat64Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// ISATAP interface identifiers (RFC 5214 section 6.1): `0000:5efe` or `0200:5efe`, then an IPv4 address. They may
/// follow any prefix, so no range can say it: this is the one rule that a NetworkPolicy cannot mirror.
pub(super) fn is_isatap(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    (s[4] == 0 || s[4] == 0x0200) && s[5] == 0x5efe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Nat64Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_rfc_6052_decode_and_encode() {
        for (prefix_text, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let (prefix, v4) = (prefix(prefix_text), Ipv4Addr::new(192, 0, 2, 33));
            let v6: Ipv6Addr = address.parse().unwrap();
            assert_eq!(prefix.decode(v6), Some(v4), "{prefix_text}");
            assert_eq!(prefix.image(v4.into()).network(), v6, "{prefix_text}");
            // Every IPv4 range holds exactly what its image holds.
            for length in 0..=32 {
                let net = Ipv4Net::new(v4, length).unwrap().trunc();
                let image = prefix.image(net);
                assert!(prefix.net().contains(&image), "{prefix_text} {net}");
                assert!(image.contains(&v6), "{prefix_text} {net}");
                if length > 0 {
                    let sibling = Ipv4Addr::from(u32::from(v4) ^ (1 << (32 - length)));
                    let outside = prefix.image(sibling.into()).network();
                    assert!(!image.contains(&outside), "{prefix_text} {net} {sibling}");
                }
            }
        }
    }

    #[test]
    fn an_address_with_the_reserved_octet_set_leads_nowhere() {
        let ip = "2001:db8:122:344:ffc0:2:2100::".parse().unwrap();
        assert_eq!(prefix("2001:db8:122:344::/64").decode(ip), None);
    }

    #[test]
    fn only_the_lengths_of_rfc_6052_are_prefixes() {
        for (text, rule) in [
            ("10.0.0.0/8", Nat64Error::Length),
            ("64:ff9b::/95", Nat64Error::Length),
            ("2000::/3", Nat64Error::Length),
            ("64:ff9b::1/96", Nat64Error::Range(CidrError::HostBits)),
            ("64:ff9b:0:0:ff00::/96", Nat64Error::Octet),
            ("x", Nat64Error::Range(CidrError::Form)),
        ] {
            assert_eq!(text.parse::<Nat64Prefix>(), Err(rule), "{text}");
        }
    }
}
