#!/usr/bin/env bash
# The end-to-end suite: brings cluster and operator up, runs every test, and ends the cluster that it made.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
was_up=0
if [ -z "${CONTEXT:-}" ] && "$CLUSTER" status | grep -q ': up for '; then was_up=1; fi
finish() {
  code=$?
  if [ $code -ne 0 ]; then
    mkdir -p target/e2e
    kubectl get pods,shot -A >target/e2e/objects.txt 2>&1 || true
    kubectl -n "$OPERATOR_NAMESPACE" logs deployment/screenshot-operator --tail=500 >target/e2e/operator.log 2>&1 || true
    echo "what was in the cluster: target/e2e/" >&2
  fi
  if [ $was_up -eq 0 ] && [ -z "${SHOT_KEEP:-}" ]; then hack/install.sh down; fi
  exit $code
}
trap finish EXIT
hack/install.sh up
cargo nextest run --locked -p screenshot-tests --test-threads 2
