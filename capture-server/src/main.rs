//! The program: arguments in, exit code out.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use capture_server::config::{Cli, Command, HealthArgs, ServeArgs};
use capture_server::server::Server;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => run(*args),
        Command::Health(args) => return health(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %error, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

fn run(args: ServeArgs) -> io::Result<()> {
    // Logs go to standard error as JSON, one object a line; the audit lines have the target `audit`. Spans are written as
    // they end: with `trace=debug` in the filter, one line for each phase of each capture.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let server = Server::start(args).await?;
            let [api, health, metrics] = server.addresses()?;
            tracing::info!(%api, %health, %metrics, "listening");
            server
                .run(async move {
                    tokio::select! {
                        _ = term.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                })
                .await
        })
}

/// Asks over plain HTTP, without a client library: the answer's first line is all that counts.
#[expect(
    clippy::disallowed_methods,
    reason = "a probe's own request, to the address on its command line"
)]
fn health(args: &HealthArgs) -> ExitCode {
    let ask = || -> io::Result<bool> {
        let timeout = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&args.address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer)?;
        println!("{}", answer.split("\r\n\r\n").nth(1).unwrap_or_default());
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    if ask().unwrap_or(false) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
