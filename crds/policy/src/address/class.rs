//! What an address is for: the closed set of classes.

/// What an address is for. Also the metric label and the log word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Globally reachable unicast.
    Global,
    /// `0.0.0.0/8` and `::`.
    Unspecified,
    /// RFC 1918.
    Private,
    /// `100.64.0.0/10`, RFC 6598.
    SharedCgnat,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `169.254.0.0/16` and `fe80::/10`.
    LinkLocal,
    /// A cloud's instance metadata or credential service, wherever it lies.
    Metadata,
    /// `192.0.0.0/24` and `2001::/23`.
    IetfProtocol,
    /// Documentation ranges.
    Documentation,
    /// `198.18.0.0/15` and `2001:2::/48`.
    Benchmarking,
    /// AS112 sinks.
    As112,
    /// Automatic multicast tunnelling relays.
    Amt,
    /// `192.88.99.0/24`.
    SixToFourRelay,
    /// Multicast.
    Multicast,
    /// `240.0.0.0/4`.
    Reserved,
    /// `255.255.255.255`.
    Broadcast,
    /// `fc00::/7`.
    UniqueLocal,
    /// `fec0::/10`, deprecated by RFC 3879.
    SiteLocal,
    /// `100::/64` and `100:0:0:1::/64`.
    Discard,
    /// `5f00::/16`, segment identifiers of SRv6.
    SegmentRouting,
    /// IPv6 outside `2000::/3`.
    NotGlobalUnicast,
    /// An IPv6 form that carries an IPv4 address (NAT64, 6to4, Teredo, ISATAP, SIIT, compatible).
    EmbeddedV4,
}

impl AddressClass {
    /// The bounded word for metrics, logs and problem details.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Unspecified => "unspecified_address",
            Self::Private => "private_address",
            Self::SharedCgnat => "shared_address",
            Self::Loopback => "loopback_address",
            Self::LinkLocal => "link_local_address",
            Self::Metadata => "metadata_address",
            Self::IetfProtocol => "ietf_protocol_address",
            Self::Documentation => "documentation_address",
            Self::Benchmarking => "benchmarking_address",
            Self::As112 => "as112_address",
            Self::Amt => "amt_address",
            Self::SixToFourRelay => "6to4_relay_address",
            Self::Multicast => "multicast_address",
            Self::Reserved => "reserved_address",
            Self::Broadcast => "broadcast_address",
            Self::UniqueLocal => "unique_local_address",
            Self::SiteLocal => "site_local_address",
            Self::Discard => "discard_address",
            Self::SegmentRouting => "segment_routing_address",
            Self::NotGlobalUnicast => "not_global_unicast_address",
            Self::EmbeddedV4 => "embedded_ipv4_address",
        }
    }

    /// Whether a page may reach the address without an exception.
    pub fn is_global(self) -> bool {
        self == Self::Global
    }

    /// Whether a named exception can open the address at all: private and documentation ranges and the like,
    /// never metadata, never the pod itself or its link, never multicast, never a disguised IPv4 address.
    pub fn may_be_excepted(self) -> bool {
        matches!(
            self,
            Self::Global
                | Self::Private
                | Self::SharedCgnat
                | Self::Documentation
                | Self::Benchmarking
                | Self::UniqueLocal
        )
    }

    /// Whether the address means the same on every network, so that no NAT64 prefix can be laid over it.
    pub(super) fn is_fixed(self) -> bool {
        matches!(
            self,
            Self::Unspecified | Self::Loopback | Self::LinkLocal | Self::Metadata | Self::Multicast
        )
    }
}
