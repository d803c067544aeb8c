//! `plan()` alone, by criterion: a service with one exception, everything else as it is by default.
//! `hack/bench-operator.sh` takes its row from the estimate that this leaves behind.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)] // A program for developers.

#[path = "operator/sample.rs"]
mod sample;

use std::collections::BTreeSet;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use screenshot_operator::plan::{Surroundings, Targets, plan};

fn plans(criterion: &mut Criterion) {
    let exception = [("web.shop.svc", "2099-01-01T00:00:00Z")];
    let wanted = sample::wanted("web", "shots", "7a1e1bb1-0000-4000-8000-000000000000", &exception);
    let operator = sample::operator();
    let around = Surroundings {
        targets: &Targets::new(),
        operator: &operator,
        served: &BTreeSet::new(),
        deployment: None,
    };
    let now = Timestamp::now();
    criterion.bench_function("plan", |bencher| {
        bencher.iter(|| plan(black_box(&wanted), &around, now));
    });
}

criterion_group!(benches, plans);
criterion_main!(benches);
