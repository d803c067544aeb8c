//! Host names and addresses as they may stand in a URL, a CONNECT line or an exception.
//!
//! In: text. Out: a typed host or the rule that the text breaks. Only dotted-quad IPv4, bracketed IPv6 and
//! LDH names: every other spelling of an address (decimal, octal, hexadecimal, short) is refused here, so
//! that it never reaches a resolver which would understand it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A DNS name: letters, digits, hyphens (and underscores, which real names have), lower case, no trailing dot,
/// labels of 1 to 63 and at most 253 characters in all; the last label is not numeric (WHATWG URL, "ends in a number").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// A host: a name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A DNS name.
    Name(HostName),
    /// A literal address.
    Ip(IpAddr),
}

/// Which rule a host text breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty text.
    #[error("host must not be empty")]
    Empty,
    /// More than 253 characters.
    #[error("host must be at most 253 characters long")]
    TooLong,
    /// A label is empty, longer than 63 characters, or starts or ends with a hyphen.
    #[error("each label of a host must have 1 to 63 characters and must not start or end with '-'")]
    Label,
    /// A character other than a letter, digit, hyphen, underscore or dot.
    #[error("host must consist of letters, digits, '-', '_' and '.'")]
    Character,
    /// Looks like an address but is not four decimal numbers without leading zeros.
    #[error("an IPv4 host must be written as four decimal numbers")]
    Ipv4Form,
    /// Brackets without an IPv6 address (zone identifiers are refused).
    #[error("an IPv6 host must be written as '[address]' without a zone")]
    Ipv6Form,
}

impl HostError {
    /// Every rule.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::TooLong,
        Self::Label,
        Self::Character,
        Self::Ipv4Form,
        Self::Ipv6Form,
    ];
}

impl HostName {
    /// `cluster.local`, the domain that a cluster's Services have unless it was set up otherwise.
    pub fn cluster_local() -> Self {
        Self("cluster.local".to_owned())
    }

    /// The name, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// The rule under which a name is refused before any look-up, if there is one: names that only mean something
    /// inside a machine, a network or a cluster (RFC 6761, 6762, 7686, 8375, 9476; the ICANN `internal` TLD), and metadata names.
    pub fn special(&self) -> Option<&'static str> {
        const SUFFIXES: &[(&str, &str)] = &[
            ("metadata.google.internal", "metadata_name"),
            ("metadata.packet.net", "metadata_name"),
            ("metadata.platformequinix.com", "metadata_name"),
            ("metadata.tencentyun.com", "metadata_name"),
            ("svc", "cluster_name"),
            ("cluster.local", "cluster_name"),
            ("local", "local_name"),
            ("localhost", "localhost_name"),
            ("localdomain", "local_name"),
            ("internal", "internal_name"),
            ("home.arpa", "home_name"),
            ("in-addr.arpa", "reverse_name"),
            ("ip6.arpa", "reverse_name"),
            ("onion", "onion_name"),
            ("test", "test_name"),
            ("example", "test_name"),
            ("invalid", "invalid_name"),
            ("alt", "alt_name"),
            ("lan", "local_name"),
            ("intranet", "local_name"),
            ("corp", "local_name"),
            ("home", "local_name"),
        ];
        let by_suffix = SUFFIXES
            .iter()
            .find(|(suffix, _)| self.is_or_under(suffix))
            .map(|(_, rule)| *rule);
        by_suffix.or_else(|| (self.labels().count() == 1).then_some("single_label_name"))
    }

    /// The names that it lies below, the longest first.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let dots = self.0.match_indices('.');
        dots.filter_map(|(at, _)| self.0.get(at + 1..))
    }

    /// Whether the name is `other` or lies below it. Takes time in proportion to the length of `other`.
    pub fn is_or_under(&self, other: &str) -> bool {
        self.0
            .strip_suffix(other)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        // One trailing dot only marks the name as absolute.
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > 253 {
            return Err(HostError::TooLong);
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(HostError::Character);
        }
        let good = |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        if !text.split('.').all(good) {
            return Err(HostError::Label);
        }
        if text.rsplit('.').next().is_some_and(is_number) {
            return Err(HostError::Ipv4Form);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = HostError;

            fn try_from(text: String) -> Result<Self, HostError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(host: $name) -> Self {
                host.to_string()
            }
        }
    )*};
}

as_text! { HostName Host }

/// What the URL standard's IPv4 parser would take for a number: decimal, octal or `0x` hexadecimal.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Host {
    /// Namespace and name of the Service that a name of the form `<service>.<namespace>.svc[.<domain>]` means in a
    /// cluster with this domain.
    pub fn in_cluster_service(&self, domain: &HostName) -> Option<(&str, &str)> {
        let Self::Name(name) = self else { return None };
        let under = name
            .0
            .strip_suffix(domain.as_str())
            .and_then(|rest| rest.strip_suffix('.'));
        let rest = under.unwrap_or(&name.0).strip_suffix(".svc")?;
        let (service, namespace) = rest.split_once('.')?;
        (!namespace.contains('.')).then_some((service, namespace))
    }

    /// The name to look this host up by in a cluster with this domain: a Service's ends with the domain, as name servers of
    /// clusters know no other. `None` for an address, and for a name that would be too long with the domain.
    pub fn full_name(&self, domain: &HostName) -> Option<HostName> {
        let Self::Name(name) = self else { return None };
        match self.in_cluster_service(domain) {
            Some((service, namespace)) => format!("{service}.{namespace}.svc.{domain}").parse().ok(),
            None => Some(name.clone()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(HostError::Ipv6Form)?;
            return inner
                .parse::<Ipv6Addr>()
                .map(|ip| Self::Ip(IpAddr::V6(ip)))
                .map_err(|_| HostError::Ipv6Form);
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(IpAddr::V4(ip)));
        }
        text.parse().map(Self::Name)
    }
}

#[cfg(test)]
mod tests;
