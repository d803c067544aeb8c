//! CONNECT.
//!
//! In: the browser's stream and a connection to the target. Out: the tunnel has ended, or why it was cut. Before
//! the first byte goes out, the browser must have sent a ClientHello for the host, or, on other ports than 443, a
//! WebSocket upgrade for it (that is how browsers open `ws:` through a proxy).
//! It must not look further into the stream than that, unless the policy names the host; then `tls` has it.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::Timings;
use crate::connection::Cut;
use crate::forward;
use crate::head::{self, MAX_HEAD, Request};
use crate::hello::{self, HelloError, MAX_HELLO, Opening, Served};
use crate::log::Site;
use crate::tls::{Named, TlsError};
use crate::wire::{self, HeadEnd, ReadError, Stage};

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";
/// Room for the headers of the records that a ClientHello is spread over.
const MAX_OPENING: usize = MAX_HELLO + 1024;

/// One tunnel and what is known of it.
pub(crate) struct Tunnel<'t> {
    pub(crate) site: &'t Site,
    /// What the browser sent with the request, if it was that fast.
    pub(crate) opening: Vec<u8>,
    /// Set if the policy names the host: TLS then ends here, and the proxy's own begins.
    pub(crate) named: Option<Result<Named, TlsError>>,
    pub(crate) timings: &'t Timings,
}

impl Tunnel<'_> {
    /// Serves it. `admitted` is called once it may go through.
    pub(crate) async fn serve<C, U>(self, client: &mut C, upstream: &mut U, admitted: impl FnOnce()) -> Result<(), Cut>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            site,
            mut opening,
            named,
            timings,
        } = self;
        if client.write_all(ESTABLISHED).await.is_err() {
            return Ok(());
        }
        let checked = timeout(timings.header, check(client, site, &mut opening)).await;
        let upgrade = checked.unwrap_or(Err(HelloError::Missing)).map_err(Cut::silent)?;
        match (upgrade, named) {
            (Some(request), _) => {
                admitted();
                let exchanged = forward::exchange(client, upstream, &request, &[], timings).await;
                exchanged.map_err(Cut::silenced)
            }
            (None, Some(named)) => {
                let named = named.map_err(Cut::silent)?;
                named.bridge(client, upstream, &opening, timings, admitted).await
            }
            (None, None) => {
                admitted();
                if send(upstream, &opening).await.is_err() {
                    return Ok(());
                }
                let spliced = wire::splice(client, upstream, timings, Stage::Asked).await;
                spliced.map_err(Cut::silent)
            }
        }
    }
}

/// Over TLS to an upstream, what is written waits for a flush.
async fn send<U>(upstream: &mut U, opening: &[u8]) -> std::io::Result<()>
where
    U: AsyncWrite + Unpin,
{
    upstream.write_all(opening).await?;
    upstream.flush().await
}

/// The upgrade request, or `None` for TLS, whose first bytes are then in `opening`.
async fn check<C>(client: &mut C, site: &Site, opening: &mut Vec<u8>) -> Result<Option<Request>, HelloError>
where
    C: AsyncRead + Unpin,
{
    let inspect = |bytes: &[u8]| hello::inspect(bytes, &site.host, Served::on(site.port));
    match wire::read_until(client, opening, MAX_OPENING, inspect)
        .await
        .map_err(hello_error)?
    {
        Opening::Tls => Ok(None),
        Opening::Http => upgrade(client, site, opening).await.map(Some),
    }
}

async fn upgrade<C>(client: &mut C, site: &Site, opening: &mut Vec<u8>) -> Result<Request, HelloError>
where
    C: AsyncRead + Unpin,
{
    let mut end = HeadEnd::default();
    let parse = |bytes: &[u8]| {
        if end.found(bytes) {
            head::parse_inner(bytes, site)
        } else {
            Ok(None)
        }
    };
    let read = wire::read_until(client, opening, MAX_HEAD, parse).await;
    let (request, used) = read.map_err(|error| match error {
        ReadError::Closed => HelloError::Missing,
        ReadError::Parse(_) | ReadError::TooLarge => HelloError::NotUpgrade,
    })?;
    // A client must not speak WebSocket before the server has agreed.
    if used == opening.len() && request.length == 0 {
        Ok(request)
    } else {
        Err(HelloError::NotUpgrade)
    }
}

fn hello_error(error: ReadError<HelloError>) -> HelloError {
    match error {
        ReadError::Parse(error) => error,
        ReadError::TooLarge => HelloError::TooLarge,
        ReadError::Closed => HelloError::Missing,
    }
}
