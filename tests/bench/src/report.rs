//! What is printed and written: the table of figures, where the time goes, the JSON file.
//!
//! In: rows and results. Out: text. A missed goal stands there as missed, with what holds it back as far as the phases
//! and the CPU tell. Must not: round a miss into a hit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::arm::Kind;
use crate::cells::Cell;
use crate::crew::ArmName;
use crate::figures::Row;
use crate::results::{Metric, Results};
use crate::site::Page;

/// Rounds of `raw` may differ by this much before its latencies and rates are called noisy.
const NOISE: f64 = 0.25;

/// The table of figures.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.figure.chars().count()).max().unwrap_or(0);
    let mut text = format!(
        "{:width$}  {:>9} {:8} {:>8}  {:8} {:>15}  rounds\n",
        "figure", "value", "unit", "goal", "", "spread"
    );
    for row in rows {
        let verdict = match (row.reached(), row.value) {
            (Some(true), _) => "ok",
            (Some(false), _) => "MISSED",
            (None, None) => "no value",
            (None, Some(_)) => "",
        };
        let value = row.value.map_or_else(|| "-".to_owned(), number);
        let bound = if row.at_least { ">=" } else { "<=" };
        let goal = row
            .goal
            .map_or_else(String::new, |goal| format!("{bound} {}", number(goal)));
        let spread = row
            .spread
            .map_or_else(String::new, |[min, max]| format!("{}..{}", number(min), number(max)));
        let earlier = if row.earlier { ", of an earlier run" } else { "" };
        let (figure, unit, rounds) = (&row.figure, &row.unit, row.rounds);
        let _ = writeln!(
            text,
            "{figure:width$}  {value:>9} {unit:8} {goal:>8}  {verdict:8} {spread:>15}  {rounds}{earlier}"
        );
    }
    text
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Absolute numbers of every cell and arm: good for this machine and this run only.
pub fn absolute(results: &Results) -> String {
    let mut text = format!(
        "{:18} {:20} {:>5} {:>8} {:>8} {:>8} {:>7} {:>9} {:>7} {:>6}  phases (median ms)\n",
        "cell", "arm", "n", "p50 ms", "p95 ms", "max ms", "rate/s", "CPU ms", "own ms", "kB"
    );
    for (cell, arm) in results.keys() {
        let number_of = |metric| {
            let measured = results.absolute(cell, arm, metric);
            measured.map_or_else(|| "-".to_owned(), |measured| number(measured.value))
        };
        let n: usize = results
            .reports(cell, arm)
            .map(|(_, report)| report.latencies_ms.len())
            .sum();
        let phases: Vec<String> = results
            .phases(cell, arm)
            .iter()
            .map(|(name, spent)| format!("{name} {}", number(*spent)))
            .collect();
        let _ = writeln!(
            text,
            "{:18} {:20} {n:>5} {:>8} {:>8} {:>8} {:>7} {:>9} {:>7} {:>6}  {}",
            cell.name(),
            arm.word(),
            number_of(Metric::Latency(0.5)),
            number_of(Metric::Latency(0.95)),
            number_of(Metric::Latency(1.0)),
            number_of(Metric::Rate),
            number_of(Metric::Cpu),
            number_of(Metric::Driver),
            number_of(Metric::Size),
            phases.join(", ")
        );
    }
    text
}

/// What the arms with a service spend that `raw` does not: by phase, and the CPU beside that of a browser's start.
pub fn holding_back(results: &Results) -> String {
    let mut text = String::new();
    let launch = results.absolute(Cell::Launch, &ArmName::RAW, Metric::Cpu);
    let launch_ms = results.absolute(Cell::Launch, &ArmName::RAW, Metric::Latency(0.5));
    if let (Some(cpu), Some(latency)) = (&launch, &launch_ms) {
        let (cpu, latency) = (number(cpu.value), number(latency.value));
        let _ = writeln!(
            text,
            "a browser's start until its first empty page: {latency} ms, {cpu} CPU-ms"
        );
    }
    for cell in [
        Cell::Paced(Page::Article),
        Cell::Single(Page::Article),
        Cell::Single(Page::Trivial),
        Cell::Saturated(Page::Article),
        Cell::Saturated(Page::Trivial),
    ] {
        let raw = results.phases(cell, &ArmName::RAW);
        let arms: Vec<ArmName> = results
            .keys()
            .filter(|(of, arm)| *of == cell && matches!(arm.kind, Kind::Engine | Kind::Http))
            .map(|(_, arm)| arm.clone())
            .collect();
        for arm in arms {
            let more = more_than(&raw, &results.phases(cell, &arm));
            let cpu = |arm| results.absolute(cell, arm, Metric::Cpu).map(|measured| measured.value);
            let mut line = format!("{} {}, more than raw: {more} ms", cell.name(), arm.word());
            if let (Some(own), Some(raw)) = (cpu(&arm), cpu(&ArmName::RAW)) {
                let _ = write!(line, "; {} CPU-ms", signed(own - raw));
            }
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// The phases that stand before the picture, as differences. `close` of `raw` comes after the picture.
fn more_than(raw: &BTreeMap<String, f64>, own: &BTreeMap<String, f64>) -> String {
    let phases = own.iter().map(|(name, spent)| {
        let before = if name == "close" {
            0.0
        } else {
            raw.get(name).copied().unwrap_or(0.0)
        };
        format!("{name} {}", signed(spent - before))
    });
    phases.collect::<Vec<_>>().join(", ")
}

fn signed(value: f64) -> String {
    format!("{value:+.1}")
}

/// Cells in which `raw` itself differs too much between rounds for its latencies to be trusted.
pub fn noisy(results: &Results) -> Vec<String> {
    let cells = results
        .keys()
        .filter(|(_, arm)| **arm == ArmName::RAW)
        .map(|(cell, _)| cell);
    cells
        .filter_map(|cell| {
            let measured = results.absolute(cell, &ArmName::RAW, Metric::Latency(0.5))?;
            let relative = measured.spread.relative();
            (relative > NOISE).then(|| format!("{} ({:.0} %)", cell.name(), relative * 100.0))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Option<f64>) -> Row {
        Row {
            figure: "a figure".into(),
            value,
            goal: Some(1.0),
            unit: "÷ raw".into(),
            at_least: false,
            rounds: 5,
            spread: Some([0.9, 1.2]),
            earlier: false,
        }
    }

    #[test]
    fn a_missed_goal_stands_there_as_missed() {
        assert!(table(&[row(Some(1.01))]).contains("MISSED"));
        let hit = table(&[row(Some(1.0))]);
        assert!(hit.contains(" ok ") && !hit.contains("MISSED"), "{hit}");
        assert!(table(&[row(None)]).contains("no value"));
        let earlier = Row {
            earlier: true,
            ..row(Some(1.0))
        };
        assert!(table(&[earlier]).contains("of an earlier run") && !hit.contains("earlier"));
    }

    #[test]
    fn raws_own_cleaning_up_is_no_time_to_the_picture() {
        let phases = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, spent)| ((*name).to_owned(), *spent)).collect();
        let raw = phases(&[("close", 9.0), ("open", 30.0)]);
        let own = phases(&[("close", 1.0), ("open", 2.0)]);
        assert_eq!(more_than(&raw, &own), "close +1.0, open -28.0");
    }
}
