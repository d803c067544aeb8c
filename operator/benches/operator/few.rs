//! Figures with no or a few services: start, memory, calls, what a minute costs in which nothing happens.

use std::time::Duration;

use bench_rows::Rows;
use kube::Client;
use screenshot_operator::cache::listening::Bounds;

use crate::process::Process;
use crate::{CHILDREN, FEW, services};

const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];
/// Calls to which an answer ends: all but watches.
pub const ENDING: [&str; 6] = ["get", "list", "create", "update", "patch", "delete"];
/// How long nothing is done for the idle rows.
const IDLE: Duration = Duration::from_secs(60);

pub async fn empty(client: &Client, rows: &mut Rows) {
    let (mut starts, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let operator = Process::start().await;
        starts.push(operator.ready_after.as_secs_f64());
        tokio::time::sleep(Duration::from_secs(1)).await;
        memory.push(operator.rss());
        operator.stop();
    }
    rows.at_most("start to ready, 0 services", "s", 0.3, &starts);
    rows.at_most("resident memory, idle", "MiB", 15.0, &memory);
    let operator = Process::start().await;
    operator.leads().await;
    operator.quiet(Duration::from_secs(2)).await;
    let present = services::count(client).await;
    let (mut calls, mut with_events) = (Vec::new(), Vec::new());
    for n in 0..FEW {
        let (before, events) = (operator.calls(&ENDING).await, operator.events().await);
        services::make(client, &format!("one-{n}"), 1).await;
        operator.settled(present + n + 1).await;
        operator.quiet(Duration::from_secs(2)).await;
        let (made, told) = (operator.calls(&ENDING).await - before, operator.events().await - events);
        calls.push(made - told);
        with_events.push(made);
    }
    rows.at_most(
        "calls to create one service, without events",
        "calls",
        CHILDREN + 1.0,
        &calls,
    );
    // The goal knows no events: with them it is missed, by one call for each.
    rows.at_most(
        "calls to create one service, with its events",
        "calls",
        CHILDREN + 1.0,
        &with_events,
    );
    idle(rows, &operator).await;
    operator.stop();
}

/// What a minute costs in which nothing happens. Watches are begun anew every few minutes, all at one time, which a
/// short look would miss or count whole: they are reckoned by their number.
async fn idle(rows: &mut Rows, operator: &Process) {
    let watches = operator.watches().await;
    let (reads, writes, renewed) = (
        operator.calls(&["get", "list"]).await,
        operator.calls(&WRITES).await,
        operator.calls(&["watch"]).await,
    );
    tokio::time::sleep(IDLE).await;
    let reads = operator.calls(&["get", "list"]).await - reads;
    let writes = operator.calls(&WRITES).await - writes;
    let renewed = (operator.calls(&["watch"]).await - renewed - watches).max(0.0);
    let minutes = IDLE.as_secs_f64() / 60.0;
    let renewals = watches * 60.0 / f64::from(Bounds::default().watch_seconds);
    rows.at_most(
        "reads per idle minute, without the Lease's",
        "calls/min",
        3.0,
        &[(reads + renewed) / minutes + renewals],
    );
    let services = f64::from(u32::try_from(FEW).expect("few"));
    rows.at_most(
        "writes per service and idle hour",
        "calls/h",
        0.0,
        &[writes / services / minutes * 60.0],
    );
}
