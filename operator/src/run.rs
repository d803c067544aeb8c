//! The operator's life: begin, lead, end in order.
//!
//! In: settings, a client. Out: watches and ports at once, passes while leading. At the end: no new passes, those under
//! way finish, the Lease is given back, the watches end, the ports last, so that probes are answered throughout.
//! A leader that lost its Lease stops where it is: another one may have begun.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cache::watches;
use crate::cluster::follow;
use crate::context::Context;
use crate::http;
use crate::leader::Elector;
use crate::trigger::controller::{self, Scope};

/// Passes under way have so long to finish; the pod's grace period is longer.
const DRAIN: Duration = Duration::from_secs(20);

/// Where things are served.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// /healthz and /readyz.
    pub health: SocketAddr,
    /// /metrics.
    pub metrics: SocketAddr,
    /// The canary.
    pub canary: SocketAddr,
}

/// Why the operator ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A port cannot be had, or its server failed.
    #[error("serving failed: {0}")]
    Port(#[from] std::io::Error),
    /// Another process may lead now.
    #[error("the Lease was lost")]
    LostLease,
}

/// Runs until the token is cancelled.
///
/// # Errors
/// Why it ended early; the process should too.
pub async fn run(
    context: Arc<Context>,
    scope: Scope,
    elector: Option<Elector>,
    ports: Ports,
    stop: CancellationToken,
) -> Result<(), Ended> {
    let (watching, serving) = (CancellationToken::new(), CancellationToken::new());
    let health = http::serve(ports.health, http::health(Arc::clone(&context)), serving.clone());
    let metrics = http::serve(ports.metrics, http::metrics(Arc::clone(&context)), serving.clone());
    let canary = canary(ports.canary, Arc::clone(&context), serving.clone());
    let work = async {
        let own = tokio::spawn(follow::run(Arc::clone(&context), scope.clone(), watching.clone()));
        let watches = tokio::spawn(watches::run(Arc::clone(&context), scope, watching.clone()));
        let led = lead(&context, elector, &stop).await;
        watching.cancel();
        if led.is_ok() {
            // Ended by ourselves; nothing is left to be said about it.
            let _ = tokio::join!(watches, own);
        }
        serving.cancel();
        led
    };
    let ports = async {
        tokio::try_join!(health, metrics, canary)?;
        Ok::<_, Ended>(())
    };
    tokio::try_join!(work, ports)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the operator's own port")]
async fn canary(address: SocketAddr, context: Arc<Context>, stop: CancellationToken) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    Arc::clone(&context.canary).serve(listener, stop).await;
    Ok(())
}

async fn lead(context: &Arc<Context>, elector: Option<Elector>, stop: &CancellationToken) -> Result<(), Ended> {
    let Some(mut elector) = elector else {
        drain(context, stop, std::future::pending()).await;
        return Ok(());
    };
    tokio::select! {
        () = elector.campaign() => {}
        () = stop.cancelled() => return Ok(()),
    }
    let kept = drain(context, stop, elector.keep()).await;
    if !kept {
        return Err(Ended::LostLease);
    }
    if let Err(error) = elector.release().await {
        tracing::warn!(
            reason = error.reason(),
            "the Lease was not given back; it runs out by itself"
        );
    }
    Ok(())
}

/// Makes passes until asked to stop, and lets those under way finish; `false` when the Lease was lost meanwhile.
async fn drain(context: &Arc<Context>, stop: &CancellationToken, lost: impl Future<Output = ()>) -> bool {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = controller::run(Arc::clone(context), stop.clone()) => true,
        () = late => {
            tracing::warn!("passes were still under way at the end");
            true
        }
        () = lost => false,
    }
}
