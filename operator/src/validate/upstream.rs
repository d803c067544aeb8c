//! From `spec.network.egress.upstreamProxy` to the policy's upstream, and what pods mount for it.
//!
//! In: what the user wrote. Out: a typed upstream without names of Secrets, which are no part of a policy, and those names for
//! the plan. The operator never reads either object: pods say if something is missing in them.

use std::fmt::Display;

use screenshot_api::{Egress, Resolution, UpstreamProxySpec};
use screenshot_policy::cidr::Cidr;
use screenshot_policy::egress::{self, UpstreamProxy, UpstreamScheme};
use screenshot_policy::host::Host;
use screenshot_policy::unit::Port;

use super::Invalid;

/// Names of the objects with what the upstream is asked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The Secret with user name and password.
    pub secret: Option<String>,
    /// The ConfigMap with certificate authorities.
    pub config_map: Option<String>,
}

impl Mounts {
    pub(super) fn of(egress: &Egress) -> Self {
        let upstream = egress.upstream_proxy.as_ref();
        Self {
            secret: upstream.and_then(|upstream| upstream.credentials_secret_name.clone()),
            config_map: upstream.and_then(|upstream| upstream.ca_bundle_config_map_name.clone()),
        }
    }
}

pub(super) fn rules(spec: &UpstreamProxySpec) -> Result<UpstreamProxy, Invalid> {
    let (scheme, host, port) = place(&spec.url)?;
    let cidr = spec
        .cidr
        .as_ref()
        .map(|text| text.parse::<Cidr>().map_err(invalid("cidr")));
    Ok(UpstreamProxy {
        scheme,
        host,
        port,
        cidr: cidr.transpose()?,
        resolve: match spec.resolve {
            Resolution::Local => egress::Resolution::Local,
            Resolution::Remote => egress::Resolution::Remote,
        },
        authenticated: spec.credentials_secret_name.is_some(),
        ca_bundle: spec.ca_bundle_config_map_name.is_some(),
    })
}

/// The schema has seen to the form; what is left is that a host is one.
fn place(url: &str) -> Result<(UpstreamScheme, Host, Port), Invalid> {
    let form = || invalid("url")("must be a scheme, a host and a port");
    let (scheme, rest) = url.split_once("://").ok_or_else(form)?;
    let scheme = match scheme {
        "http" => UpstreamScheme::Http,
        "https" => UpstreamScheme::Https,
        "socks5" => UpstreamScheme::Socks5,
        _ => return Err(form()),
    };
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(form)?;
    let host = host.parse::<Host>().map_err(invalid("url"))?;
    let port = port.parse::<u64>().map_err(|_| form())?;
    Ok((scheme, host, Port::try_from(port).map_err(invalid("url"))?))
}

fn invalid<E: Display>(field: &'static str) -> impl FnOnce(E) -> Invalid {
    move |error| Invalid::Upstream {
        field,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        for (url, scheme, host, port) in [
            (
                "http://proxy.example.com:3128",
                UpstreamScheme::Http,
                "proxy.example.com",
                3128,
            ),
            ("https://10.1.2.3:443/", UpstreamScheme::Https, "10.1.2.3", 443),
            ("socks5://[fd12::1]:1080", UpstreamScheme::Socks5, "[fd12::1]", 1080),
        ] {
            let (found, at, number) = place(url).unwrap();
            assert_eq!((found, at.to_string().as_str(), number.get()), (scheme, host, port));
        }
        for url in [
            "proxy.example.com:3128",
            "ftp://proxy.example.com:21",
            "http://proxy.example.com",
            "http://proxy.example.com:0",
            "http://proxy.example.com:65536",
            "http://127.1:80",
            "http://[::1:80",
            "http://user:secret@proxy.example.com:3128",
        ] {
            let error = place(url).unwrap_err();
            assert_eq!(error.reason(), "InvalidUpstreamProxy", "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
