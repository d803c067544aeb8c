#!/usr/bin/env bash
# The operator's figures: the release build beside a real API server (control plane only, ended afterwards).
# SHOT_BENCH_SERVICES=5000 adds the rows with 5000 services (some minutes more).
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
# Built before the cluster is up, so that the compiler takes no time from it.
cargo bench -q --locked -p screenshot-operator --bench operator --no-run
name=operator-bench
trap '"$CLUSTER" down --name $name' EXIT
"$CLUSTER" up --control-plane-only --name $name --time-limit 30 --port 16445
SHOT_TEST_KUBECONFIG=$("$CLUSTER" kubeconfig --name $name)
export SHOT_TEST_KUBECONFIG
cargo bench -q --locked -p screenshot-operator --bench operator
