//! One row per figure: printed as a table, written as JSON, in the form of the other benchmarks.

use std::path::Path;

use serde_json::{Value, json};

/// A figure beside its goal.
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

/// The table.
#[derive(Default)]
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
