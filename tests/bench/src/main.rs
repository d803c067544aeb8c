//! The benchmark of the capture server: the browser itself, the library and the HTTP service on the same pages, in one
//! run. `docs/benchmarks.md` says how to run it and how to read it.
//!
//! In: arguments (`hack/bench-capture.sh` gives them). Out: tables and `capture.json`. It must run in a network of its
//! own, on whose private address the site is served: no request of the benchmark can leave the machine.

#![allow(clippy::disallowed_methods)] // A program for developers: it serves pages, calls and starts what it measures.

mod arm;
mod cells;
mod check;
mod crew;
mod figures;
mod memory;
mod meter;
mod protocol;
mod report;
mod results;
mod run;
mod site;
mod soak;
mod stats;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use arm::{Isolation, Kind, Setup};
use clap::{Args, Parser, Subcommand};

/// Why a step failed, in words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure everything.
    Run(RunArgs),
    /// Be one arm; the orchestrator starts these.
    Arm(ArmArgs),
}

#[derive(Args)]
struct Common {
    /// Where the site is served: a private address of this network namespace.
    #[arg(long)]
    site: SocketAddr,
    /// The headless shell.
    #[arg(long, default_value_os_t = arm::default_program())]
    browser: PathBuf,
    /// The directory with capture-server and capture-jail.
    #[arg(long)]
    programs: PathBuf,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Rounds; medians are over these.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Two rounds: whether it works at all, no figures to quote.
    #[arg(long)]
    quick: bool,
    /// Every cell for every arm, not only what the goals need: three times as long.
    #[arg(long)]
    whole: bool,
    /// Only cells whose names begin so (and `memory`); may be repeated. Other rows of the JSON stay.
    #[arg(long)]
    only: Vec<String>,
    /// An isolation to leave out.
    #[arg(long)]
    without: Vec<Isolation>,
    /// A service of another make, `NAME=COMMAND`: a program that speaks this benchmark's protocol. May be repeated.
    #[arg(long)]
    peer: Vec<crew::Peer>,
    /// So many captures with faults among them, after the rest: does everything come back to where it was?
    #[arg(long, default_value_t = 0)]
    soak: u32,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/capture.json")]
    out: PathBuf,
}

#[derive(Args)]
struct ArmArgs {
    kind: Kind,
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value = "per-capture")]
    isolation: Isolation,
    /// How long a capture may take.
    #[arg(long)]
    deadline_ms: u64,
    /// The control group to join.
    #[arg(long)]
    group: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&run::Options {
            site: args.common.site,
            browser: args.common.browser,
            programs: args.common.programs,
            rounds: if args.quick { 2 } else { args.rounds.max(1) },
            only: args.only,
            without: args.without,
            peers: args.peer,
            extent: if args.whole {
                cells::Extent::Whole
            } else {
                cells::Extent::Goals
            },
            soak: args.soak,
            out: args.out,
        }),
        Command::Arm(args) => {
            let setup = Setup {
                browser: args.common.browser,
                programs: args.common.programs,
                site: args.common.site,
                isolation: args.isolation,
                deadline_ms: args.deadline_ms,
            };
            worker::run(args.kind, &setup, args.group)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
