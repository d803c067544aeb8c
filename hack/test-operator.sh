#!/usr/bin/env bash
# The operator's own tests, then the same operator against a real API server (control plane only, ended afterwards).
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/screenshot-operator/target}
cluster=tests/cluster/cluster.sh
name=operator-tests
trap '$cluster down --name $name' EXIT
$cluster up --control-plane-only --name $name --time-limit 30 --port 16444
SHOT_TEST_KUBECONFIG=$($cluster kubeconfig --name $name)
PATH=$($cluster path):$PATH
export SHOT_TEST_KUBECONFIG PATH
cargo nextest run --locked -p screenshot-operator
