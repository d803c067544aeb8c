//! The figures that the project set itself, as rows: what was measured, what was aimed at.
//!
//! In: results. Out: [`Row`]s: every figure with a goal, measured or not, and what else was measured. Pure.
//! Must not: drop a row because its goal was missed.

use serde::{Deserialize, Serialize};

use crate::arm::{Isolation, Kind};
use crate::cells::Cell;
use crate::crew::ArmName;
use crate::memory::Memory;
use crate::meter::Footprint;
use crate::protocol::Format;
use crate::results::{Measured, Metric, Results};
use crate::site::Page;
use crate::soak::Soak;
use crate::stats::Spread;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What it is.
    pub figure: String,
    /// The median of the rounds, of a p95 that of all captures together; none if it was not measured.
    pub value: Option<f64>,
    /// What it should be; none if it is only shown.
    pub goal: Option<f64>,
    /// Unit of value and goal; `÷` is a ratio.
    pub unit: String,
    /// Whether the goal is a lower bound.
    pub at_least: bool,
    /// Rounds.
    pub rounds: usize,
    /// Smallest and largest round.
    pub spread: Option<[f64; 2]>,
    /// Whether an earlier run measured it, which left it in the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub earlier: bool,
}

impl Row {
    fn new(figure: impl Into<String>, unit: &str, goal: Option<f64>, measured: Option<Measured>) -> Self {
        Self {
            figure: figure.into(),
            value: measured.as_ref().map(|measured| measured.value),
            goal,
            unit: unit.to_owned(),
            at_least: false,
            rounds: measured.as_ref().map_or(0, |measured| measured.rounds),
            spread: measured.map(|measured| [measured.spread.min, measured.spread.max]),
            earlier: false,
        }
    }

    fn at_least(mut self) -> Self {
        self.at_least = true;
        self
    }

    /// Whether the goal is reached; `None` without goal or value.
    pub fn reached(&self) -> Option<bool> {
        let (value, goal) = (self.value?, self.goal?);
        Some(if self.at_least { value >= goal } else { value <= goal })
    }
}

/// What was measured of a service alone on the machine.
#[derive(Debug, Default)]
pub struct Alone {
    /// Memory and start.
    pub memories: Vec<Memory>,
    /// Before and after many captures.
    pub soaks: Vec<Soak>,
}

fn arm(kind: Kind, isolation: Isolation) -> ArmName {
    ArmName {
        kind,
        isolation: Some(isolation),
        peer: None,
    }
}

/// All figures.
pub fn rows(results: &Results, alone: &Alone) -> Vec<Row> {
    let mut rows = Vec::new();
    for isolation in [Isolation::PerClient, Isolation::PerCapture] {
        rows.extend(latency_rows(results, isolation));
        rows.extend(throughput_rows(results, isolation));
        rows.extend(neighbour_rows(results, isolation));
        rows.extend(service_rows(results, &alone.memories, isolation));
        rows.extend(soak_rows(&alone.soaks, isolation));
    }
    rows.push(floor_row(results));
    let raw = results.absolute(Cell::Single(Page::Article), &ArmName::RAW, Metric::Cpu);
    // The proxy's benchmark reads it: what a capture is, in which the proxy has a share.
    rows.push(Row::new("the browser alone: CPU per capture, article", "ms", None, raw));
    rows.extend(peer_rows(results));
    rows.retain(|row| row.goal.is_some() || row.value.is_some());
    rows
}

fn latency_rows(results: &Results, isolation: Isolation) -> Vec<Row> {
    use Isolation::{PerCapture, PerClient};
    let mut rows = Vec::new();
    let mut against_raw = |kind, cell: Cell, what: &str, goal| {
        let (arm, word) = (arm(kind, isolation), isolation.word());
        let ratio = results.ratio((cell, &arm), (cell, &ArmName::RAW), Metric::Latency(0.5));
        rows.push(Row::new(
            format!("{word}: c=1 time to image, {what}"),
            "÷ raw",
            goal,
            ratio,
        ));
    };
    for page in [Page::Article, Page::Trivial] {
        let goal = match (isolation, page) {
            (PerClient, _) => Some(0.80),
            (PerCapture, Page::Article) => Some(1.00),
            (PerCapture, _) => None,
        };
        let what = format!("{}, spares at hand", page.name());
        against_raw(Kind::Engine, Cell::Paced(page), &what, goal);
    }
    for page in [Page::Article, Page::Trivial] {
        let goal = (isolation == PerClient).then_some(1.00);
        let what = format!("{}, back to back", page.name());
        against_raw(Kind::Engine, Cell::Single(page), &what, goal);
    }
    against_raw(
        Kind::Engine,
        Cell::Single(Page::Long),
        "long full page, back to back",
        None,
    );
    against_raw(Kind::Http, Cell::Paced(Page::Demo), "demo page over HTTP", None);
    rows
}

fn throughput_rows(results: &Results, isolation: Isolation) -> Vec<Row> {
    use Isolation::PerClient;
    let mut rows = Vec::new();
    let word = isolation.word();
    for page in [Page::Article, Page::Trivial] {
        let name = page.name();
        let ratio = |cell, kind, metric| results.ratio((cell, &arm(kind, isolation)), (cell, &ArmName::RAW), metric);
        let rate = ratio(Cell::Saturated(page), Kind::Engine, Metric::Rate);
        let goal = (isolation == PerClient).then_some(0.98);
        rows.push(Row::new(format!("{word}: saturated captures/s, {name}"), "÷ raw", goal, rate).at_least());
        let engine = match (isolation, page) {
            (PerClient, _) => Some(1.05),
            (_, Page::Article) => Some(2.0),
            _ => None,
        };
        let http = (isolation == PerClient).then_some(1.10);
        let saturated = |goal: Option<f64>| goal.filter(|_| isolation == PerClient);
        for (cell, load, goals) in [
            (Cell::Single(page), "", (engine, http)),
            (
                Cell::Saturated(page),
                " saturated",
                (saturated(engine), saturated(http)),
            ),
        ] {
            for (kind, way, goal) in [(Kind::Engine, "engine", goals.0), (Kind::Http, "over HTTP", goals.1)] {
                let cpu = ratio(cell, kind, Metric::Cpu);
                let figure = format!("{word}: CPU per capture{load}, {way}, {name}");
                rows.push(Row::new(figure, "÷ raw", goal, cpu));
                let driver = results.absolute(cell, &arm(kind, isolation), Metric::Driver);
                let figure = format!("{word}: the server's own CPU per capture{load}, {way}, {name}");
                rows.push(Row::new(figure, "ms", None, driver));
            }
        }
    }
    for (cell, what) in [
        (Cell::Cores(Page::Article), "c=cores"),
        (Cell::TwiceCores(Page::Article), "c=2×cores"),
    ] {
        let both = ((cell, &arm(Kind::Engine, isolation)), (cell, &ArmName::RAW));
        let ratio = results.ratio(both.0, both.1, Metric::Rate);
        rows.push(Row::new(format!("{word}: captures/s at {what}, article"), "÷ raw", None, ratio).at_least());
    }
    for share in [30, 60, 90] {
        let cell = Cell::Open(Page::Article, share);
        let both = ((cell, &arm(Kind::Http, isolation)), (cell, &ArmName::RAW));
        let ratio = results.pooled(both.0, both.1, 0.95);
        let figure = format!("{word}: p95 over HTTP, article, Poisson arrivals at {share} % of raw's rate");
        rows.push(Row::new(figure, "÷ raw", None, ratio));
    }
    for format in [Format::PngSmall, Format::Jpeg, Format::Webp] {
        let cell = Cell::Encoded(format);
        let both = ((cell, &arm(Kind::Http, isolation)), (cell, &ArmName::RAW));
        for (metric, what) in [
            (Metric::Latency(0.5), "time to image"),
            (Metric::Cpu, "CPU per capture"),
        ] {
            let ratio = results.ratio(both.0, both.1, metric);
            let figure = format!("{word}: {what} over HTTP, article as {}", format.name());
            rows.push(Row::new(figure, "÷ raw", None, ratio));
        }
    }
    rows
}

fn neighbour_rows(results: &Results, isolation: Isolation) -> Vec<Row> {
    let alone = Cell::Single(Page::Trivial);
    let mut rows = Vec::new();
    for (cell, what) in [
        (Cell::Beside, "full pages"),
        (Cell::Hostile, "an endless script"),
        (Cell::Mix, "hostile pages in turn"),
    ] {
        for (kind, way) in [(Kind::Engine, "engine"), (Kind::Http, "over HTTP")] {
            let arm = arm(kind, isolation);
            let ratio = results.pooled((cell, &arm), (alone, &arm), 0.95);
            let figure = format!("{}: trivial p95 beside {what}, {way}", isolation.word());
            rows.push(Row::new(figure, "÷ alone", default_goal(isolation, kind, 1.5), ratio));
        }
    }
    rows
}

/// A goal of the service as it is by default, over HTTP. Other ways are only shown.
fn default_goal(isolation: Isolation, kind: Kind, goal: f64) -> Option<f64> {
    (isolation == Isolation::PerClient && kind == Kind::Http).then_some(goal)
}

fn service_rows(results: &Results, memory: &[Memory], isolation: Isolation) -> Vec<Row> {
    let word = isolation.word();
    let (http, engine) = (arm(Kind::Http, isolation), arm(Kind::Engine, isolation));
    let layer = results.difference(Cell::Single(Page::Trivial), &http, &engine, Metric::Frame);
    let found = memory.iter().find(|memory| memory.isolation == isolation);
    let goal = |value| default_goal(isolation, Kind::Http, value);
    let of = |read: fn(&Memory) -> Option<Measured>| found.and_then(read);
    vec![
        Row::new(format!("{word}: HTTP layer alone, p50"), "ms", goal(2.0), layer),
        Row::new(format!("{word}: memory idle, PSS"), "MB", goal(350.0), of(Memory::idle)),
        Row::new(
            format!("{word}: memory at c=8, PSS"),
            "MB",
            goal(600.0),
            of(Memory::busy),
        ),
        Row::new(
            format!("{word}: memory at c=8, the control group's highest"),
            "MB",
            None,
            of(Memory::group),
        ),
        Row::new(
            format!("{word}: server start to proven ready"),
            "s",
            goal(2.0),
            of(Memory::ready),
        ),
    ]
}

/// More of each after the soak than before.
fn soak_rows(soaks: &[Soak], isolation: Isolation) -> Vec<Row> {
    #[allow(clippy::cast_precision_loss)] // thousands at most
    let more = |read: fn(&Footprint) -> u64| move |soak: &Soak| read(&soak.after) as f64 - read(&soak.before) as f64;
    let found = soaks.iter().find(|soak| soak.isolation == isolation);
    let row = |what: &str, unit: &str, goal, read: &dyn Fn(&Soak) -> f64| {
        let once = found.map(read).map(|value| Measured {
            value,
            spread: Spread { min: value, max: value },
            rounds: 1,
        });
        Row::new(
            format!("{}: {what} after many captures with faults", isolation.word()),
            unit,
            default_goal(isolation, Kind::Http, goal),
            once,
        )
    };
    vec![
        row("more processes", "", 0.0, &more(|footprint| footprint.processes)),
        row("more threads", "", 0.0, &more(|footprint| footprint.threads)),
        row("more descriptors", "", 0.0, &more(|footprint| footprint.descriptors)),
        row("more files", "", 0.0, &more(|footprint| footprint.files)),
        row("memory", "÷ before", 1.1, &|soak| soak.after.pss / soak.before.pss),
    ]
}

/// Services of another make, beside the browser itself.
fn peer_rows(results: &Results) -> Vec<Row> {
    let mut peers: Vec<&ArmName> = results
        .keys()
        .map(|(_, arm)| arm)
        .filter(|arm| arm.peer.is_some())
        .collect();
    peers.sort();
    peers.dedup();
    let row = |peer: &ArmName, cell: Cell, metric, what: &str| {
        let ratio = results.ratio((cell, peer), (cell, &ArmName::RAW), metric);
        Row::new(format!("{}: {what}", peer.word()), "÷ raw", None, ratio)
    };
    let mut rows = Vec::new();
    for peer in peers {
        for page in [Page::Article, Page::Trivial] {
            let name = page.name();
            let (single, saturated) = (Cell::Single(page), Cell::Saturated(page));
            rows.push(row(
                peer,
                single,
                Metric::Latency(0.5),
                &format!("c=1 time to image, {name}, back to back"),
            ));
            rows.push(row(peer, single, Metric::Cpu, &format!("CPU per capture, {name}")));
            rows.push(row(peer, saturated, Metric::Rate, &format!("saturated captures/s, {name}")).at_least());
        }
    }
    rows
}

/// What isolation costs at all: the browser without any.
fn floor_row(results: &Results) -> Row {
    let warm = ArmName {
        kind: Kind::RawWarm,
        isolation: None,
        peer: None,
    };
    let cell = Cell::Single(Page::Article);
    let ratio = results.ratio((cell, &warm), (cell, &ArmName::RAW), Metric::Latency(0.5));
    Row::new(
        "no isolation (a tab kept): c=1 time to image, article",
        "÷ raw",
        None,
        ratio,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Spread;

    fn measured(value: f64) -> Measured {
        Measured {
            value,
            spread: Spread { min: value, max: value },
            rounds: 5,
        }
    }

    #[test]
    fn a_goal_is_a_bound_from_the_side_that_it_says() {
        let most = |value| Row::new("a", "ms", Some(2.0), Some(measured(value))).reached();
        let least = |value| {
            Row::new("a", "ms", Some(2.0), Some(measured(value)))
                .at_least()
                .reached()
        };
        assert_eq!((most(2.0), most(2.1)), (Some(true), Some(false)));
        assert_eq!((least(2.0), least(1.9)), (Some(true), Some(false)));
        assert_eq!(Row::new("a", "ms", Some(2.0), None).reached(), None);
        assert_eq!(Row::new("a", "ms", None, Some(measured(1.0))).reached(), None);
    }

    #[test]
    fn every_goal_has_a_row_with_a_name_of_its_own_even_if_nothing_was_measured() {
        let rows = rows(&Results::default(), &Alone::default());
        assert!(rows.iter().all(|row| row.value.is_none() && row.rounds == 0));
        assert_eq!(
            (rows.len(), rows.iter().filter(|row| row.goal.is_some()).count()),
            (28, 28)
        );
        let mut names: Vec<_> = rows.iter().map(|row| &row.figure).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rows.len());
    }

    #[test]
    fn a_row_is_written_with_the_names_that_readers_know() {
        let row = Row::new("a", "MB", Some(2.0), Some(measured(1.0))).at_least();
        assert_eq!(
            serde_json::to_value(row).unwrap(),
            serde_json::json!({"figure": "a", "value": 1.0, "goal": 2.0, "unit": "MB", "atLeast": true, "rounds": 5,
                "spread": [1.0, 1.0]})
        );
    }
}
