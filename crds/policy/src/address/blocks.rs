//! What a NetworkPolicy opens, as blocks with exceptions.
//!
//! In: a range and what is closed in it. Out: `ipBlock`s that every API server and network plugin takes: each except
//! lies strictly within its block, none is IPv4-mapped, no block has more than [`MAX_EXCEPTS`].

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::class::AddressClass;
use super::table::{V4, V6_GLOBAL, V6_IN_GLOBAL, V6_OUTSIDE};

/// Some network plugins cut off longer lists.
pub const MAX_EXCEPTS: usize = 32;

/// One `ipBlock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is open,
    pub cidr: IpNet,
    /// less these.
    pub except: Vec<IpNet>,
}

impl Block {
    /// Whether the block opens the address.
    pub fn opens(&self, ip: std::net::IpAddr) -> bool {
        self.cidr.contains(&ip) && !self.except.iter().any(|except| except.contains(&ip))
    }
}

/// The IPv4 ranges that are not global: the table without rows that a wider row holds.
pub fn v4_excepts() -> Vec<Ipv4Net> {
    Ipv4Net::aggregate(&V4.iter().map(|(net, _)| *net).collect())
}

/// The IPv6 ranges within [`super::V6_GLOBAL`] that are not global.
pub fn v6_excepts() -> Vec<Ipv6Net> {
    Ipv6Net::aggregate(&V6_IN_GLOBAL.iter().map(|(net, _)| *net).collect())
}

/// The ranges that no exception opens, whatever it names.
pub fn never_excepted() -> Vec<IpNet> {
    let never = rows().filter(|(_, class)| !class.may_be_excepted());
    IpNet::aggregate(&never.map(|(net, _)| net).collect())
}

/// Whether a range has any global address: one that has none is never open to a page without an exception.
pub fn holds_global(net: IpNet) -> bool {
    match net {
        IpNet::V4(_) => {
            let closed: Vec<IpNet> = v4_excepts().into_iter().map(IpNet::V4).collect();
            !blocks(net, &closed).is_empty()
        }
        IpNet::V6(v6) => {
            let closed: Vec<IpNet> = v6_excepts().into_iter().map(IpNet::V6).collect();
            let part = if V6_GLOBAL.contains(&v6) { v6 } else { V6_GLOBAL };
            (V6_GLOBAL.contains(&v6) || v6.contains(&V6_GLOBAL)) && !blocks(IpNet::V6(part), &closed).is_empty()
        }
    }
}

/// The metadata and credential addresses of clouds.
pub fn metadata() -> Vec<IpNet> {
    rows()
        .filter(|(_, class)| *class == AddressClass::Metadata)
        .map(|(net, _)| net)
        .collect()
}

fn rows() -> impl Iterator<Item = (IpNet, AddressClass)> {
    let v4 = V4.iter().map(|(net, class)| (IpNet::V4(*net), *class));
    let v6 = V6_IN_GLOBAL.iter().chain(V6_OUTSIDE);
    v4.chain(v6.map(|(net, class)| (IpNet::V6(*net), *class)))
}

/// `cidr` less `closed`, in blocks of at most [`MAX_EXCEPTS`] excepts. The range is halved, never the list: peers of a
/// rule are alternatives, so two blocks over one range would open what each other excepts.
pub fn blocks(cidr: IpNet, closed: &[IpNet]) -> Vec<Block> {
    if closed.iter().any(|net| net.contains(&cidr)) {
        return Vec::new();
    }
    let inside: Vec<IpNet> = closed.iter().filter(|net| cidr.contains(*net)).copied().collect();
    if inside.len() <= MAX_EXCEPTS {
        return vec![Block { cidr, except: inside }];
    }
    match cidr.subnets(cidr.prefix_len() + 1) {
        Ok(halves) => halves.flat_map(|half| blocks(half, &inside)).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn opens(blocks: &[Block], ip: &str) -> bool {
        blocks.iter().any(|block| block.opens(ip.parse().unwrap()))
    }

    #[test]
    fn a_long_list_of_excepts_is_split_by_halving_the_range_and_opens_none_of_them() {
        let closed: Vec<IpNet> = (0..200u8).map(|n| net(&format!("{n}.1.0.0/16"))).collect();
        let blocks = blocks(net("0.0.0.0/0"), &closed);
        assert!(blocks.len() > 1);
        for block in &blocks {
            assert!(block.except.len() <= MAX_EXCEPTS);
            for except in &block.except {
                assert!(block.cidr.contains(except) && block.cidr != *except, "{except}");
            }
        }
        for n in 0..200 {
            assert!(!opens(&blocks, &format!("{n}.1.2.3")), "{n}.1.2.3 is open");
            assert!(opens(&blocks, &format!("{n}.2.2.3")), "{n}.2.2.3 is closed");
        }
    }

    #[test]
    fn a_range_holds_a_global_address_unless_the_table_covers_it() {
        for (range, holds) in [
            ("8.8.8.0/24", true),
            ("0.0.0.0/0", true),
            ("10.0.0.0/7", true),
            ("10.0.0.0/8", false),
            ("10.1.2.0/24", false),
            ("224.0.0.0/3", false),
            ("169.254.169.254/32", false),
            ("168.63.129.16/32", false),
            ("2606:4700::/32", true),
            ("::/0", true),
            ("2001:db8::/32", false),
            ("fc00::/7", false),
            ("64:ff9b::/96", false),
        ] {
            assert_eq!(holds_global(net(range)), holds, "{range}");
        }
    }

    #[test]
    fn a_range_that_is_closed_as_a_whole_opens_nothing() {
        assert!(blocks(net("128.0.0.0/1"), &[net("128.0.0.0/1")]).is_empty());
        assert!(blocks(net("10.1.0.0/16"), &[net("10.0.0.0/8")]).is_empty());
    }

    #[test]
    fn ranges_of_the_other_family_are_not_excepts() {
        let closed = [net("fd00::/8"), net("10.0.0.0/8")];
        assert_eq!(
            blocks(net("0.0.0.0/0"), &closed),
            [Block {
                cidr: net("0.0.0.0/0"),
                except: vec![net("10.0.0.0/8")]
            }]
        );
    }
}
