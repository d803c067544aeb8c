//! A run: starts site and arms, goes through the rounds, reports.
//!
//! In: options. Out: tables on standard output, progress on standard error, `capture.json`. The order of the arms is
//! rotated from round to round. Fails on errors, wrong pictures and a noisy
//! machine, never on a missed goal. Must not: measure before
//! every arm has taken a throw-away picture of each page.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::arm::{Isolation, Setup, isolations};
use crate::cells::{Cell, Extent};
use crate::crew::{ArmName, Member, Peer};
use crate::figures::{self, Alone, Row};
use crate::memory;
use crate::meter::Ticks;
use crate::protocol::{Load, Order};
use crate::results::Results;
use crate::site::{Page, Site};
use crate::{Failure, cells, report, soak};

/// No capture of the benchmark takes longer, in milliseconds.
const DEADLINE_MS: u64 = 20_000;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the site listens: an address that a policy can name.
    pub site: SocketAddr,
    /// The headless shell.
    pub browser: PathBuf,
    /// Where the programs are.
    pub programs: PathBuf,
    /// Rounds.
    pub rounds: usize,
    /// Prefixes of cells' names (and `memory`); empty: all.
    pub only: Vec<String>,
    /// Isolations to leave out.
    pub without: Vec<Isolation>,
    /// Services of another make that take part.
    pub peers: Vec<Peer>,
    /// How much.
    pub extent: Extent,
    /// Captures of the soak; none without.
    pub soak: u32,
    /// Where the JSON goes.
    pub out: PathBuf,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Measures and reports.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let site = runtime.block_on(Site::start(options.site))?;
    let mut known = isolations(site.address());
    known.retain(|isolation| !options.without.contains(isolation));
    let setup = Setup {
        browser: options.browser.clone(),
        programs: options.programs.clone(),
        site: site.address(),
        isolation: Isolation::PerCapture,
        deadline_ms: DEADLINE_MS,
    };
    let before = Ticks::now();
    let (mut results, mut browser, mut alone) = (Results::default(), String::new(), Alone::default());
    // What was measured is told although one of these fails.
    let measured = rounds(options, &setup, &known, site, &mut results, &mut browser)
        .and_then(|()| measure_alone(options, &setup, &known, site, &mut alone));
    if measured.is_err() && results.keys().next().is_none() && alone.memories.is_empty() && alone.soaks.is_empty() {
        return measured; // Nothing to tell, and nothing to put in the place of what is there.
    }
    let stolen = before.and_then(|before| Some(Ticks::now()?.stolen_since(before)));
    let concluded = conclude(options, &results, &alone, &machine(&browser, stolen));
    measured.and(concluded)
}

/// Memory and soak.
fn measure_alone(
    options: &Options,
    setup: &Setup,
    known: &[Isolation],
    site: Site,
    alone: &mut Alone,
) -> Result<(), Failure> {
    if options.wants("memory") {
        let first = if options.extent == Extent::Whole {
            known.len()
        } else {
            1
        };
        for isolation in known.iter().take(first) {
            eprintln!("memory of http {}, {} starts", isolation.word(), options.rounds);
            let memory = memory::measure(setup, *isolation, site, options.rounds)?;
            alone.memories.push(memory);
        }
    }
    for isolation in known.iter().filter(|_| options.soak > 0) {
        eprintln!("soak of http {}, {} captures", isolation.word(), options.soak);
        alone.soaks.push(soak::measure(setup, *isolation, site, options.soak)?);
    }
    Ok(())
}

fn rounds(
    options: &Options,
    setup: &Setup,
    known: &[Isolation],
    site: Site,
    results: &mut Results,
    browser: &mut String,
) -> Result<(), Failure> {
    let cells: Vec<Cell> = Cell::ALL
        .into_iter()
        .filter(|cell| options.wants(&cell.name()))
        .collect();
    if cells.is_empty() {
        return Ok(());
    }
    let mut crew = Vec::new();
    for name in ArmName::all(known, &options.peers) {
        let isolation = name.isolation.unwrap_or(Isolation::PerCapture);
        let setup = Setup {
            isolation,
            ..setup.clone()
        };
        let mut member = Member::start(&name, &setup)?;
        warm_up(&name, &mut member, site)?;
        eprintln!("arm {}: ready after {:.0} ms", name.word(), member.hello.ready_ms);
        crew.push((name, member));
    }
    if let Some((_, member)) = crew.first() {
        browser.clone_from(&member.hello.browser);
    }
    let primary = known.first().copied();
    for round in 0..options.rounds {
        let began = Instant::now();
        let mut rate = 0.0;
        for cell in &cells {
            for position in 0..crew.len() {
                let next = (position + round) % crew.len();
                let Some((name, member)) = crew.get_mut(next) else {
                    continue;
                };
                if !cell.is_for(name.kind, name.isolation == primary, options.extent) {
                    continue;
                }
                let seed = round as u64 + 1;
                let report = member
                    .carry_out(&cell.order(site, rate, seed))
                    .map_err(|error| format!("{} {}: {error}", cell.name(), name.word()))?;
                results.add(*cell, name, round, report);
            }
            // The arrivals of the open cell follow the machine as it is in this round.
            if let (Cell::Saturated(Page::Article), Some((_, report))) =
                (cell, results.reports(*cell, &ArmName::RAW).find(|(of, _)| *of == round))
            {
                rate = report.rate;
            }
        }
        eprintln!(
            "round {} of {}: {:.0} s",
            round + 1,
            options.rounds,
            began.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn warm_up(name: &ArmName, member: &mut Member, site: Site) -> Result<(), Failure> {
    for page in [Page::Trivial, Page::Article, Page::Long, Page::Demo] {
        let order = Order {
            job: cells::job(site, page),
            load: Load::Paced { count: 1, pause_ms: 0 },
            background: None,
        };
        let report = member
            .carry_out(&order)
            .map_err(|error| format!("{}: {error}", name.word()))?;
        if let Some(error) = report.errors.keys().next() {
            return Err(format!("{}: {}: {error}", name.word(), page.name()).into());
        }
    }
    Ok(())
}

fn conclude(options: &Options, results: &Results, alone: &Alone, machine: &Value) -> Result<(), Failure> {
    let mut rows = figures::rows(results, alone);
    if !options.only.is_empty() {
        keep_earlier(&mut rows, &options.out);
    }
    let (faults, noisy) = (results.faults(), report::noisy(results));
    println!("{}", report::absolute(results));
    println!("{}", report::table(&rows));
    print!("{}", report::holding_back(results));
    if !noisy.is_empty() {
        println!(
            "noisy, raw's own p50 differs by more than 25 % between rounds: {}",
            noisy.join(", ")
        );
    }
    let missed = rows.iter().filter(|row| row.reached() == Some(false)).count();
    let reached = rows.iter().filter(|row| row.reached() == Some(true)).count();
    println!("{reached} goals reached, {missed} missed; {}", options.out.display());
    write(options, &rows, machine, &noisy)?;
    if !faults.is_empty() {
        return Err(format!("failed captures or wrong pictures:\n  {}", faults.join("\n  ")).into());
    }
    if noisy.is_empty() {
        return Ok(());
    }
    Err(
        "the machine was too noisy for latencies and rates (CPU per capture holds); leave it alone and run this again"
            .into(),
    )
}

/// A run of some cells leaves the rows of the others as they were, and says so.
fn keep_earlier(rows: &mut Vec<Row>, file: &std::path::Path) {
    let earlier = std::fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let earlier = earlier.map_or_else(Vec::new, |mut value| {
        serde_json::from_value::<Vec<Row>>(value["rows"].take()).unwrap_or_default()
    });
    for before in earlier.into_iter().filter(|before| before.value.is_some()) {
        let row = rows.iter_mut().find(|row| row.figure == before.figure);
        let before = Row {
            earlier: true,
            ..before
        };
        match row {
            Some(row) if row.value.is_none() => *row = before,
            Some(_) => {}
            // It has no goal, without which a row that was not measured is not there.
            None => rows.push(before),
        }
    }
}

fn machine(browser: &str, stolen: Option<f64>) -> Value {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "cpu": model.map(|(_, name)| name.to_owned()),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").split(' ').next(),
        "browser": browser,
        "stolenPercent": stolen,
        "time": jiff::Timestamp::now().to_string(),
    })
}

fn write(options: &Options, rows: &[Row], machine: &Value, noisy: &[String]) -> Result<(), Failure> {
    if let Some(directory) = options.out.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let document = json!({"machine": machine, "rows": rows, "noisy": noisy});
    Ok(std::fs::write(&options.out, serde_json::to_vec_pretty(&document)?)?)
}
