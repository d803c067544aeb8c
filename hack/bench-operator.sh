#!/usr/bin/env bash
# The operator's figures: the program as it is shipped (release build, linked statically) beside a real API server (control
# plane only, ended afterwards). Some five minutes once it is built.
# Out: a table, and its rows in target/bench/operator.json. SHOT_BENCH_SERVICES=1000 leaves out the rows with 5000 services.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
bench() {
  RUSTFLAGS="-C target-feature=+crt-static" \
    cargo bench -q --locked --target "$(uname -m)-unknown-linux-gnu" -p screenshot-operator --bench operator "$@"
}
# Built before the cluster is up, so that the compiler takes no time from it.
bench --no-run
name=operator-bench
trap '"$CLUSTER" down --name $name' EXIT
"$CLUSTER" up --control-plane-only --name $name --time-limit 30 --port 16446
SHOT_TEST_KUBECONFIG=$("$CLUSTER" kubeconfig --name $name)
export SHOT_TEST_KUBECONFIG
bench -- "$PWD/target/bench/operator.json"
