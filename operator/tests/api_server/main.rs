//! The operator against a real API server (control plane only: no node, so no pod ever runs).
//!
//! Needs `SHOT_TEST_KUBECONFIG`, the path of a kubeconfig with cluster-admin on a throw-away API server, for example of
//! `tests/cluster/cluster.sh up --control-plane-only`. Without it the tests fail and say so.
//! Each test makes a namespace of its own and leaves it for the cluster to be thrown away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // All of this file is test code.

mod children;
mod cluster;
mod conventions;
mod drift;
mod ending;
mod faults;
mod foreign;
mod input;
mod leader;
mod manifests;
mod manifests_tls;
mod optional;
mod pickup;
mod privacy;
mod proxy;
mod quiet;
mod rights;
mod roles;
mod scaling;
mod silence;
mod support;
mod troubles;
mod whole;
