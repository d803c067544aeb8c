//! What was measured: reports by cell, arm and round, and the numbers that are read from them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::cells::Cell;
use crate::crew::ArmName;
use crate::protocol::Report;
use crate::stats::{Spread, median, percentile};

/// A number of one report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// Milliseconds to the picture, this share of the captures.
    Latency(f64),
    /// Captures per second.
    Rate,
    /// CPU milliseconds per capture.
    Cpu,
    /// CPU milliseconds per capture of the process alone that drives the browsers.
    Driver,
    /// Kilobytes of a picture of the job's page, as encoded.
    Size,
    /// Milliseconds that are left beside the phases: credential, parsing, the answer's way.
    Frame,
}

/// A number over the rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The median of the rounds.
    pub value: f64,
    /// Smallest and largest round.
    pub spread: Spread,
    /// Rounds that have it.
    pub rounds: usize,
}

/// The numbers of one report; `None` if nothing was captured.
pub fn read(report: &Report, metric: Metric) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // a few hundred
    let captures = report.captures as f64;
    match metric {
        Metric::Latency(share) if share < 0.9 => median(&report.latencies_ms),
        Metric::Latency(share) => percentile(&report.latencies_ms, share),
        Metric::Rate => (report.rate > 0.0).then_some(report.rate),
        Metric::Cpu => (captures > 0.0).then(|| report.cpu_ms / captures),
        Metric::Driver => (captures > 0.0 && report.driver_ms > 0.0).then(|| report.driver_ms / captures),
        #[allow(clippy::cast_precision_loss)] // some megabytes
        Metric::Size => Some(report.pixels.first()?.bytes as f64 / 1000.0),
        Metric::Frame => median(report.phases_ms.get("close")?),
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    reports: BTreeMap<(Cell, ArmName), BTreeMap<usize, Report>>,
}

impl Results {
    /// Takes in one report.
    pub fn add(&mut self, cell: Cell, arm: &ArmName, round: usize, report: Report) {
        self.reports
            .entry((cell, arm.clone()))
            .or_default()
            .insert(round, report);
    }

    /// The reports of a cell and an arm, by round.
    pub fn reports(&self, cell: Cell, arm: &ArmName) -> impl Iterator<Item = (usize, &Report)> {
        let found = self.reports.get(&(cell, arm.clone()));
        found.into_iter().flatten().map(|(round, report)| (*round, report))
    }

    /// The cells and arms that there are, in order.
    pub fn keys(&self) -> impl Iterator<Item = (Cell, &ArmName)> {
        self.reports.keys().map(|(cell, arm)| (*cell, arm))
    }

    /// A number of each round.
    fn by_round(&self, cell: Cell, arm: &ArmName, metric: Metric) -> BTreeMap<usize, f64> {
        self.reports(cell, arm)
            .filter_map(|(round, report)| Some((round, read(report, metric)?)))
            .collect()
    }

    /// A number over the rounds.
    pub fn absolute(&self, cell: Cell, arm: &ArmName, metric: Metric) -> Option<Measured> {
        measured(&self.by_round(cell, arm, metric).into_values().collect::<Vec<_>>())
    }

    /// One number divided by another of the same round, over the rounds.
    pub fn ratio(&self, over: (Cell, &ArmName), under: (Cell, &ArmName), metric: Metric) -> Option<Measured> {
        let under = self.by_round(under.0, under.1, metric);
        let over = self.by_round(over.0, over.1, metric);
        let ratios = over.iter().filter_map(|(round, over)| Some(over / under.get(round)?));
        measured(&ratios.collect::<Vec<_>>())
    }

    /// The share of all captures of one cell divided by that of another's: for shares that a round has too few captures for.
    /// The spread is that of the rounds.
    pub fn pooled(&self, over: (Cell, &ArmName), under: (Cell, &ArmName), share: f64) -> Option<Measured> {
        let all = |(cell, arm): (Cell, &ArmName)| {
            let reports = self.reports(cell, arm);
            let all: Vec<f64> = reports
                .flat_map(|(_, report)| report.latencies_ms.iter().copied())
                .collect();
            percentile(&all, share)
        };
        let value = all(over)? / all(under)?;
        let rounds = self.ratio(over, under, Metric::Latency(share))?;
        Some(Measured { value, ..rounds })
    }

    /// One number less another of the same round, over the rounds.
    pub fn difference(&self, cell: Cell, more: &ArmName, less: &ArmName, metric: Metric) -> Option<Measured> {
        let less = self.by_round(cell, less, metric);
        let more = self.by_round(cell, more, metric);
        let differences = more.iter().filter_map(|(round, more)| Some(more - less.get(round)?));
        measured(&differences.collect::<Vec<_>>())
    }

    /// The median of each phase over all captures of a cell, in milliseconds.
    pub fn phases(&self, cell: Cell, arm: &ArmName) -> BTreeMap<String, f64> {
        let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (_, report) in self.reports(cell, arm) {
            for (name, spent) in &report.phases_ms {
                all.entry(name.clone()).or_default().extend(spent);
            }
        }
        all.into_iter()
            .filter_map(|(name, spent)| Some((name, median(&spent)?)))
            .collect()
    }

    /// What went wrong: failures, wrong pictures, pictures with other pixels than the browser's own.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = BTreeMap::<String, u64>::new();
        // Of any cell: a page looks the same in all of them, and the marks tell the pages apart.
        let raws = self.reports.iter().filter(|((_, arm), _)| *arm == ArmName::RAW);
        let reference: BTreeSet<&str> = raws
            .flat_map(|(_, rounds)| rounds.values())
            .flat_map(|report| report.pixels.iter().map(|pixels| pixels.digest.as_str()))
            .collect();
        for ((cell, arm), rounds) in &self.reports {
            let place = format!("{} {}", cell.name(), arm.word());
            for report in rounds.values() {
                for (error, count) in &report.errors {
                    *faults.entry(format!("{place}: {error}")).or_default() += count;
                }
                // Another make may have other fonts and another browser.
                if arm.peer.is_some() {
                    continue;
                }
                let other = report
                    .pixels
                    .iter()
                    .filter(|pixels| !reference.contains(pixels.digest.as_str()));
                let other = other.count() as u64;
                if other > 0 {
                    *faults.entry(format!("{place}: pixels differ from raw's")).or_default() += other;
                }
            }
        }
        faults
            .into_iter()
            .map(|(fault, count)| format!("{count} x {fault}"))
            .collect()
    }
}

/// A number over the rounds, from its values.
pub fn measured(values: &[f64]) -> Option<Measured> {
    Some(Measured {
        value: median(values)?,
        spread: Spread::of(values)?,
        rounds: values.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::{Isolation, Kind};
    use crate::protocol::Pixels;
    use crate::site::Page;

    const CELL: Cell = Cell::Single(Page::Trivial);

    fn engine() -> ArmName {
        ArmName {
            kind: Kind::Engine,
            isolation: Some(Isolation::PerCapture),
            peer: None,
        }
    }

    fn report(latency: f64, digest: &str) -> Report {
        Report {
            latencies_ms: vec![latency],
            captures: 2,
            cpu_ms: latency,
            pixels: vec![Pixels {
                digest: digest.into(),
                bytes: 1,
            }],
            ..Report::default()
        }
    }

    fn results(pairs: &[(f64, f64)]) -> Results {
        let mut results = Results::default();
        for (round, (raw, engine_ms)) in pairs.iter().enumerate() {
            results.add(CELL, &ArmName::RAW, round, report(*raw, "a"));
            results.add(CELL, &engine(), round, report(*engine_ms, "a"));
        }
        results
    }

    #[test]
    fn a_ratio_is_of_the_same_round_and_its_value_the_median_of_the_rounds() {
        let results = results(&[(100.0, 200.0), (10.0, 10.0), (50.0, 75.0)]);
        let ratio = results.ratio((CELL, &engine()), (CELL, &ArmName::RAW), Metric::Latency(0.5));
        let spread = Spread { min: 1.0, max: 2.0 };
        assert_eq!(
            ratio,
            Some(Measured {
                value: 1.5,
                spread,
                rounds: 3
            })
        );
        let cpu = results.absolute(CELL, &ArmName::RAW, Metric::Cpu).unwrap();
        assert!((cpu.value - 25.0).abs() < 1e-9);
    }

    #[test]
    fn a_share_is_of_all_rounds_together() {
        // Of 40 captures in four rounds one took long: it is a round's p95, and not the whole's.
        let mut results = Results::default();
        for round in 0..4 {
            let mut own = report(10.0, "a");
            own.latencies_ms = vec![10.0; 10];
            if round == 0 {
                own.latencies_ms[3] = 90.0;
            }
            results.add(CELL, &engine(), round, own);
            results.add(CELL, &ArmName::RAW, round, report(10.0, "a"));
        }
        let pooled = results.pooled((CELL, &engine()), (CELL, &ArmName::RAW), 0.95).unwrap();
        assert!((pooled.value - 1.0).abs() < 1e-9);
        assert_eq!((pooled.spread, pooled.rounds), (Spread { min: 1.0, max: 9.0 }, 4));
    }

    #[test]
    fn a_round_that_only_one_arm_has_is_left_out() {
        let mut results = results(&[(100.0, 100.0)]);
        results.add(CELL, &engine(), 7, report(1.0, "a"));
        let ratio = results.ratio((CELL, &engine()), (CELL, &ArmName::RAW), Metric::Latency(0.5));
        assert_eq!(ratio.unwrap().rounds, 1);
    }

    #[test]
    fn other_pixels_than_raws_and_errors_are_faults() {
        let mut results = results(&[(1.0, 1.0)]);
        assert_eq!(results.faults(), Vec::<String>::new());
        let mut wrong = report(1.0, "b");
        wrong.errors.insert("timeout".into(), 3);
        results.add(CELL, &engine(), 1, wrong);
        assert_eq!(
            results.faults(),
            [
                "1 x single/trivial engine PerCapture: pixels differ from raw's",
                "3 x single/trivial engine PerCapture: timeout"
            ]
        );
    }
}
