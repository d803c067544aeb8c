//! The canary: an address that answers a pod if nothing stops it, and what a pod found when it tried.
//!
//! The operator listens on an address that no NetworkPolicy of a service opens. In an attestation request, which only it
//! can make, it hands that address to a pod; the pod tries it past its own proxy. An answer proves that the cluster does
//! not enforce its half of the egress control. So that no stray listener is taken for the canary, it must answer the
//! request's nonce with a code under a key that only this operator process knows; the pod gets the digest of that answer.
//! Over the wire: 32 bytes of challenge to the canary, 32 bytes of answer back, and the end.

use std::fmt;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::address::Block;
use crate::host::Host;
use crate::policy::EffectivePolicy;

/// Header of an attestation request with the canary to try, see [`Canary::text`].
pub const CANARY_HEADER: &str = "attest-canary";
/// Most addresses that one request names: a pod has one of each family.
pub const MAX_ADDRESSES: usize = 4;
/// Length of challenge and answer, in bytes.
pub const LENGTH: usize = 32;

const ANSWER_LABEL: &[u8] = b"screenshot-operator canary answer v1\0";

/// The key of one operator process. Made at its start, never stored, not shown by `Debug`.
#[derive(Clone)]
pub struct CanaryKey([u8; 32]);

impl CanaryKey {
    /// Wraps 256 random bits.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What the canary answers to a challenge.
    pub fn answer(&self, challenge: &[u8; LENGTH]) -> [u8; LENGTH] {
        Hmac::<Sha256>::new_from_slice(&self.0)
            .map(|mut mac| {
                mac.update(ANSWER_LABEL);
                mac.update(challenge);
                mac.finalize().into_bytes().into()
            })
            // HMAC takes keys of every length.
            .unwrap_or_default()
    }
}

impl fmt::Debug for CanaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CanaryKey(…)")
    }
}

/// What a pod is asked to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    addresses: Vec<SocketAddr>,
    expected: [u8; 32],
}

impl Canary {
    /// The canary at `addresses`, of which the first [`MAX_ADDRESSES`] count, that gives this answer. `None` without an
    /// address.
    pub fn new(addresses: &[SocketAddr], answer: &[u8; LENGTH]) -> Option<Self> {
        let addresses: Vec<SocketAddr> = addresses.iter().take(MAX_ADDRESSES).copied().collect();
        (!addresses.is_empty()).then(|| Self {
            addresses,
            expected: Sha256::digest(answer).into(),
        })
    }

    /// The value of [`CANARY_HEADER`]: the SHA-256 of the answer, base64url without padding, then the addresses, with
    /// spaces between.
    pub fn text(&self) -> String {
        let addresses = self.addresses.iter().map(|address| format!(" {address}"));
        URL_SAFE_NO_PAD.encode(self.expected) + &addresses.collect::<String>()
    }

    /// Reads [`Self::text`]; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let expected = URL_SAFE_NO_PAD.decode(words.next()?).ok()?.try_into().ok()?;
        let addresses: Vec<SocketAddr> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        (1..=MAX_ADDRESSES)
            .contains(&addresses.len())
            .then_some(Self { addresses, expected })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether this is its answer. Constant time.
    pub fn gave(&self, answer: &[u8]) -> bool {
        Sha256::digest(answer).ct_eq(&self.expected).into()
    }
}

/// What came of trying one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The canary answered: nothing stopped the connection.
    Reached,
    /// Something accepted the connection and did not give the canary's answer: a proxy of a service mesh, for example.
    Mistaken,
    /// The connection was refused.
    Refused,
    /// Nothing came back in time.
    TimedOut,
    /// The pod has no route to addresses of this family.
    NoRoute,
    /// It was not tried, or in a way that this version does not know.
    #[serde(other)]
    NotTried,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [
        Self::Reached,
        Self::Mistaken,
        Self::Refused,
        Self::TimedOut,
        Self::NoRoute,
        Self::NotTried,
    ];

    /// The bounded word for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Mistaken => "mistaken",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::NoRoute => "no_route",
            Self::NotTried => "not_tried",
        }
    }
}

/// One address that a pod tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Try {
    /// The address.
    pub address: SocketAddr,
    /// What came of it, past the pod's own proxy.
    pub outcome: Outcome,
    /// Whether the pod's own proxy refuses the same address to a page.
    pub proxy_refuses: bool,
}

/// What a pod found when it tried the canary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryFacts {
    /// Each address.
    pub tries: Vec<Try>,
    /// How long ago that was, in seconds: attempts are bounded in their rate.
    #[serde(default)]
    pub age_seconds: u64,
    /// Whether the pod had only just started: in some clusters NetworkPolicies reach a new pod late.
    #[serde(default)]
    pub early: bool,
}

/// What the tries prove of the cluster's half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The canary was reached.
    Open,
    /// It was tried and is out of reach.
    Closed,
    /// Neither: nothing was tried, or something else answered.
    Unproven(Outcome),
}

impl CanaryFacts {
    /// What the tries prove. One way that is open weighs more than any number that are closed; something else that
    /// answers hides whether the canary could have.
    pub fn finding(&self) -> Finding {
        let has = |outcome| self.tries.iter().any(|one| one.outcome == outcome);
        if has(Outcome::Reached) {
            return Finding::Open;
        }
        if has(Outcome::Mistaken) {
            return Finding::Unproven(Outcome::Mistaken);
        }
        if has(Outcome::Refused) || has(Outcome::TimedOut) {
            return Finding::Closed;
        }
        Finding::Unproven(if has(Outcome::NoRoute) {
            Outcome::NoRoute
        } else {
            Outcome::NotTried
        })
    }

    /// Whether the pod's own proxy refuses every address that was tried.
    pub fn proxy_refuses(&self) -> bool {
        self.tries.iter().all(|one| one.proxy_refuses)
    }
}

/// Whether neither proxy nor NetworkPolicy of a policy opens an address, so that it can serve as a canary. What a
/// NetworkPolicy opens by the selector of a Service is not known here.
pub fn is_closed(policy: &EffectivePolicy, address: SocketAddr, now: Timestamp) -> bool {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let opens = |blocks: &[Block]| blocks.iter().any(|block| block.opens(ip));
    let public = || policy.egress_ports().iter().any(|open| open.get() == port) && opens(&policy.open_blocks());
    let excepted = || {
        let exceptions = policy.exceptions().iter().filter(|exception| exception.active(now));
        exceptions
            .filter(|exception| exception.ports.iter().any(|open| open.get() == port))
            .any(|exception| opens(&policy.exception_blocks(exception)))
    };
    let upstream = || {
        let ours = policy.upstream().filter(|upstream| upstream.port.get() == port);
        ours.is_some_and(|upstream| opens(&policy.upstream_blocks(upstream)))
    };
    policy.admit_host(&Host::Ip(ip), port, now).is_err() && !public() && !excepted() && !upstream()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::EgressException;
    use crate::policy::{Ceiling, PolicyDocument};

    fn addresses() -> Vec<SocketAddr> {
        ["10.0.0.7:8082", "[fd00::7]:8082"]
            .map(|text| text.parse().unwrap())
            .into()
    }

    #[test]
    fn the_header_survives_its_text_form_and_anything_else_is_no_canary() {
        let answer = CanaryKey::from_bytes([1; 32]).answer(&[2; 32]);
        let canary = Canary::new(&addresses(), &answer).unwrap();
        assert_eq!(Canary::parse(&canary.text()), Some(canary.clone()));
        let digest = canary.text().split(' ').next().unwrap().to_owned();
        for wrong in [
            String::new(),
            digest.clone(),
            format!("{digest} "),
            format!("{digest}  10.0.0.7:8082"),
            format!("{digest} example.com:80"),
            format!("{digest} 10.0.0.7"),
            "short 10.0.0.7:8082".to_owned(),
            digest + &" 10.0.0.7:8082".repeat(MAX_ADDRESSES + 1),
        ] {
            assert_eq!(Canary::parse(&wrong), None, "{wrong}");
        }
        assert_eq!(Canary::new(&[], &answer), None);
    }

    #[test]
    fn only_this_key_gives_the_answer_to_this_challenge_and_the_request_does_not_show_it() {
        let key = CanaryKey::from_bytes([1; 32]);
        let answer = key.answer(&[2; 32]);
        let canary = Canary::new(&addresses(), &answer).unwrap();
        assert!(canary.gave(&answer));
        for wrong in [
            key.answer(&[3; 32]).to_vec(),
            CanaryKey::from_bytes([9; 32]).answer(&[2; 32]).to_vec(),
            answer[..31].to_vec(),
            canary.expected.to_vec(),
            Vec::new(),
        ] {
            assert!(!canary.gave(&wrong));
        }
        assert!(!format!("{key:?}").contains('1'));
    }

    #[test]
    fn one_open_way_is_open_and_what_something_else_answers_proves_nothing() {
        let finding = |outcomes: &[Outcome]| {
            let tries = outcomes.iter().map(|outcome| Try {
                address: addresses()[0],
                outcome: *outcome,
                proxy_refuses: true,
            });
            CanaryFacts {
                tries: tries.collect(),
                ..CanaryFacts::default()
            }
            .finding()
        };
        for (outcomes, expected) in [
            (
                vec![Outcome::Refused, Outcome::Reached, Outcome::Mistaken],
                Finding::Open,
            ),
            (
                vec![Outcome::Refused, Outcome::Mistaken],
                Finding::Unproven(Outcome::Mistaken),
            ),
            (vec![Outcome::NoRoute, Outcome::TimedOut], Finding::Closed),
            (vec![Outcome::Refused], Finding::Closed),
            (vec![Outcome::NoRoute], Finding::Unproven(Outcome::NoRoute)),
            (vec![], Finding::Unproven(Outcome::NotTried)),
        ] {
            assert_eq!(finding(&outcomes), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn an_address_that_the_policy_opens_is_no_canary() {
        let now = Timestamp::from_second(1_000).unwrap();
        let closed = |address: &str, exceptions: &[&str], expires: i64| {
            let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
            document.egress.exceptions = exceptions
                .iter()
                .map(|range| EgressException {
                    host: "intra.example.com".parse().unwrap(),
                    ports: vec![8082_u16.try_into().unwrap()],
                    cidr: Some(range.parse().unwrap()),
                    reason: "r".parse().unwrap(),
                    expires: Timestamp::from_second(expires).unwrap(),
                })
                .collect();
            let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
            is_closed(&policy, address.parse().unwrap(), now)
        };
        assert!(closed("10.0.0.7:8082", &[], 0));
        assert!(closed("[fd00::7]:8082", &[], 0));
        assert!(!closed("10.0.0.7:8082", &["10.0.0.0/16"], 2_000));
        assert!(!closed("[::ffff:10.0.0.7]:8082", &["10.0.0.0/16"], 2_000));
        assert!(closed("10.0.0.7:8082", &["10.0.0.0/16"], 1_000), "it has ended");
        assert!(closed("10.0.0.7:8083", &["10.0.0.0/16"], 2_000), "another port");
        assert!(closed("10.1.0.7:8082", &["10.0.0.0/16"], 2_000), "another range");
        // A cluster whose pods have public addresses.
        assert!(closed("8.8.8.8:8082", &[], 0));
        assert!(!closed("8.8.8.8:443", &[], 0));
    }

    #[test]
    fn an_outcome_of_a_newer_server_counts_as_not_tried() {
        let newer: Outcome = serde_json::from_str("\"teleported\"").unwrap();
        assert_eq!(newer, Outcome::NotTried);
        for outcome in Outcome::ALL {
            let text = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
        }
    }
}
