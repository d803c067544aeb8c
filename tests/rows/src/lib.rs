//! One row per figure: printed as a line of a table, written as JSON: `{figure, value, goal, unit, atLeast, rounds, spread}`.
//!
//! In: samples, one for each round, and a goal. Out: their median, least and most, and whether that is as it should be.
//! Must not: drop a row because its goal was missed. The capture server's benchmark has rows of its own in this form, for it
//! reckons with ratios within a round and writes what was not measured, too.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark fails loudly, and says when it ran"
)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A figure beside its goal.
#[derive(Debug)]
struct Row {
    figure: String,
    unit: &'static str,
    /// What it should be; none if it is only shown.
    goal: Option<f64>,
    /// Whether more is better.
    at_least: bool,
    /// The rounds, sorted.
    samples: Vec<f64>,
}

impl Row {
    fn value(&self) -> f64 {
        let middle = |n: usize| self.samples[n / 2];
        let n = self.samples.len();
        f64::midpoint(middle(n - 1), middle(n))
    }

    fn spread(&self) -> [f64; 2] {
        [self.samples[0], self.samples[self.samples.len() - 1]]
    }

    /// Whether it is as it should be; none if it is only shown.
    fn met(&self) -> Option<bool> {
        let goal = self.goal?;
        Some(if self.at_least {
            self.value() >= goal
        } else {
            self.value() <= goal
        })
    }

    fn json(&self) -> Value {
        json!({"figure": self.figure, "value": self.value(), "goal": self.goal, "unit": self.unit,
            "atLeast": self.at_least, "rounds": self.samples.len(), "spread": self.spread()})
    }
}

/// Where a benchmark of one table is to write: its first argument. Cargo hands a `--bench` of its own.
///
/// # Panics
/// There is none.
pub fn path() -> PathBuf {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    given.expect("the path of the rows").into()
}

/// The table.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    /// As an earlier run wrote them.
    earlier: Vec<Value>,
}

impl Rows {
    /// A figure that must not be more than its goal.
    pub fn at_most(&mut self, figure: &str, unit: &'static str, goal: f64, samples: &[f64]) {
        self.add(figure, unit, Some(goal), samples, false);
    }

    /// A figure that must not be less than its goal.
    pub fn at_least(&mut self, figure: &str, unit: &'static str, goal: f64, samples: &[f64]) {
        self.add(figure, unit, Some(goal), samples, true);
    }

    /// A figure that tells what another one is worth.
    pub fn shown(&mut self, figure: &str, unit: &'static str, samples: &[f64]) {
        self.add(figure, unit, None, samples, true);
    }

    fn add(&mut self, figure: &str, unit: &'static str, goal: Option<f64>, samples: &[f64], at_least: bool) {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        let row = Row {
            figure: figure.to_owned(),
            unit,
            goal,
            at_least,
            samples,
        };
        let verdict = match (row.goal, row.met()) {
            (Some(goal), Some(met)) => {
                let sign = if at_least { ">=" } else { "<=" };
                let word = if met { "ok" } else { "MISSED" };
                format!("{sign} {goal:<6} {word}")
            }
            _ => String::new(),
        };
        let [least, most] = row.spread();
        println!(
            "{:<54} {:>9.3} {:<10} {verdict:<17} {least:.3}..{most:.3}",
            row.figure,
            row.value(),
            row.unit
        );
        self.rows.push(row);
    }

    /// Keeps those rows of an earlier run that this one has not measured.
    ///
    /// # Panics
    /// What is there is no such file.
    pub fn keep_earlier(&mut self, path: &Path) {
        let Ok(bytes) = std::fs::read(path) else { return };
        let all: Value = serde_json::from_slice(&bytes).expect("JSON");
        let anew = |row: &&Value| self.rows.iter().all(|new| row["figure"] != new.figure.as_str());
        self.earlier = all["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .filter(anew)
            .cloned()
            .collect();
    }

    /// Writes all of them.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write(&self, path: &Path) {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let mut rows = self.earlier.clone();
        rows.extend(self.rows.iter().map(Row::json));
        let all = json!({"rows": rows, "machine": {"cores": cores, "kernel": kernel.trim(),
            "time": jiff::Timestamp::now().to_string()}});
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        std::fs::write(path, serde_json::to_vec_pretty(&all).expect("JSON")).expect("written");
    }

    /// How many goals were missed.
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met() == Some(false)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_and_is_judged_from_the_side_that_it_says() {
        let mut rows = Rows::default();
        rows.at_most("a", "ms", 2.0, &[9.0, 1.0, 2.0]);
        rows.at_most("b", "ms", 2.0, &[2.0, 3.0]);
        rows.at_least("c", "1/s", 2.0, &[2.0]);
        rows.at_least("d", "1/s", 2.0, &[1.9]);
        rows.shown("e", "", &[1.0]);
        let met: Vec<_> = rows.rows.iter().map(Row::met).collect();
        assert_eq!(met, [Some(true), Some(false), Some(true), Some(false), None]);
        assert_eq!(rows.missed(), 2);
        assert_eq!(
            rows.rows[0].json(),
            json!({"figure": "a", "value": 2.0, "goal": 2.0, "unit": "ms", "atLeast": false, "rounds": 3, "spread": [1.0, 9.0]})
        );
    }

    #[test]
    fn rows_that_were_not_measured_again_stay() {
        let directory = std::env::temp_dir().join(format!("bench-rows-{}", std::process::id()));
        let path = directory.join("some.json");
        let mut first = Rows::default();
        first.shown("a", "", &[1.0]);
        first.shown("b", "", &[1.0]);
        first.write(&path);
        let mut second = Rows::default();
        second.shown("b", "", &[2.0]);
        second.keep_earlier(&path);
        second.write(&path);
        let all: Value = serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("JSON");
        std::fs::remove_dir_all(&directory).expect("removed");
        let found: Vec<_> = all["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| (&row["figure"], &row["value"]))
            .collect();
        assert_eq!(found, [(&json!("a"), &json!(1.0)), (&json!("b"), &json!(2.0))]);
    }
}
