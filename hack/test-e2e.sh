#!/usr/bin/env bash
# The end-to-end suite: brings cluster and operator up, runs every test, and ends the clusters that it made.
#   hack/test-e2e.sh [FILTER]    a nextest filter such as 'test(rotation)'; default: every test
# Out: figures in target/e2e/figures; after a failure what was in the cluster in target/e2e.
# Settings: SHOT_KEEP=1 leaves the cluster, and in it what failed; CONTEXT uses another cluster (see hack/env.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
filter=${1:-all()}
was_up=0
if [ "$WHERE" = local ] && "$CLUSTER" status | grep -q ': up for '; then was_up=1; fi
rm -rf target/e2e
mkdir -p target/e2e/figures

keep_for_a_look() {
  kubectl get pods,shot -A >target/e2e/objects.txt 2>&1 || true
  kubectl -n "$OPERATOR_NAMESPACE" logs deployment/screenshot-operator --tail=500 >target/e2e/operator.log 2>&1 || true
  echo "what was in the cluster: target/e2e/" >&2
}
finish() {
  code=$?
  if [ $code -ne 0 ]; then keep_for_a_look; fi
  if [ $was_up -eq 0 ] && [ -z "${SHOT_KEEP:-}" ]; then hack/install.sh down; fi
  exit $code
}
trap finish EXIT

run() { cargo nextest run --locked -p screenshot-tests "$@"; }

# The check that the network enforces policies, in a cluster that does not: it has to notice.
unenforced() (
  name=unenforced
  trap '"$CLUSTER" down --name $name' EXIT
  "$CLUSTER" up --name $name --port 16445 --no-network-policy --time-limit 10
  KUBECONFIG=$("$CLUSTER" kubeconfig --name $name)
  export KUBECONFIG
  run -E 'test(/^unenforced::/)'
)

hack/install.sh up
# Only our own cluster's network can be told to stop enforcing.
possible=$filter
if [ "$WHERE" != local ]; then possible="not test(/^alone::enforcement::/) and ($filter)"; fi
# Four at a time: a test mostly waits for pods, and two cores carry the browsers of four.
run --test-threads 4 -E "not test(/^unenforced::/) and ($possible)"
if [ "$filter" = "all()" ] && [ "$WHERE" = local ]; then
  unenforced
else
  echo "not run: the check of the check for enforced policies (it is for the whole suite on the project's own cluster)"
fi
cat target/e2e/figures/*.txt 2>/dev/null || true
