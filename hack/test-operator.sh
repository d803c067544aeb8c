#!/usr/bin/env bash
# The operator's own tests, then the same operator against a real API server (control plane only, ended afterwards).
set -euo pipefail
cd "$(dirname "$0")/.."
unset CONTEXT # It has clusters of its own, or none.
. hack/env.sh
name=operator-tests
trap '"$CLUSTER" down --name $name' EXIT
"$CLUSTER" down --name $name # what a killed run left
"$CLUSTER" up --control-plane-only --name $name --time-limit 30 --port 16444
SHOT_TEST_KUBECONFIG=$("$CLUSTER" kubeconfig --name $name)
SHOT_TEST_DEFINITIONS=$(hack/definitions.sh "$CACHE/definitions")
SHOT_TEST_AUDIT_LOG=$("$CLUSTER" status --json --name $name | python3 -c 'import json,sys; print(json.load(sys.stdin)["stateDir"])')/logs/audit.log
export SHOT_TEST_KUBECONFIG SHOT_TEST_DEFINITIONS SHOT_TEST_AUDIT_LOG
# One of them waits for two minutes; the others share what two cores and the API server have.
cargo nextest run --locked -p screenshot-operator --test-threads 3
