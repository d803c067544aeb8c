//! Address ranges in CIDR notation.
//!
//! In: text. Out: a range in the one form that the API server, every network plugin and this crate read alike, or the
//! rule that was broken: no host bits, no IPv4-mapped IPv6 (validation refuses those, the kernel maps them to IPv4).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

/// A range of addresses. Ordered by family, address, length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

/// Which rule a range breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address and a length.
    #[error("a range must be written as address/length")]
    Form,
    /// Bits beyond the length are set.
    #[error("a range must have no bits set beyond its length")]
    HostBits,
    /// Lies in `::ffff:0:0/96`.
    #[error("a range must not be IPv4-mapped: write the IPv4 range")]
    Mapped,
}

impl CidrError {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Form, Self::HostBits, Self::Mapped];
}

const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

impl Cidr {
    /// The range of one address; an IPv4-mapped one becomes the IPv4 address.
    pub fn of(ip: IpAddr) -> Self {
        Self(IpNet::from(ip.to_canonical()))
    }

    /// The range as the `ipnet` crate has it.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Whether the address lies in the range; an IPv4-mapped one counts as the IPv4 address.
    pub fn contains(self, ip: IpAddr) -> bool {
        // The bits that both begin with. Every address of every answer is held against every range: `IpNet::contains` works
        // out both ends of the range each time, at three times the cost.
        let (alike, length) = match (self.0, ip.to_canonical()) {
            (IpNet::V4(net), IpAddr::V4(ip)) => {
                ((net.addr().to_bits() ^ ip.to_bits()).leading_zeros(), net.prefix_len())
            }
            (IpNet::V6(net), IpAddr::V6(ip)) => {
                ((net.addr().to_bits() ^ ip.to_bits()).leading_zeros(), net.prefix_len())
            }
            _ => return false,
        };
        alike >= u32::from(length)
    }
}

impl TryFrom<IpNet> for Cidr {
    type Error = CidrError;

    fn try_from(net: IpNet) -> Result<Self, CidrError> {
        if net != net.trunc() {
            return Err(CidrError::HostBits);
        }
        match net {
            IpNet::V6(v6) if MAPPED.contains(&v6) => Err(CidrError::Mapped),
            _ => Ok(Self(net)),
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        // Not by the reader of `IpNet`, which takes `010.0.0.0` for 10.0.0.0; others take it for 8.0.0.0.
        let (address, length) = text.split_once('/').ok_or(CidrError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError::Form)?;
        let plain = length == "0" || (length.bytes().all(|b| b.is_ascii_digit()) && !length.starts_with('0'));
        let length = length.parse().ok().filter(|_| plain).ok_or(CidrError::Form)?;
        IpNet::new(address, length).map_err(|_| CidrError::Form)?.try_into()
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_one_form() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "1.2.3.4/32", "2000::/3", "fd00::/8"] {
            assert_eq!(text.parse::<Cidr>().map(|cidr| cidr.to_string()), Ok(text.into()));
        }
        for (text, rule) in [
            ("", CidrError::Form),
            ("10.0.0.0", CidrError::Form),
            ("10.0.0.0/33", CidrError::Form),
            ("10.0.0/8", CidrError::Form),
            ("010.0.0.0/8", CidrError::Form),
            ("10.0.0.0/08", CidrError::Form),
            ("10.0.0.0/+8", CidrError::Form),
            ("10.0.0.0/", CidrError::Form),
            ("10.0.0.0/8/8", CidrError::Form),
            ("fe80::%1/64", CidrError::Form),
            ("10.0.0.1/8", CidrError::HostBits),
            ("2001::/3", CidrError::HostBits),
            ("::ffff:10.0.0.0/104", CidrError::Mapped),
            ("::ffff:0:0/96", CidrError::Mapped),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(rule), "{text}");
        }
    }

    #[test]
    fn a_range_holds_the_addresses_from_its_first_to_its_last() {
        for base in [
            "93.184.216.34",
            "0.0.0.0",
            "255.255.255.255",
            "2606:4700::1",
            "::",
            "ffff:ffff::ffff",
        ] {
            let base: IpAddr = base.parse().unwrap();
            let longest = if base.is_ipv4() { 32 } else { 128 };
            for length in 0..=longest {
                let cidr = Cidr::try_from(IpNet::new(base, length).unwrap().trunc()).unwrap();
                for ip in crate::address::edges(cidr.net()).filter(|ip| *ip == ip.to_canonical()) {
                    assert_eq!(cidr.contains(ip), cidr.net().contains(&ip), "{cidr} {ip}");
                }
                let other: IpAddr = if base.is_ipv4() { "2000::1" } else { "1.2.3.4" }.parse().unwrap();
                assert!(!cidr.contains(other));
            }
        }
    }

    #[test]
    fn a_mapped_address_lies_in_the_range_of_the_address_it_is() {
        let cidr: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(cidr.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert_eq!(Cidr::of("::ffff:10.1.2.3".parse().unwrap()).to_string(), "10.1.2.3/32");
    }
}
