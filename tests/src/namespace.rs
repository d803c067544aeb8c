//! A namespace per test, and what a developer needs to know when the test fails in it.
//!
//! In: a name. Out: a namespace under Pod Security `restricted` that goes with the test. When the test panics, what is
//! in it is written to `target/e2e/NAMESPACE.txt` and the telling part is printed. Must not: write out a Secret.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::figures::artefacts;
use crate::{Failure, Kind, apply, conditions, kubectl, list};

/// Where the operator runs.
pub fn operator_namespace() -> String {
    std::env::var("OPERATOR_NAMESPACE").unwrap_or_else(|_| "screenshot-operator".into())
}

/// A manifest whose images come from where those of the operator come from (`IMAGES`, see `hack/env.sh`).
pub fn with_images(manifest: &str) -> String {
    let registry = std::env::var("IMAGES").unwrap_or_else(|_| "localhost".into());
    manifest.replace("image: localhost/", &format!("image: {registry}/"))
}

/// A namespace of a test, removed with it.
pub struct Namespace(pub String);

impl Namespace {
    /// Makes a namespace that enforces Pod Security `restricted`. Its name was never used before, so that nothing of an
    /// earlier one, which may still be going, is taken for the test's own.
    ///
    /// # Errors
    /// What the API server reports.
    pub fn create(prefix: &str) -> Result<Self, Failure> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{number}", std::process::id());
        apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n"
        ))?;
        Ok(Self(name))
    }

    fn say_why(&self) {
        let services = list(&self.0, Kind::ScreenshotService, "").unwrap_or_default();
        for service in services
            .iter()
            .filter_map(|service| service["metadata"]["name"].as_str())
        {
            eprintln!("\n-- {}/{service}\n{}", self.0, conditions(&self.0, service));
        }
        let run = |args: &[&str]| kubectl(&[&["-n", &self.0], args].concat()).unwrap_or_else(|error| error);
        let pods = run(&["get", "pods", "-o", "wide"]);
        eprintln!("\n{pods}");
        let operator = self.operator_says();
        let last: Vec<&str> = operator.lines().rev().take(3).collect();
        eprintln!("-- the operator's last words on it\n{}", last.join("\n"));
        let mut all = format!("{pods}\n== operator\n{operator}\n");
        let events = run(&["get", "events", "--sort-by=.lastTimestamp"]);
        let _ = writeln!(all, "{events}\n{}", run(&["describe", "shot,pods"]));
        for pod in run(&["get", "pods", "-o", "name"]).lines() {
            for previous in ["--previous=false", "--previous=true"] {
                let log = run(&["logs", pod, "--all-containers", "--prefix", "--tail=200", previous]);
                let _ = writeln!(all, "== {pod} {previous}\n{log}");
            }
        }
        let directory = artefacts();
        let file = directory.join(format!("{}.txt", self.0));
        let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&file, all));
        if written.is_ok() {
            eprintln!("events, descriptions and logs: {}", file.display());
        }
    }

    /// The operator's log, as far as it is about this namespace.
    fn operator_says(&self) -> String {
        let (namespace, operator) = (operator_namespace(), "app.kubernetes.io/name=screenshot-operator");
        let log = kubectl(&["-n", &namespace, "logs", "-l", operator, "--tail=2000"]).unwrap_or_else(|error| error);
        let ours: Vec<&str> = log.lines().filter(|line| line.contains(&self.0)).collect();
        ours.join("\n")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.say_why();
        }
        // Only what failed is worth its place: the node is full after eight pods.
        let keep = failed && std::env::var("SHOT_KEEP").is_ok_and(|keep| !keep.is_empty());
        if !keep {
            let _ = kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
        }
    }
}
