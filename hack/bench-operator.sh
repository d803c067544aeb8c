#!/usr/bin/env bash
# The operator's figures: the program as it is shipped (release build, linked statically) beside a real API server (control
# plane only, ended afterwards). Some fifteen minutes once it is built.
#
#   hack/bench-operator.sh [--only plan|few|thousand|restart|many]... [--services N]     default: all, 5000 services
#
# Out: a table, and its rows in target/bench/operator.json. With --only the other rows there stay as they were.
# SHOT_BENCH_SERVICES=1000 leaves out the rows with 5000 services.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
bench() {
  RUSTFLAGS="-C target-feature=+crt-static" \
    cargo bench -q --locked --target "$(uname -m)-unknown-linux-gnu" -p screenshot-operator "$@"
}
# Built before the cluster is up, so that the compiler takes no time from it.
bench --bench operator --bench plan --no-run
export CRITERION_HOME=$PWD/target/bench/criterion
bench --bench plan
name=operator-bench
trap '"$CLUSTER" down --name $name' EXIT
"$CLUSTER" up --control-plane-only --name $name --time-limit 40 --port 16446
SHOT_TEST_KUBECONFIG=$("$CLUSTER" kubeconfig --name $name)
export SHOT_TEST_KUBECONFIG
bench --bench operator -- --out "$PWD/target/bench/operator.json" --plan "$CRITERION_HOME/plan/new/estimates.json" \
  --services "${SHOT_BENCH_SERVICES:-5000}" "$@"
