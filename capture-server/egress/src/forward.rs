//! One plain HTTP exchange.
//!
//! In: a parsed request, the browser's stream and a connection to the target. Out: the response has been relayed,
//! or why not. One connection carries exactly one request: what follows it ends the exchange, so that no byte can
//! reach a target under another request's decision. A WebSocket upgrade turns into a splice.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Timings;
use crate::connection::Cut;
use crate::head::{MAX_HEAD, Request};
use crate::response::{self, Body, Response, ResponseError};
use crate::wire::{self, Activity, HeadEnd, ReadError, Stage};

/// How many interim (1xx) responses are skipped.
const MAX_INTERIM: usize = 8;

enum Relayed {
    /// All there is.
    Done,
    /// The protocol changes: the head for the browser and what the target has sent since.
    Switched(Response, Vec<u8>),
}

/// Sends `request`, whose body starts with `rest`, and relays the response.
pub(crate) async fn exchange<C, U>(
    client: &mut C,
    upstream: &mut U,
    request: &Request,
    rest: &[u8],
    timings: &Timings,
) -> Result<(), Cut>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::new();
    let started = AtomicBool::new(false);
    let patience = || {
        if started.load(Ordering::Relaxed) {
            timings.idle
        } else {
            timings.first_byte
        }
    };
    let relayed = {
        let (mut client_read, mut client_write) = tokio::io::split(&mut *client);
        let (mut upstream_read, mut upstream_write) = tokio::io::split(&mut *upstream);
        tokio::select! {
            relayed = receive(&mut upstream_read, &mut client_write, request, &activity, &started) => relayed,
            () = send(&mut client_read, &mut upstream_write, request, rest, &activity) => Ok(Relayed::Done),
            () = activity.quiet(patience) => Err(ResponseError::Timeout),
        }
    };
    match relayed {
        Ok(Relayed::Done) => Ok(()),
        Ok(Relayed::Switched(response, early)) => {
            let opened = async {
                client.write_all(&response.head).await?;
                client.write_all(&early).await
            };
            if opened.await.is_err() {
                return Ok(());
            }
            let spliced = wire::splice(client, upstream, timings, Stage::Answered).await;
            spliced.map_err(Cut::silent)
        }
        // Once the head is out, the browser sees for itself that the body stops short.
        Err(_) if started.load(Ordering::Relaxed) => Ok(()),
        Err(error) => Err(Cut::answerable(error)),
    }
}

/// Sends the request, then waits for the browser to close or say more; either ends the exchange.
async fn send<C, U>(client: &mut C, upstream: &mut U, request: &Request, rest: &[u8], activity: &Activity)
where
    C: AsyncRead + Unpin,
    U: AsyncWrite + Unpin,
{
    let left = request
        .length
        .saturating_sub(u64::try_from(rest.len()).unwrap_or(u64::MAX));
    let sent = async {
        upstream.write_all(&[&request.render(), rest].concat()).await?;
        upstream.flush().await?;
        activity.touch();
        wire::pump(client, upstream, || activity.touch(), left).await
    };
    match sent.await {
        Ok(0) => {
            let _ = client.read(&mut [0]).await;
        }
        Ok(_) => {}
        Err(error) if wire::spent(&error).is_some() => {}
        // A target may answer without taking the whole body.
        Err(_) => std::future::pending().await,
    }
}

async fn receive<U, C>(
    upstream: &mut U,
    client: &mut C,
    request: &Request,
    activity: &Activity,
    started: &AtomicBool,
) -> Result<Relayed, ResponseError>
where
    U: AsyncRead + Unpin,
    C: AsyncWrite + Unpin,
{
    let mut buf = Vec::new();
    for _ in 0..=MAX_INTERIM {
        let mut end = HeadEnd::default();
        let parse = |bytes: &[u8]| {
            if end.found(bytes) {
                response::parse(bytes, &request.method, request.upgrade)
            } else {
                Ok(None)
            }
        };
        let (response, used) = match wire::read_until(upstream, &mut buf, MAX_HEAD, parse).await {
            Ok(parsed) => parsed,
            Err(ReadError::Parse(error)) => return Err(error),
            Err(ReadError::TooLarge) => return Err(ResponseError::TooLarge),
            Err(ReadError::Closed) => return Err(ResponseError::Incomplete),
        };
        buf.drain(..used);
        activity.touch();
        match response.status {
            101 => return Ok(Relayed::Switched(response, buf)),
            200.. => {
                started.store(true, Ordering::Relaxed);
                activity.hurry();
                // Whether browser or target fails, there is nothing more to tell either.
                let _ = relay(upstream, client, &response, &buf, activity).await;
                return Ok(Relayed::Done);
            }
            _ => {}
        }
    }
    Err(ResponseError::TooLarge)
}

async fn relay<U, C>(
    upstream: &mut U,
    client: &mut C,
    response: &Response,
    early: &[u8],
    activity: &Activity,
) -> std::io::Result<()>
where
    U: AsyncRead + Unpin,
    C: AsyncWrite + Unpin,
{
    let length = match response.body {
        Body::Exactly(length) => length,
        Body::UntilClose => u64::MAX,
    };
    let early = early
        .get(..usize::try_from(length).unwrap_or(usize::MAX).min(early.len()))
        .unwrap_or_default();
    // In one piece: every piece wakes the browser up.
    client.write_all(&[&response.head, early].concat()).await?;
    let left = length.saturating_sub(u64::try_from(early.len()).unwrap_or(u64::MAX));
    wire::pump(upstream, client, || activity.touch(), left).await?;
    client.shutdown().await
}
