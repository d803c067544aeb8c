//! Why a policy is refused.
//!
//! In: the JSON reader's error or a broken rule. Out: a closed set of rules with a place. The offending value is left
//! out: it may be anything, and the text ends in conditions and logs.

use super::document::{MAX_CIDRS, MAX_DOCUMENT, MAX_DOMAINS, MAX_EXCEPTIONS, MAX_PORTS, VERSION};
use crate::address::{MAX_NAT64, Nat64Error};
use crate::cidr::CidrError;
use crate::egress::{ExceptionError, UpstreamRule};
use crate::host::HostError;
use crate::tls::{MAX_TLS_HOSTS, PIN_RULE, TlsHostError};
use crate::unit::{self, UnitError};

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON of this shape.
    #[error("policy is not valid: {rule} at line {line}, column {column}")]
    Syntax {
        /// What is wrong, without the offending value.
        rule: String,
        /// 1-based line of the first offence.
        line: usize,
        /// 1-based column.
        column: usize,
    },
    /// More than [`MAX_DOCUMENT`] bytes.
    #[error("policy has more than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// Another version.
    #[error("policy version {0} is not supported, expected {VERSION}")]
    Version(u64),
    /// A list is longer than its bound.
    #[error("policy has more than {} {}", .0.bound(), .0.name())]
    TooMany(List),
    /// A scalar of the operator's own making is out of its bounds.
    #[error("policy is not valid: {0}")]
    Unit(#[from] UnitError),
    /// Two NAT64 prefixes hold an address in common, so that it would have two meanings.
    #[error("NAT64 prefixes of a policy must not overlap")]
    Nat64Overlap,
    /// An exception breaks a rule.
    #[error("egress exception {index}: {error}")]
    Exception {
        /// 0-based position.
        index: usize,
        /// The rule.
        error: ExceptionError,
    },
    /// The upstream proxy breaks a rule.
    #[error("upstream proxy: {0}")]
    Upstream(#[from] UpstreamRule),
    /// An entry about a host's keys breaks a rule.
    #[error("egress TLS host {index}: {error}")]
    TlsHost {
        /// 0-based position.
        index: usize,
        /// The rule.
        error: TlsHostError,
    },
    /// The digest is not the one expected.
    #[error("policy digest differs from the one of the pod template")]
    Digest,
}

/// A list with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Ports that pages may use.
    Ports,
    /// Names that are allowed or denied.
    Domains,
    /// Ranges that are allowed or denied.
    Cidrs,
    /// Prefixes that the network translates to IPv4.
    Nat64Prefixes,
    /// Named exceptions.
    Exceptions,
    /// Hosts that are known by their keys.
    TlsHosts,
}

impl List {
    /// The most items that it may have.
    pub fn bound(self) -> usize {
        match self {
            Self::Ports => MAX_PORTS,
            Self::Domains => MAX_DOMAINS,
            Self::Cidrs => MAX_CIDRS,
            Self::Nat64Prefixes => MAX_NAT64,
            Self::Exceptions => MAX_EXCEPTIONS,
            Self::TlsHosts => MAX_TLS_HOSTS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ports => "egress ports",
            Self::Domains => "names in one list",
            Self::Cidrs => "ranges in one list",
            Self::Nat64Prefixes => "NAT64 prefixes",
            Self::Exceptions => "egress exceptions",
            Self::TlsHosts => "egress TLS hosts",
        }
    }
}

impl PolicyError {
    /// The bounded word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax { .. } | Self::TooLarge | Self::Unit(_) => "policy_syntax",
            Self::Version(_) => "policy_version",
            Self::TooMany(List::Exceptions) | Self::Exception { .. } => "policy_exception",
            Self::Upstream(_) => "policy_upstream",
            Self::TlsHost { .. } => "policy_tls",
            Self::TooMany(_) | Self::Nat64Overlap => "policy_bounds",
            Self::Digest => "policy_digest",
        }
    }

    pub(super) fn syntax(error: &serde_json::Error) -> Self {
        Self::Syntax {
            rule: rule(error),
            line: error.line(),
            column: error.column(),
        }
    }
}

/// The rule behind a reader's error: one of our own, or the kind of the offence. The reader's text may quote the
/// document, so it is only compared, never passed on.
pub(crate) fn rule(error: &serde_json::Error) -> String {
    if error.classify() != serde_json::error::Category::Data {
        return "not JSON".to_owned();
    }
    let text = error.to_string();
    let own = unit::RULES.iter().map(ToString::to_string);
    let own = own
        .chain(HostError::ALL.iter().map(ToString::to_string))
        .chain(CidrError::ALL.iter().map(ToString::to_string))
        .chain(Nat64Error::ALL.iter().map(ToString::to_string))
        .chain([PIN_RULE.to_owned()]);
    let kinds = [
        ("unknown field", "unknown field"),
        ("missing field", "missing field"),
        ("duplicate field", "duplicate field"),
        ("unknown variant", "unknown word"),
    ];
    let kind = kinds.into_iter().find(|(start, _)| text.starts_with(start));
    own.into_iter()
        .find(|rule| text.starts_with(rule.as_str()))
        .or_else(|| kind.map(|(_, kind)| kind.to_owned()))
        .unwrap_or_else(|| "mistyped field".to_owned())
}
