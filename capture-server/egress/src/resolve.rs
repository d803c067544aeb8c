//! Names to addresses.
//!
//! In: a host name. Out: every address that DNS gives for it, A and AAAA, or why there is none.
//! Only absolute names are asked for (no search list, no hosts file, no cache), so that a name means the same
//! thing here as it does to the rest of the internet, and is asked again for each connection.
//! It must not judge addresses: that is `decide`'s.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
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

/// Looks names up. Implementations return every answer, unjudged.
pub trait Resolver: Send + Sync {
    /// Every address of `name`.
    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// Asks the name servers that the system names.
pub struct SystemResolver(TokioResolver);

impl SystemResolver {
    /// A resolver with the system's name servers.
    ///
    /// # Errors
    /// [`ResolveError::Failed`] if the system's configuration cannot be read.
    pub fn from_system() -> Result<Self, ResolveError> {
        Self::strict(TokioResolver::builder_tokio().map_err(|_| ResolveError::Failed)?)
    }

    fn strict(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, ResolveError> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        // A cache shared by captures would tell one client's page what another's has visited.
        options.cache_size = 0;
        builder.build().map(Self).map_err(|_| ResolveError::Failed)
    }
}

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let name = absolute(name)?;
            let answer = tokio::time::timeout(LOOKUP_TIMEOUT, self.0.lookup_ip(name)).await;
            match answer {
                Err(_) => Err(ResolveError::Timeout),
                Ok(Ok(found)) => Ok(found.iter().collect()),
                Ok(Err(error)) if error.is_no_records_found() => Err(ResolveError::NotFound),
                Ok(Err(_)) => Err(ResolveError::Failed),
            }
        })
    }
}

/// The name with the root label, which keeps the search list out.
fn absolute(name: &HostName) -> Result<Name, ResolveError> {
    let mut name = Name::from_ascii(name.as_str()).map_err(|_| ResolveError::NotFound)?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests;
