//! From `spec.network.egress` to the policy's rules.
//!
//! In: what the user wrote. Out: typed rules, or the entry that is none. An entry that allows must be able to act: one
//! that holds nothing public looks like a hole and is none, so it is refused with the way that there is.

use std::fmt::Display;
use std::str::FromStr;

use screenshot_api::{Egress, EgressExceptionSpec, Enforcement, TlsHostSpec, TlsTrust};
use screenshot_policy::address::holds_global;
use screenshot_policy::cidr::{Cidr, CidrError};
use screenshot_policy::domain::DomainRule;
use screenshot_policy::egress::EgressException;
use screenshot_policy::host::HostError;
use screenshot_policy::policy::{self, EffectivePolicy, EgressRules};
use screenshot_policy::tls::{PinError, TlsHost, Trust};
use screenshot_policy::unit::{Port, UnitError};

use super::{Invalid, upstream};

const ALLOWED_DOMAINS: &str = "domains.allow";
const ALLOWED_CIDRS: &str = "cidrs.allow";

/// Puts what is asked for into the rules; the cluster's own part is not touched.
pub(super) fn fill(rules: &mut EgressRules, egress: &Egress) -> Result<(), Invalid> {
    rules.ports = egress.ports.iter().filter_map(|port| port_of(*port)).collect();
    rules.domains.allow = listed(ALLOWED_DOMAINS, &egress.domains.allow)?;
    rules.domains.deny = listed("domains.deny", &egress.domains.deny)?;
    rules.cidrs.allow = listed(ALLOWED_CIDRS, &egress.cidrs.allow)?;
    rules.cidrs.deny = listed("cidrs.deny", &egress.cidrs.deny)?;
    rules.enforcement = match egress.enforcement {
        Enforcement::Required => policy::Enforcement::Required,
        Enforcement::Advisory => policy::Enforcement::Advisory,
    };
    rules.upstream_proxy = egress.upstream_proxy.as_ref().map(upstream::rules).transpose()?;
    let exceptions = egress.exceptions.iter().enumerate();
    rules.exceptions = exceptions.map(exception).collect::<Result<_, _>>()?;
    let hosts = egress.tls.hosts.iter().enumerate();
    rules.tls.hosts = hosts.map(tls_host).collect::<Result<_, _>>()?;
    Ok(())
}

/// Refuses an entry of an allow list that could never let anything through.
pub(super) fn acts(policy: &EffectivePolicy, egress: &Egress) -> Result<(), Invalid> {
    let idle = |list, index, what: String| Invalid::Listed {
        list,
        index,
        message: format!(
            "{what}; an allow list only narrows what is public, anything else needs an entry in `exceptions`"
        ),
    };
    let domains: Vec<DomainRule> = listed(ALLOWED_DOMAINS, &egress.domains.allow)?;
    if let Some(index) = domains.iter().position(|rule| policy.allows_nothing(rule)) {
        let what = format!(
            "`{}` is no public name",
            domains.get(index).map(ToString::to_string).unwrap_or_default()
        );
        return Err(idle(ALLOWED_DOMAINS, index, what));
    }
    let cidrs: Vec<Cidr> = listed(ALLOWED_CIDRS, &egress.cidrs.allow)?;
    let translated = |cidr: &Cidr| {
        let prefixes = policy.egress().nat64_prefixes.iter();
        prefixes
            .map(|prefix| ipnet::IpNet::V6(prefix.net()))
            .any(|net| net.contains(&cidr.net()) || cidr.net().contains(&net))
    };
    for (index, cidr) in cidrs.iter().enumerate() {
        if !holds_global(cidr.net()) && !translated(cidr) {
            return Err(idle(ALLOWED_CIDRS, index, format!("{cidr} holds no public address")));
        }
    }
    Ok(())
}

fn listed<T>(list: &'static str, texts: &[String]) -> Result<Vec<T>, Invalid>
where
    T: FromStr,
    T::Err: Display,
{
    let read = |(index, text): (usize, &String)| {
        text.parse().map_err(|error: T::Err| Invalid::Listed {
            list,
            index,
            message: error.to_string(),
        })
    };
    texts.iter().enumerate().map(read).collect()
}

fn port_of(number: i32) -> Option<Port> {
    u64::try_from(number).ok()?.try_into().ok()
}

fn exception((index, spec): (usize, &EgressExceptionSpec)) -> Result<EgressException, Invalid> {
    let invalid = |field, message| Invalid::Exception { index, field, message };
    let ports = spec
        .ports
        .iter()
        .map(|port| port_of(*port).ok_or_else(|| invalid("ports", "must be between 1 and 65535".into())))
        .collect::<Result<_, _>>()?;
    let cidr = spec
        .cidr
        .as_ref()
        .map(|text| {
            text.parse()
                .map_err(|error: CidrError| invalid("cidr", error.to_string()))
        })
        .transpose()?;
    Ok(EgressException {
        host: spec
            .host
            .parse()
            .map_err(|error: HostError| invalid("host", error.to_string()))?,
        ports,
        cidr,
        reason: spec
            .reason
            .parse()
            .map_err(|error: UnitError| invalid("reason", error.to_string()))?,
        expires: spec.expires.0,
    })
}

fn tls_host((index, spec): (usize, &TlsHostSpec)) -> Result<TlsHost, Invalid> {
    let invalid = |field, message| Invalid::TlsHost { index, field, message };
    let pins = spec.spki_pins.iter().map(|text| text.parse());
    Ok(TlsHost {
        host: spec
            .host
            .parse()
            .map_err(|error: HostError| invalid("host", error.to_string()))?,
        trust: match spec.trust {
            TlsTrust::PublicAuthorities => Trust::PublicAuthorities,
            TlsTrust::PinnedKey => Trust::PinnedKey,
        },
        spki_pins: pins
            .collect::<Result<_, _>>()
            .map_err(|error: PinError| invalid("spkiPins", error.to_string()))?,
        reason: spec
            .reason
            .as_ref()
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: UnitError| invalid("reason", error.to_string()))?,
        expires: spec.expires.as_ref().map(|end| end.0),
    })
}
