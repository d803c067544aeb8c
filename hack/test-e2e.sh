#!/usr/bin/env bash
# The end-to-end suite: brings cluster and operator up, runs every test, and ends the cluster if it made it. Here it has a
# cluster of its own, e2e, beside the demo's.
#   hack/test-e2e.sh [FILTER]    a nextest filter such as 'test(rotation)'; default: every test
# Out: figures in target/e2e/figures; after a failure what was in the cluster in target/e2e.
# Settings: SHOT_KEEP=1 leaves the cluster, and in it what failed; CONTEXT uses another cluster (see hack/env.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
export CLUSTER_NAME=e2e CLUSTER_PORT=16447 DEMO_OUT=target/e2e/demo DEMO_TEST=1
. hack/env.sh
filter=${1:-all()}
was_up=0
if hack/install.sh there; then was_up=1; fi
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

# What was asked by an operator of an earlier run is not this one's.
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
# In our own cluster as `make demo` does it, pictures included.
if [ "$WHERE" = local ]; then
  hack/demo.sh
  for picture in scripts long metadata; do
    [ "$(head -c 8 $DEMO_OUT/$picture.png | base64)" = "iVBORw0KGgo=" ] || { echo "the demo's $picture.png is no PNG" >&2; false; }
  done
  kubectl delete namespace shots-demo --wait=false
else
  hack/install.sh up
fi
# The chart's own test: a pod of the cluster asks the operator through its Service and its NetworkPolicy.
hack/step.sh "helm test" helm test screenshot-operator --namespace "$OPERATOR_NAMESPACE" --timeout 90s
# Only in our own cluster: its network can be told to ignore policies, its stand-ins and name server to lead a page on, its
# programs dial past the proxy, its autoscalers have metrics soon, its node's processes are this machine's, it has that runtime,
# and it is ours to take the operator, or the profile of its nodes, away from.
possible=$filter
if [ "$WHERE" != local ]; then
  ours='/^(autoscaling|enforcement|hostile|network|sockets|upstream)::|^alone::(node|operator|replicas)::/'
  possible="not test($ours) and not test(/a_hung_browser|_has_no_user_namespaces_for_it/) and ($filter)"
fi
# .config/nextest.toml says how many of these threads a test takes.
cargo nextest run --locked -p screenshot-tests --test-threads 16 -E "$possible"
cat target/e2e/figures/*.txt 2>/dev/null || true
# Only our own API server's audit log is at hand.
if [ "$WHERE" = local ]; then
  state=$("$CLUSTER" status --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["stateDir"])')
  hack/step.sh "the operator's calls against its rules" python3 hack/e2e_audit.py "$state/logs/audit.log" "$since" "$OPERATOR_NAMESPACE"
fi
