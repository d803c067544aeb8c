//! A thousand captures, one in twenty of them a fault: does everything come back to where it was?
//!
//! In: the service alone on the machine. Out: its processes, threads, descriptors, files and memory before and after, both
//! at rest. The faults are those of real life: a caller that hangs up, a page that is not there, that never answers, that
//! never ends, and a browser that dies. Must not: count a fault's failure as one of the service's.

use std::path::Path;
use std::time::Duration;

use crate::Failure;
use crate::arm::{Isolation, Kind, Setup};
use crate::cells::job;
use crate::crew::{ArmName, Member};
use crate::meter::{self, Footprint};
use crate::protocol::{Load, Order};
use crate::site::{Page, Site};

/// Idle threads of a pool end after ten seconds.
const REST: Duration = Duration::from_secs(12);
/// A capture's deadline: pages that never end cost this much each.
const DEADLINE_MS: u64 = 3_000;
/// Captures before the first look, so that the service has seen everything once.
const WARM_UP: u32 = 40;
/// An order's captures, with two faults of each kind: its report comes long before the orchestrator loses patience.
const ORDER: u32 = 200;
/// Where the jailer makes the browsers' directories.
const PROFILES: &str = "/tmp";
const PROFILE_PREFIX: &str = "capture-jail.";

/// What a service was before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Soak {
    /// Which service.
    pub isolation: Isolation,
    /// Captures in between.
    pub captures: u32,
    /// Before.
    pub before: Footprint,
    /// After.
    pub after: Footprint,
}

/// Measures one service.
pub fn measure(setup: &Setup, isolation: Isolation, site: Site, captures: u32) -> Result<Soak, Failure> {
    let setup = Setup {
        isolation,
        deadline_ms: DEADLINE_MS,
        ..setup.clone()
    };
    let name = ArmName {
        kind: Kind::Http,
        isolation: Some(isolation),
        peer: None,
    };
    let mut member = Member::start(&name, &setup)?;
    captured(&mut member, site, WARM_UP)?;
    let before = look(&member)?;
    for begun in (0..captures).step_by(ORDER as usize) {
        captured(&mut member, site, ORDER.min(captures - begun))?;
    }
    let after = look(&member)?;
    Ok(Soak {
        isolation,
        captures,
        before,
        after,
    })
}

fn captured(member: &mut Member, site: Site, count: u32) -> Result<(), Failure> {
    let order = Order {
        job: job(site, Page::Trivial),
        load: Load::Soak { count, concurrency: 2 },
        background: None,
    };
    let report = member.carry_out(&order)?;
    match report.errors.iter().next() {
        Some((error, number)) => Err(format!("soak: {number} x {error}").into()),
        None => Ok(()),
    }
}

fn look(member: &Member) -> Result<Footprint, Failure> {
    std::thread::sleep(REST);
    let mut footprint = meter::footprint(member.hello.service).ok_or("the service's processes may not be read")?;
    footprint.files = profiles(Path::new(PROFILES));
    Ok(footprint)
}

fn profiles(root: &Path) -> u64 {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PROFILE_PREFIX))
        .count() as u64
}
