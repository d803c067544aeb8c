//! One arm's process: starts the arm, then carries out orders, one a line, until its input ends.
//!
//! In: [`Order`]s. Out: one [`Report`] each. CPU is read while everything is at rest, before and after; pictures are
//! decoded only then. Must not: print anything else on standard output.

mod faults;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Failure;
use crate::arm::{Arm, Kind, Setup, Shot, ms};
use crate::check::Pictures;
use crate::meter;
use crate::protocol::{Background, Hello, Job, Load, Manner, Order, Report};
use crate::stats::arrivals;

/// How long the arm may clean up and prepare for the next capture before its CPU is read. Every order ends with it, so that
/// the next one begins at rest.
const SETTLE: Duration = Duration::from_millis(450);
/// A client that was idle for longer may find that its browser was given back (after a minute) and another one is launched
/// beside its next capture. What that costs is the cost of a launch, which has a row of its own: so the arm is woken first.
const IDLE: Duration = Duration::from_secs(40);
/// How long a launch and its proof may take then.
const AWAKE: Duration = Duration::from_millis(1_500);
/// When the caller of a page of the mix hangs up.
const HANG_UP: Duration = Duration::from_millis(400);

/// Runs the arm. `group` is the control group that is to hold it.
pub fn run(kind: Kind, setup: &Setup, group: Option<PathBuf>) -> Result<(), Failure> {
    if let Some(group) = &group {
        meter::join(group)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let began = Instant::now();
    let (arm, browser) = runtime.block_on(Arm::start(kind, setup))?;
    let hello = Hello {
        browser,
        ready_ms: ms(began.elapsed()),
        service: arm.service(),
    };
    runtime.block_on(async { tokio::time::sleep(SETTLE).await });
    say(&hello)?;
    let worker = Worker {
        arm: Arc::new(arm),
        group,
    };
    let mut rested = Instant::now();
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        if rested.elapsed() > IDLE {
            runtime.block_on(worker.wake(&order));
        }
        say(&runtime.block_on(worker.carry_out(&order))?)?;
        rested = Instant::now();
    }
    drop(worker);
    // The jailer hears of the server's end by its socket, and kills what is left.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(())
}

fn say(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

struct Worker {
    arm: Arc<Arm>,
    group: Option<PathBuf>,
}

/// One finished capture.
struct Done {
    /// Since the load began.
    at: Duration,
    latency: Duration,
    phases: Vec<(String, f64)>,
}

/// What a load collects.
#[derive(Default)]
struct Collected {
    done: Vec<Done>,
    pictures: Pictures,
    captures: u64,
    errors: BTreeMap<String, u64>,
}

/// Shared by the tasks of one load.
#[derive(Clone)]
struct Bench {
    arm: Arc<Arm>,
    began: Instant,
    collected: Arc<Mutex<Collected>>,
}

impl Bench {
    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one picture that counts; `late` is how long it was due before it began.
    async fn capture(&self, job: &Job, late: Duration) {
        let shot = self.arm.capture(job).await;
        self.record(shot, late);
    }

    fn record(&self, shot: Result<Shot, Failure>, late: Duration) {
        let at = self.began.elapsed();
        let mut collected = self.collected();
        collected.captures += 1;
        match shot {
            Ok(shot) => {
                if !shot.picture.is_empty() {
                    collected.pictures.keep(shot.picture);
                }
                collected.done.push(Done {
                    at,
                    latency: shot.latency + late,
                    phases: shot.phases,
                });
            }
            Err(error) => *collected.errors.entry(error.to_string()).or_default() += 1,
        }
    }

    async fn in_background(self, background: Background, stop: Arc<AtomicBool>) {
        let Background { jobs, manner } = background;
        let mut turn = jobs.iter().cycle();
        while !stop.load(Ordering::Relaxed)
            && let Some(job) = turn.next()
        {
            let patience = if manner == Manner::Mixed {
                HANG_UP
            } else {
                Duration::MAX
            };
            let shot = tokio::time::timeout(patience, self.arm.capture(job)).await;
            let mut collected = self.collected();
            collected.captures += 1;
            let wrong = match (manner, shot) {
                (Manner::Good, Ok(Err(error))) => format!("background: {error}"),
                (Manner::Endless, Ok(Ok(_))) => "background: a picture of a hostile page".into(),
                _ => continue,
            };
            *collected.errors.entry(wrong).or_default() += 1;
        }
    }
}

impl Worker {
    fn cpu(&self) -> Result<f64, Failure> {
        let all = meter::cpu_ms(self.group.as_deref(), std::process::id())?;
        Ok(if self.arm.is_client() {
            all - meter::own_cpu_ms()?
        } else {
            all
        })
    }

    fn driver(&self) -> Result<f64, Failure> {
        Ok(meter::process_cpu_ms(self.arm.service())?)
    }

    /// One capture that does not count, and the time that a spare needs to be there again. A failure shows in the order.
    async fn wake(&self, order: &Order) {
        if matches!(order.load, Load::Launch { .. }) {
            return;
        }
        let _ = self.arm.capture(&order.job).await;
        tokio::time::sleep(AWAKE).await;
    }

    async fn carry_out(&self, order: &Order) -> Result<Report, Failure> {
        let (cpu_before, driver_before) = (self.cpu()?, self.driver()?);
        let bench = Bench {
            arm: Arc::clone(&self.arm),
            began: Instant::now(),
            collected: Arc::default(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let background = order.background.clone().map(|background| {
            let manner = background.manner;
            let task = tokio::spawn(bench.clone().in_background(background, Arc::clone(&stop)));
            (task, manner)
        });
        let counted = load(&bench, order).await;
        stop.store(true, Ordering::Relaxed);
        if let Some((task, manner)) = background {
            if manner != Manner::Good {
                task.abort();
            }
            let _ = task.await;
        }
        tokio::time::sleep(SETTLE).await;
        let cpu_ms = self.cpu()? - cpu_before;
        let driver_ms = self.driver()? - driver_before;
        let collected = std::mem::take(&mut *bench.collected());
        Ok(Report {
            driver_ms,
            ..report(order, &counted, collected, cpu_ms)
        })
    }
}

/// From when to when captures count, since the load began; without an end, all do.
struct Counted {
    from: Duration,
    until: Option<Duration>,
}

const ALL: Counted = Counted {
    from: Duration::ZERO,
    until: None,
};

async fn load(bench: &Bench, order: &Order) -> Counted {
    let job = &order.job;
    match order.load {
        Load::Paced { count, pause_ms } => {
            for _ in 0..count {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                bench.capture(job, Duration::ZERO).await;
            }
            ALL
        }
        Load::Soak { count, concurrency } => {
            faults::soak(bench, job, count, concurrency).await;
            ALL
        }
        Load::Launch { count } => {
            for _ in 0..count {
                let shot = bench.arm.launch().await;
                bench.record(shot, Duration::ZERO);
            }
            ALL
        }
        Load::Closed {
            concurrency,
            window_ms,
            warmup_ms,
        } => {
            let from = Duration::from_millis(warmup_ms);
            let until = from + Duration::from_millis(window_ms);
            let mut tasks = JoinSet::new();
            for _ in 0..concurrency {
                let (bench, job) = (bench.clone(), job.clone());
                tasks.spawn(async move {
                    while bench.began.elapsed() < until {
                        bench.capture(&job, Duration::ZERO).await;
                    }
                });
            }
            while tasks.join_next().await.is_some() {}
            Counted {
                from,
                until: Some(until),
            }
        }
        Load::Open { rate, window_ms, seed } => {
            let mut tasks = JoinSet::new();
            for at in arrivals(rate, Duration::from_millis(window_ms).as_secs_f64(), seed) {
                let due = bench.began + Duration::from_secs_f64(at);
                tokio::time::sleep_until(due.into()).await;
                let (bench, job) = (bench.clone(), job.clone());
                tasks.spawn(async move { bench.capture(&job, due.elapsed()).await });
            }
            while tasks.join_next().await.is_some() {}
            ALL
        }
    }
}

fn report(order: &Order, counted: &Counted, collected: Collected, cpu_ms: f64) -> Report {
    let Collected {
        done,
        pictures,
        captures,
        mut errors,
    } = collected;
    let last = done.iter().map(|done| done.at).max().unwrap_or_default();
    let until = counted.until.unwrap_or(last);
    let counts = |done: &&Done| done.at > counted.from && done.at <= until;
    let mut report = Report {
        captures,
        cpu_ms,
        ..Report::default()
    };
    for done in done.iter().filter(counts) {
        report.latencies_ms.push(ms(done.latency));
        for (name, spent) in &done.phases {
            report.phases_ms.entry(name.clone()).or_default().push(*spent);
        }
    }
    let seconds = (until.saturating_sub(counted.from)).as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // a few hundred
    let number = report.latencies_ms.len() as f64;
    report.rate = if seconds > 0.0 { number / seconds } else { 0.0 };
    match pictures.look(&order.job) {
        Ok(pixels) => report.pixels = pixels,
        Err(wrong) => *errors.entry(format!("wrong picture: {wrong}")).or_default() += 1,
    }
    report.errors = errors;
    report
}

/// Where a group's path stands on the command line.
pub fn group_argument(group: &Path) -> [String; 2] {
    ["--group".to_owned(), group.display().to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Format;
    use crate::site::Page;

    #[test]
    fn only_what_ends_inside_the_window_counts_but_the_cpu_is_for_all() {
        let job = Job {
            page: Page::Trivial,
            url: String::new(),
            width: 1,
            height: 1,
            full_page: false,
            format: Format::Png,
            of_another: false,
        };
        let order = Order {
            job,
            load: Load::Launch { count: 1 },
            background: None,
        };
        let done = |at| Done {
            at: Duration::from_secs(at),
            latency: Duration::from_millis(at * 10),
            phases: vec![("load".into(), 1.0)],
        };
        let collected = Collected {
            done: vec![done(1), done(2), done(3), done(4)],
            captures: 4,
            ..Collected::default()
        };
        let counted = Counted {
            from: Duration::from_secs(1),
            until: Some(Duration::from_secs(3)),
        };
        let report = report(&order, &counted, collected, 100.0);
        assert_eq!(report.latencies_ms, [20.0, 30.0]);
        assert_eq!(report.phases_ms["load"], [1.0, 1.0]);
        assert_eq!((report.captures, report.cpu_ms), (4, 100.0));
        assert!((report.rate - 1.0).abs() < 1e-9);
    }
}
