//! One row per figure: printed as a table, written as JSON, in the form of the other benchmarks.

use std::path::Path;

use serde_json::{Value, json};

/// A figure beside its goal.
struct Row {
    figure: String,
    unit: &'static str,
    goal: f64,
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

    fn met(&self) -> bool {
        if self.at_least {
            self.value() >= self.goal
        } else {
            self.value() <= self.goal
        }
    }

    fn json(&self) -> Value {
        json!({"figure": self.figure, "value": self.value(), "goal": self.goal, "unit": self.unit,
            "atLeast": self.at_least, "rounds": self.samples.len(), "spread": self.spread()})
    }
}

/// The table.
#[derive(Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// A figure that must not be more than its goal.
    pub fn at_most(&mut self, figure: &str, unit: &'static str, goal: f64, samples: &[f64]) {
        self.add(figure, unit, goal, samples, false);
    }

    /// A figure that must not be less than its goal.
    pub fn at_least(&mut self, figure: &str, unit: &'static str, goal: f64, samples: &[f64]) {
        self.add(figure, unit, goal, samples, true);
    }

    fn add(&mut self, figure: &str, unit: &'static str, goal: f64, samples: &[f64], at_least: bool) {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        let row = Row {
            figure: figure.to_owned(),
            unit,
            goal,
            at_least,
            samples,
        };
        let sign = if at_least { ">=" } else { "<=" };
        let word = if row.met() { "ok" } else { "MISSED" };
        let [least, most] = row.spread();
        println!(
            "{:<54} {:>9.3} {:<10} {sign} {:<6} {word:<7} {least:.3}..{most:.3}",
            row.figure,
            row.value(),
            row.unit,
            row.goal
        );
        self.0.push(row);
    }

    /// Writes all of them.
    pub fn write(&self, path: &Path) {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let rows: Vec<Value> = self.0.iter().map(Row::json).collect();
        let all = json!({"rows": rows, "machine": {"cores": cores, "kernel": kernel.trim(),
            "time": jiff::Timestamp::now().to_string()}});
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        std::fs::write(path, serde_json::to_vec_pretty(&all).expect("JSON")).expect("written");
    }

    /// How many goals were missed.
    pub fn missed(&self) -> usize {
        self.0.iter().filter(|row| !row.met()).count()
    }
}
