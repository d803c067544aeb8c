//! One row per figure: printed as a table, written as JSON.

use std::path::Path;

use serde::Serialize;

/// A figure beside its goal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub figure: String,
    pub value: f64,
    pub goal: f64,
    pub unit: &'static str,
    /// Whether more is better.
    pub at_least: bool,
    pub rounds: usize,
    /// Largest less smallest.
    pub spread: f64,
}

impl Row {
    pub fn met(&self) -> bool {
        if self.at_least {
            self.value >= self.goal
        } else {
            self.value <= self.goal
        }
    }
}

#[derive(Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// The median of what the rounds gave, which must be at most the goal.
    pub fn at_most(&mut self, figure: &str, unit: &'static str, goal: f64, rounds: &[f64]) {
        self.add(figure, unit, goal, rounds, false);
    }

    /// The same, which must be at least the goal.
    pub fn at_least(&mut self, figure: &str, unit: &'static str, goal: f64, rounds: &[f64]) {
        self.add(figure, unit, goal, rounds, true);
    }

    fn add(&mut self, figure: &str, unit: &'static str, goal: f64, rounds: &[f64], at_least: bool) {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let row = Row {
            figure: figure.to_owned(),
            value: sorted[sorted.len() / 2],
            goal,
            unit,
            at_least,
            rounds: sorted.len(),
            spread: sorted[sorted.len() - 1] - sorted[0],
        };
        let (sign, word) = (
            if at_least { ">=" } else { "<=" },
            if row.met() { "ok" } else { "MISSED" },
        );
        println!(
            "{:<58} {:>10.3} {:<14} {sign} {:<8} {word}",
            row.figure, row.value, row.unit, row.goal
        );
        self.0.push(row);
    }

    pub fn write(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        std::fs::write(path, serde_json::to_vec_pretty(&self.0).expect("JSON")).expect("written");
    }

    pub fn missed(&self) -> usize {
        self.0.iter().filter(|row| !row.met()).count()
    }
}
