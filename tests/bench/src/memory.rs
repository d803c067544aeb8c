//! Memory and start of the whole service, alone on the machine: other browsers' shared pages would flatter it.
//!
//! In: the arms with a server process. Out: proportional set sizes at rest and at c=8, the highest that the control group
//! counted, and the time to readiness, each from so many fresh starts. Must not: run while another arm does.

use std::time::Duration;

use crate::Failure;
use crate::arm::{Isolation, Kind, Setup};
use crate::cells::{Cell, job};
use crate::crew::{ArmName, Member};
use crate::meter;
use crate::protocol::{Load, Order};
use crate::results::{Measured, measured};
use crate::site::{Page, Site};

/// After the start, until the service is at rest.
const REST: Duration = Duration::from_millis(1_500);
/// How often memory is looked at under load.
const LOOK: Duration = Duration::from_millis(150);
const MEGABYTE: f64 = 1024.0 * 1024.0;

/// One service's memory, a value per start.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Which service.
    pub isolation: Isolation,
    idle_mb: Vec<f64>,
    busy_mb: Vec<f64>,
    group_mb: Vec<f64>,
    ready_s: Vec<f64>,
}

impl Memory {
    /// At rest, in MB.
    pub fn idle(&self) -> Option<Measured> {
        measured(&self.idle_mb)
    }

    /// The highest at c=8, in MB.
    pub fn busy(&self) -> Option<Measured> {
        measured(&self.busy_mb)
    }

    /// The most that the control group held in all that time, in MB: the page cache and the benchmark's own client included.
    pub fn group(&self) -> Option<Measured> {
        measured(&self.group_mb)
    }

    /// From the start to readiness, in seconds.
    pub fn ready(&self) -> Option<Measured> {
        measured(&self.ready_s)
    }
}

/// Starts the service `starts` times. The first picture of each start is part of the load.
pub fn measure(setup: &Setup, isolation: Isolation, site: Site, starts: usize) -> Result<Memory, Failure> {
    let setup = Setup {
        isolation,
        ..setup.clone()
    };
    let name = ArmName {
        kind: Kind::Http,
        isolation: Some(isolation),
        peer: None,
    };
    let mut memory = Memory {
        isolation,
        idle_mb: Vec::new(),
        busy_mb: Vec::new(),
        group_mb: Vec::new(),
        ready_s: Vec::new(),
    };
    for _ in 0..starts {
        let mut member = Member::start(&name, &setup)?;
        memory.ready_s.push(member.hello.ready_ms / 1000.0);
        std::thread::sleep(REST);
        memory
            .idle_mb
            .extend(meter::pss(member.hello.service).map(|bytes| bytes / MEGABYTE));
        memory.busy_mb.extend(under_load(&mut member, site)?);
        memory
            .group_mb
            .extend(member.highest_memory().map(|bytes| bytes / MEGABYTE));
    }
    Ok(memory)
}

fn under_load(member: &mut Member, site: Site) -> Result<Option<f64>, Failure> {
    let order = Order {
        job: job(site, Page::Article),
        load: Load::Closed {
            concurrency: crate::cells::SATURATED,
            window_ms: 2_500,
            warmup_ms: 500,
        },
        background: None,
    };
    member.send(&order)?;
    let mut highest: Option<f64> = None;
    loop {
        std::thread::sleep(LOOK);
        if let Some(report) = member.try_report() {
            let report = report?;
            return match report.errors.keys().next() {
                Some(error) => Err(format!("{} at c=8: {error}", Cell::Saturated(Page::Article).name()).into()),
                None => Ok(highest),
            };
        }
        let now = meter::pss(member.hello.service).map(|bytes| bytes / MEGABYTE);
        highest = now.map(|now| highest.map_or(now, |before| before.max(now))).or(highest);
    }
}
