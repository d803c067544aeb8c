//! The trace: a span for each phase, below that of its request, as long as `Server-Timing` says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::harness::{Running, limits};

/// What the subscriber writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Milliseconds of a duration as the subscriber writes it.
fn millis(text: &str) -> f64 {
    let split = text.find(|c: char| c.is_alphabetic() || c == 'µ').unwrap();
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "s" => 1000.0,
        "ms" => 1.0,
        "µs" => 0.001,
        _ => 0.000_001,
    };
    number.parse::<f64>().unwrap() * scale
}

#[tokio::test(flavor = "multi_thread")]
async fn each_phase_is_a_span_below_its_request_and_as_long_as_the_answer_says() {
    let lines = Lines::default();
    let writer = lines.clone();
    // As `main` sets it up, with the trace on.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::new("info,trace=debug"))
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .init();
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let mut differences: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..3 {
        let body = json!({"html_content": "<p>traced", "window_width": 200, "window_height": 100,
                          "format": "png", "png_compression": "small"});
        let answer = server.capture(body).await;
        assert_eq!(answer.status, 200);
        let id = answer.header("x-request-id").unwrap();
        let spans: Vec<(String, f64)> = lines
            .all()
            .into_iter()
            .filter(|line| line["target"] == "trace" && line["message"] == "close")
            .filter(|line| line["spans"][0]["request_id"] == id && line["span"]["name"] != "capture")
            .map(|line| {
                let [busy, idle] = ["time.busy", "time.idle"].map(|field| millis(line[field].as_str().unwrap()));
                (line["span"]["name"].as_str().unwrap().to_owned(), busy + idle)
            })
            .collect();
        let names: Vec<_> = spans.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["queue", "open", "navigate", "load", "settle", "shot", "encode"],
            "{:#?}",
            lines.all()
        );
        for entry in answer.header("server-timing").unwrap().split(", ") {
            let (phase, spent) = entry.split_once(";dur=").unwrap();
            let (_, span) = spans.iter().find(|(name, _)| name == phase).unwrap();
            let difference = (span - spent.parse::<f64>().unwrap()).abs();
            let least = differences.entry(phase.to_owned()).or_insert(f64::MAX);
            *least = least.min(difference);
        }
    }
    // Two clocks: on a busy machine another process may run between their looks, but hardly three times.
    assert!(differences.len() > 3, "{differences:?}");
    assert!(differences.values().all(|ms| *ms < 5.0), "{differences:?}");
    // What the caller asked for and who asked stays out of the trace.
    let text = lines.all().iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("traced") && !text.contains("sst_"));
    server.stop().await;
}
