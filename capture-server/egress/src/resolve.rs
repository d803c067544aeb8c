//! Names to addresses.
//!
//! In: a host name. Out: every address that DNS gives for it, A and AAAA, with the aliases on the way, or why there
//! is none.
//! Only absolute names are asked for (no search list, no hosts file, no cache), so that a name means the same
//! thing here as it does to the rest of the internet, and is asked again for each connection.
//! It must not judge addresses: that is `decide`'s.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, Record};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use screenshot_policy::host::HostName;

/// How long one look-up may take with all its attempts.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a look-up gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist or has no address.
    #[error("name has no address")]
    NotFound,
    /// No answer within [`LOOKUP_TIMEOUT`].
    #[error("name server did not answer in time")]
    Timeout,
    /// The name server failed or could not be asked.
    #[error("name server failed")]
    Failed,
}

impl ResolveError {
    /// The bounded word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "dns_not_found",
            Self::Timeout => "dns_timeout",
            Self::Failed => "dns_failed",
        }
    }
}

/// What a name leads to, unjudged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// The names that it is an alias of, in the order of the answers.
    pub aliases: Vec<HostName>,
    /// Every address.
    pub addresses: Vec<IpAddr>,
}

/// Looks names up. Implementations return every answer, unjudged.
pub trait Resolver: Send + Sync {
    /// Everything that `name` leads to.
    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Answers, ResolveError>>;
}

/// Asks the name servers that the system names.
pub struct SystemResolver {
    resolver: TokioResolver,
    patience: Duration,
}

impl SystemResolver {
    /// A resolver with the system's name servers.
    ///
    /// # Errors
    /// [`ResolveError::Failed`] if the system's configuration cannot be read.
    pub fn from_system() -> Result<Self, ResolveError> {
        Self::strict(TokioResolver::builder_tokio().map_err(|_| ResolveError::Failed)?)
    }

    /// A resolver that asks these name servers, over UDP and, for long answers, TCP. `patience` bounds a look-up.
    ///
    /// # Errors
    /// [`ResolveError::Failed`] if no resolver can be made of them.
    pub fn asking(servers: &[SocketAddr], patience: Duration) -> Result<Self, ResolveError> {
        let server = |at: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(at.ip());
            for connection in &mut server.connections {
                connection.port = at.port();
            }
            server
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let mut resolver = Self::strict(builder)?;
        resolver.patience = patience.min(LOOKUP_TIMEOUT);
        Ok(resolver)
    }

    fn strict(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, ResolveError> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        // A cache shared by captures would tell one client's page what another's has visited.
        options.cache_size = 0;
        // The aliases are judged too.
        options.preserve_intermediates = true;
        let resolver = builder.build().map_err(|_| ResolveError::Failed)?;
        Ok(Self {
            resolver,
            patience: LOOKUP_TIMEOUT,
        })
    }
}

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Answers, ResolveError>> {
        Box::pin(async move {
            let name = absolute(name)?;
            let answer = tokio::time::timeout(self.patience, self.resolver.lookup_ip(name)).await;
            match answer {
                Err(_) => Err(ResolveError::Timeout),
                Ok(Ok(found)) => answers(found.as_lookup().answers()),
                Ok(Err(error)) if error.is_no_records_found() => Err(ResolveError::NotFound),
                Ok(Err(_)) => Err(ResolveError::Failed),
            }
        })
    }
}

pub(crate) fn answers(records: &[Record]) -> Result<Answers, ResolveError> {
    let mut answers = Answers::default();
    for record in records {
        match &record.data {
            RData::A(ip) => answers.addresses.push(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => answers.addresses.push(IpAddr::V6(ip.0)),
            RData::CNAME(name) => {
                // A name that no rule could be about is not one to follow.
                let name = name.0.to_ascii().parse().map_err(|_| ResolveError::Failed)?;
                // Both families go by the same aliases.
                if !answers.aliases.contains(&name) {
                    answers.aliases.push(name);
                }
            }
            _ => {}
        }
    }
    Ok(answers)
}

/// The name with the root label, which keeps the search list out.
fn absolute(name: &HostName) -> Result<Name, ResolveError> {
    let mut name = Name::from_ascii(name.as_str()).map_err(|_| ResolveError::NotFound)?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests;
