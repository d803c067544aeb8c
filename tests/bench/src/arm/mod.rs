//! The arms: four ways to a picture, which the same loop drives.
//!
//! In: a [`Job`]. Out: a [`Shot`]: the picture, when it was there, and where the time went. Must not: look into the
//! picture or retry.

mod engine;
mod http;
mod launch;
mod pipe;
mod raw;
mod service;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;

pub use launch::default_program;
pub use service::{Isolation, isolations};

use crate::Failure;
use crate::protocol::Job;

/// Which arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// The browser itself, a fresh context each.
    Raw,
    /// The browser itself, one tab kept: no isolation, the floor.
    RawWarm,
    /// The capture server as a library: admission, jail, proxy, driver.
    Engine,
    /// The capture server as a program, over HTTP.
    Http,
    /// A service of another make, behind a program that speaks the benchmark's protocol.
    #[value(skip)]
    Peer,
}

/// What an arm needs to start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The headless shell.
    pub browser: PathBuf,
    /// Where `capture-server` and `capture-jail` are.
    pub programs: PathBuf,
    /// The site, which is the policy's one named exception.
    pub site: SocketAddr,
    /// How long a capture may take, in milliseconds.
    pub deadline_ms: u64,
    /// Which isolation the service has.
    pub isolation: Isolation,
}

/// Milliseconds of each phase.
pub type Phases = Vec<(String, f64)>;

/// One capture.
#[derive(Debug)]
pub struct Shot {
    /// The encoded picture.
    pub picture: Bytes,
    /// From the request until the picture was there. What is cleaned up after that does not count.
    pub latency: Duration,
    /// Where the time went.
    pub phases: Phases,
}

/// A running arm.
pub enum Arm {
    /// See [`Kind::Raw`] and [`Kind::RawWarm`].
    Raw(raw::Raw),
    /// See [`Kind::Engine`].
    Engine(Box<engine::Engine>),
    /// See [`Kind::Http`].
    Http(http::Http),
}

impl fmt::Debug for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arm")
    }
}

impl Arm {
    /// Starts an arm; returns once it takes work, with the browser's name.
    pub async fn start(kind: Kind, setup: &Setup) -> Result<(Self, String), Failure> {
        Ok(match kind {
            Kind::Raw | Kind::RawWarm => {
                let (raw, browser) = raw::Raw::start(setup, kind == Kind::RawWarm).await?;
                (Self::Raw(raw), browser)
            }
            Kind::Engine => {
                let (engine, browser) = engine::Engine::start(setup).await?;
                (Self::Engine(Box::new(engine)), browser)
            }
            Kind::Http => (Self::Http(http::Http::start(setup).await?), String::new()),
            Kind::Peer => return Err("a peer is a program of its own".into()),
        })
    }

    /// Takes one picture.
    pub async fn capture(&self, job: &Job) -> Result<Shot, Failure> {
        match self {
            Self::Raw(raw) => raw.capture(job).await,
            Self::Engine(engine) => engine.capture(job).await,
            Self::Http(http) => http.capture(job).await,
        }
    }

    /// Starts a browser, opens an empty page, ends it.
    pub async fn launch(&self) -> Result<Shot, Failure> {
        match self {
            Self::Raw(raw) => raw.launch().await,
            Self::Engine(_) | Self::Http(_) => Err("only the arm raw launches browsers on its own".into()),
        }
    }

    /// The process whose memory, with its children's, is the arm's.
    pub fn service(&self) -> u32 {
        match self {
            Self::Raw(_) | Self::Engine(_) => std::process::id(),
            Self::Http(http) => http.pid(),
        }
    }

    /// Whether this process is only a client of the arm, whose CPU is not the arm's.
    pub fn is_client(&self) -> bool {
        matches!(self, Self::Http(_))
    }
}

/// Brings the service's phases to the names that all arms use; phases of one name are added up. What it has beside them
/// stays under its own name.
fn under_common_names(phases: impl IntoIterator<Item = (String, f64)>) -> Phases {
    let mut common = Phases::new();
    for (name, spent) in phases {
        let name = match name.as_str() {
            "browser" => "open".to_owned(),
            "navigate" => "load".to_owned(),
            "settle" | "shot" | "encode" => "render".to_owned(),
            _ => name,
        };
        match common.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += spent,
            None => common.push((name, spent)),
        }
    }
    common
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_one_common_name_are_added_up() {
        let phases = [
            ("queue", 1.0),
            ("browser", 2.0),
            ("navigate", 3.0),
            ("load", 4.0),
            ("shot", 5.0),
            ("encode", 6.0),
        ];
        let phases = phases.map(|(name, spent)| (name.to_owned(), spent));
        let expected = [("queue", 1.0), ("open", 2.0), ("load", 7.0), ("render", 11.0)];
        assert_eq!(
            under_common_names(phases),
            expected.map(|(name, spent)| (name.to_owned(), spent))
        );
    }
}
