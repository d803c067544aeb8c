//! What the orchestrator and one arm say to each other: one JSON object a line, on the arm's standard input and output.
//!
//! The arm begins with a [`Hello`]; then each [`Order`] has exactly one [`Report`]. A foreign service takes part by a
//! program that speaks this (`--peer NAME=COMMAND`). Must not: hold anything but plain data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::site::Page;

/// An arm's first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The browser, as it calls itself; empty if unknown.
    pub browser: String,
    /// Milliseconds from the start of the arm's service until it takes work.
    pub ready_ms: f64,
    /// The process that is the service, with its children; the arm's own if it is a library.
    pub service: u32,
}

/// How a picture is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// PNG, encoded for speed.
    #[default]
    Png,
    /// PNG, encoded for size.
    PngSmall,
    /// JPEG of quality 80.
    Jpeg,
    /// Lossy WebP of quality 80.
    Webp,
}

/// Quality of the lossy formats, of 100.
pub const QUALITY: u8 = 80;

impl Format {
    /// The word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::PngSmall => "png-small",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        }
    }

    /// Whether two encoders' pictures must have the same pixels.
    pub const fn is_lossless(self) -> bool {
        matches!(self, Self::Png | Self::PngSmall)
    }
}

/// One picture to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which page it is.
    pub page: Page,
    /// Where it is served.
    pub url: String,
    /// Window width in CSS pixels.
    pub width: u32,
    /// Window height in CSS pixels.
    pub height: u32,
    /// Whether the picture has the page's whole height.
    pub full_page: bool,
    /// How it is encoded.
    #[serde(default)]
    pub format: Format,
    /// Whether another client of the service asks for it than for what is measured.
    #[serde(default)]
    pub of_another: bool,
}

/// How captures follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// One at a time with a pause before each, in which a service may prepare for the next.
    Paced {
        /// Captures.
        count: u32,
        /// Milliseconds.
        pause_ms: u64,
    },
    /// So many at a time, each followed at once by the next.
    Closed {
        /// Captures at a time.
        concurrency: u32,
        /// Milliseconds that count.
        window_ms: u64,
        /// Milliseconds before that, which count for nothing but the CPU per capture.
        warmup_ms: u64,
    },
    /// Poisson arrivals, whatever becomes of the earlier ones. Latency counts from the scheduled arrival.
    Open {
        /// Arrivals per second.
        rate: f64,
        /// Milliseconds.
        window_ms: u64,
        /// The same seed gives the same arrivals.
        seed: u64,
    },
    /// So many captures, every twentieth of them a fault. Only the good ones count.
    Soak {
        /// Captures, faults included.
        count: u32,
        /// Captures at a time.
        concurrency: u32,
    },
    /// Starts a browser of its own, opens an empty page, ends it. Only the arm `raw` can.
    Launch {
        /// Browsers, one after the other.
        count: u32,
    },
}

/// How captures in the background are taken to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// In pictures.
    Good,
    /// Never: they are expected to fail, and their caller hangs up in the end.
    Endless,
    /// In any way; the caller hangs up after a moment and goes on to the next.
    Mixed,
}

/// Captures that are repeated all the while, one at a time and in turn, and count for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Background {
    /// What is captured.
    pub jobs: Vec<Job>,
    /// How they end.
    pub manner: Manner,
}

/// One cell of the benchmark for one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What is captured.
    pub job: Job,
    /// How.
    pub load: Load,
    /// What goes on beside it.
    pub background: Option<Background>,
}

/// A picture that came out, decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pixels {
    /// Digest of the size and the RGB values.
    pub digest: String,
    /// Bytes as encoded.
    pub bytes: u64,
}

/// What came of an [`Order`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Milliseconds from the request to the picture, of the captures that count.
    pub latencies_ms: Vec<f64>,
    /// The same captures' phases, by name, in milliseconds.
    pub phases_ms: BTreeMap<String, Vec<f64>>,
    /// Captures per second in the window.
    pub rate: f64,
    /// Captures, those of warm-up and background included: what `cpu_ms` was spent on.
    pub captures: u64,
    /// CPU milliseconds of everything the arm runs, from before the first capture until it is at rest again.
    pub cpu_ms: f64,
    /// The part of it that the process which drives the browsers spent itself, its HTTP and its proxy included.
    #[serde(default)]
    pub driver_ms: f64,
    /// What failed, by its reason.
    pub errors: BTreeMap<String, u64>,
    /// The different pictures of the job's page.
    pub pixels: Vec<Pixels>,
}
