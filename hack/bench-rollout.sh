#!/usr/bin/env bash
# How long a developer and a user wait: the cluster's start, apply to the first picture, a changed policy until
# every pod attests it, a changed program to a new pod, the demo; and how large the images are.
#
#   hack/bench-rollout.sh [--rounds N] [--only cluster|demo|apply|policy|change]...      default: 3 rounds of each
#
# Out: a table, target/bench/cluster.json (rows as in capture.json). Needs the local cluster (not CONTEXT's) and ends it.
# What is built the first time (cluster's programs, images) is built before the clock runs.
# Must not: change a file of the checkout. A changed program is the rebuilt one with a few bytes behind its end, which
# no loader reads: another file, another image, the same program.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
. hack/bench-rows.sh
[ "$WHERE" = local ] || { echo "bench: measures the project's own cluster only" >&2; exit 1; }
rounds=3 only=()
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --only) only+=("$2"); shift 2 ;;
    *) echo "usage: bench-rollout.sh [--rounds N] [--only cluster|demo|apply|policy|change]..." >&2; exit 2 ;;
  esac
done
wanted() { [ ${#only[@]} -eq 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }
if hack/install.sh there; then
  echo "bench: a cluster is up; end it first (make demo-down), for its start is measured" >&2
  exit 1
fi
namespace=shots-demo
site=http://demo-site.$namespace.svc.cluster.local:8080
work=$(mktemp -d)
forward=
finish() {
  code=$?
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  rm -rf "$work"
  "$CLUSTER" down >/dev/null 2>&1 || true
  exit $code
}
trap finish EXIT
quiet() { "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; return 1; }; }

cluster_starts() {
  quiet "$CLUSTER" up; quiet "$CLUSTER" down # builds what is missing
  local status
  for ((round = 1; round <= rounds; round++)); do
    begin
    quiet "$CLUSTER" up --control-plane-only
    took control_plane
    status=$("$CLUSTER" status --json)
    add control_plane_pss "$(jq '.memoryBytes / 1048576' <<<"$status")"
    quiet "$CLUSTER" down
    begin
    quiet "$CLUSTER" up
    took up
    status=$("$CLUSTER" status --json)
    add pss "$(jq '.memoryBytes / 1048576' <<<"$status")"
    add processes "$(jq '.processes' <<<"$status")"
    begin
    quiet "$CLUSTER" down
    took down
  done
  row control_plane "cluster up, control plane only" s 15
  row up "cluster up, warm: node Ready, DNS, policies and admission proven" s 20
  row down "cluster down" s ""
  row control_plane_pss "memory of the control plane's own processes, PSS" MB ""
  row pss "memory of the cluster's own processes, PSS" MB ""
}

demo_shows() {
  local image
  quiet hack/demo.sh; quiet hack/demo.sh down # builds what is missing
  for ((round = 1; round <= rounds; round++)); do
    begin
    quiet hack/demo.sh
    took demo
    begin
    quiet hack/demo.sh
    took again
    quiet hack/demo.sh down
  done
  for image in capture-server screenshot-operator; do
    add "size-$image" "$(awk -v b="$(stat -c %s "dist/images/$image.tar")" 'BEGIN { print b / 1e6 }')"
    row "size-$image" "image $image, archive" MB ""
  done
  row demo "make demo, everything built, no cluster" s ""
  row again "make demo again" s 90
}

# The sample without its ScreenshotService, and that alone.
split_sample() {
  awk -v rest="$work/rest.yaml" -v shot="$work/shot.yaml" '
    function flush() { if (text != "") print text > (text ~ /kind: ScreenshotService/ ? shot : rest); text = "" }
    /^---$/ { flush(); print "---" > rest; next } { text = text $0 "\n" } END { flush() }' examples/demo.yaml
}

start() {
  quiet hack/install.sh up
  split_sample
  quiet kubectl apply -f "$work/rest.yaml"
  quiet kubectl -n $namespace rollout status deployment/demo-site --timeout=60s
}

open_port() { # a forwarded port of the service, in $port
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  : >"$work/forward" # Before it is read: what is started in the background may open it later.
  kubectl -n $namespace port-forward service/demo :80 >>"$work/forward" 2>&1 &
  forward=$!
  port=
  for _ in $(seq 500); do
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$work/forward" | head -n 1)
    [ -z "$port" ] || return 0
    sleep 0.02
  done
  cat "$work/forward" >&2
  return 1
}

picture() { # takes one; the token goes to curl through a file that only we can read
  (umask 077 && printf 'Authorization: Bearer %s\n' \
    "$(kubectl -n $namespace get secret demo-token -o jsonpath='{.data.token}' | base64 -d)" >"$work/headers")
  curl -sS --noproxy '*' --max-time 60 --fail-with-body -o "$work/picture.png" -H @"$work/headers" -H 'Content-Type: application/json' \
    -d "{\"url\":\"$site/scripts\",\"window_width\":1280,\"window_height\":800}" "http://127.0.0.1:$port/v1/capture"
  [ "$(head -c 4 "$work/picture.png" | tail -c 3)" = PNG ] || { head -c 400 "$work/picture.png" >&2; return 1; }
}

apply_to_picture() {
  for ((round = 1; round <= rounds; round++)); do
    quiet kubectl -n $namespace delete shot demo --ignore-not-found --wait
    # What it made goes by garbage collection: the next round begins with nothing.
    quiet kubectl -n $namespace wait --for=delete deployment/demo secret/demo-token --timeout=60s
    quiet kubectl -n $namespace wait --for=delete pod -l app.kubernetes.io/instance=demo --timeout=60s
    begin
    quiet kubectl apply -f "$work/shot.yaml"
    quiet kubectl -n $namespace wait --for=condition=Ready shot/demo --timeout=120s
    took ready
    open_port
    picture
    took first
    begin
    picture
    took next
  done
  for ((round = 1; round <= rounds; round++)); do pod_to_ready; done
  row pod "a pod's containers running until it is proven ready" s 2
  row ready "apply to Ready" s ""
  row first "apply to the first PNG" s ""
  row next "a PNG of the demo page through the cluster, curl and kubectl included" s ""
}

pods() { kubectl -n $namespace get pods -l app.kubernetes.io/instance=demo -o name; }
pod_image() { kubectl -n $namespace get pods -l app.kubernetes.io/instance=demo -o jsonpath='{.items[0].status.containerStatuses[0].imageID}'; }

# What a new pod of the service is: nothing, "running" once all its containers are, "ready" once their probes say so.
new_pod() { # new_pod OLD...
  kubectl -n $namespace get pods -l app.kubernetes.io/instance=demo -o json | jq -r --arg old "$*" '
    .items[] | select(.metadata.name as $name | $old | split(" ") | index("pod/" + $name) | not) | .status |
    if any(.conditions[]?; .type == "Ready" and .status == "True") then "ready"
    elif (.containerStatuses // [] | length > 0 and all(.[]; .state.running)) then "running" else empty end'
}

pod_to_ready() { # deletes the service's pod and looks at the next one, some ten times a second
  local old state running=
  # shellcheck disable=SC2207 # words
  old=($(pods))
  quiet kubectl -n $namespace delete "${old[@]}" --wait=false
  for _ in $(seq 600); do
    state=$(new_pod "${old[@]}")
    if [ -n "$state" ] && [ -z "$running" ]; then begin; running=yes; fi
    if [ "$state" = ready ]; then took pod; break; fi
    sleep 0.02
  done
  [ "$state" = ready ] || { echo "bench: the new pod is not ready" >&2; return 1; }
  quiet kubectl -n $namespace wait --for=delete "${old[@]}" --timeout=60s
  quiet kubectl -n $namespace wait --for=condition=Ready shot/demo --timeout=60s
}

in_force() { kubectl -n $namespace get shot demo -o jsonpath='{.status.policyDigest} {.status.conditions[?(@.type=="PolicyInForce")].status}'; }

policy_to_pods() { # with two pods; the digest stands in the status of the pass that saw it attested by each
  local before now
  quiet kubectl apply -f "$work/shot.yaml"
  quiet kubectl -n $namespace patch shot demo --type=merge -p '{"spec":{"replicas":2}}'
  quiet kubectl -n $namespace rollout status deployment/demo --timeout=120s
  quiet kubectl -n $namespace wait --for=condition=Ready shot/demo --timeout=120s
  for ((round = 1; round <= rounds; round++)); do
    before=$(in_force)
    begin
    quiet kubectl -n $namespace patch shot demo --type=merge \
      -p "{\"spec\":{\"network\":{\"egress\":{\"domains\":{\"deny\":[\"round-$round.example\"]}}}}}"
    for _ in $(seq 1000); do
      now=$(in_force)
      if [ "${now% *}" != "${before% *}" ] && [ "${now#* }" = True ]; then break; fi
      sleep 0.1
    done
    took policy
    if [ "${now% *}" = "${before% *}" ] || [ "${now#* }" != True ]; then
      echo "bench: the policy is not in force: $now" >&2
      return 1
    fi
    quiet kubectl -n $namespace wait --for=condition=Ready shot/demo --timeout=120s
  done
  row policy "changed policy until every pod attests it, two pods" s 90
}

change_to_pod() {
  local arch programs before after old
  case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
  esac
  quiet kubectl apply -f "$work/shot.yaml"
  quiet kubectl -n $namespace wait --for=condition=Ready shot/demo --timeout=120s
  for ((round = 1; round <= rounds; round++)); do
    before=$(pod_image) old=$(pods)
    # The copy that hack/programs.sh compiles: it is written only where contents differ.
    touch "$CACHE/source/capture-server/src/lib.rs"
    begin
    programs=$(hack/programs.sh capture-server capture-jail 2>"$work/log") || { tail -n 30 "$work/log" >&2; return 1; }
    took compile
    for program in capture-server capture-jail; do
      install -m 0755 "$programs/$program" "dist/bin/$arch/$program"
    done
    printf 'bench %s' "$EPOCHREALTIME" >>"dist/bin/$arch/capture-server"
    SKIP_CARGO=1 quiet hack/images.sh capture
    took image
    quiet "$CLUSTER" load dist/images/capture-server.thin.tar
    took loaded
    # As make demo does it: Ready says that the Deployment is this spec's, and it is ready meanwhile with the pods of before.
    quiet kubectl -n $namespace patch shot demo --type=merge -p "{\"spec\":{\"restartNonce\":\"image-$(revision capture-server)\"}}"
    quiet kubectl -n $namespace wait --for=condition=Ready shot/demo --timeout=120s
    quiet kubectl -n $namespace rollout status deployment/demo --timeout=120s
    took change
    # The old pod is still ending; then there is one image to look at.
    # shellcheck disable=SC2086 # a list of words
    quiet kubectl -n $namespace wait --for=delete $old --timeout=60s
    quiet kubectl -n $namespace wait --for=condition=Ready shot/demo --timeout=60s
    after=$(pod_image)
    [ "$after" != "$before" ] || { echo "bench: the new pod runs the old image" >&2; return 1; }
  done
  row compile "changed program: cargo build of capture-server" s ""
  row image "changed program: until the image is built" s ""
  row loaded "changed program: until the node has it" s ""
  row change "changed program: until the new pod is ready" s 60
}

if wanted cluster; then cluster_starts; fi
if wanted demo; then demo_shows; fi
if wanted apply || wanted policy || wanted change; then start; fi
if wanted apply; then apply_to_picture; fi
if wanted policy; then policy_to_pods; fi
if wanted change; then change_to_pod; fi
finish_rows target/bench/cluster.json
