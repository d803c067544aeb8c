//! The faults of a soak.
//!
//! In: how many captures. Out: the good ones, recorded as ever; a fault that ends in a picture is an error. Must not:
//! end a process that is not a browser of this arm.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use super::Bench;
use crate::meter;
use crate::protocol::Job;
use crate::site::{ENDLESS, SILENT};

/// Every so many captures one is a fault.
const EVERY: u32 = 20;
/// After so long a caller hangs up: in the middle of the work.
const HANG_UP: Duration = Duration::from_millis(40);
/// How often a good capture is tried, and after what pause again: `Retry-After` is at least a second.
const TRIES: u32 = 5;
const COME_BACK: Duration = Duration::from_secs(1);
/// The jailer's name; its children are jails.
const JAILER: &str = "capture-jail";

/// Takes so many captures, some of them faults.
pub async fn soak(bench: &Bench, job: &Job, count: u32, concurrency: u32) {
    let next = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let (bench, job, next) = (bench.clone(), job.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                if number % EVERY == EVERY - 1 {
                    fault(&bench, &job, number / EVERY).await;
                } else {
                    good(&bench, &job).await;
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// A good capture, as a client of good manners takes it: whoever is turned away, or lost a browser to a fault beside it,
/// comes back a second later. Only the last failure counts.
async fn good(bench: &Bench, job: &Job) {
    for _ in 1..TRIES {
        if let Ok(shot) = bench.arm.capture(job).await {
            bench.record(Ok(shot), Duration::ZERO);
            return;
        }
        tokio::time::sleep(COME_BACK).await;
    }
    bench.capture(job, Duration::ZERO).await;
}

async fn fault(bench: &Bench, job: &Job, number: u32) {
    let at = |path: &str| Job {
        url: job.url.replace(job.page.path(), path),
        ..job.clone()
    };
    match number % 5 {
        0 => {
            let _ = tokio::time::timeout(HANG_UP, bench.arm.capture(job)).await;
        }
        1 => must_fail(bench, &at("/missing")).await,
        2 => must_fail(bench, &at(SILENT)).await,
        3 => must_fail(bench, &at(ENDLESS)).await,
        _ => kill_a_browser(bench.arm.service()),
    }
}

async fn must_fail(bench: &Bench, job: &Job) {
    if bench.arm.capture(job).await.is_ok() {
        bench.record(Err(format!("a picture of {}", job.url).into()), Duration::ZERO);
    }
}

fn kill_a_browser(service: u32) {
    let jail = meter::children_of(service, JAILER).into_iter().next();
    if let Some(pid) = jail.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
