#!/usr/bin/env bash
# Renders the charts and holds them to the rules that no schema states.
#
#   hack/chart-test.sh            needs helm (or $HELM), python3 with PyYAML
#
# In: charts/. Out: one line per rule, and a failure with the object that breaks it. Must not: talk to a cluster.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
helm=${HELM:-helm}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chart=charts/screenshot-operator
fail() { echo "chart-test: $*" >&2 && exit 1; }
ok() { echo "chart-test: ok: $*"; }

hack/sync-charts.sh --check
ok "the copies in the charts are those of crds/"
for each in "$chart" charts/screenshot-operator-crds; do
    "$helm" lint --strict --quiet "$each" >"$work/lint" 2>&1 || { cat "$work/lint" >&2 && fail "lint $each"; }
done
ok "lint --strict"

render() { "$helm" template release "$chart" --namespace operators --kube-version 1.33.0 "$@"; }
render >"$work/default.yaml"
for values in "$chart"/ci/*-values.yaml; do
    render -f "$values" >"$work/$(basename "$values" -values.yaml).yaml"
done
"$helm" template crds charts/screenshot-operator-crds --kube-version 1.33.0 >"$work/crds-only.yaml"
render | cmp -s - "$work/default.yaml" || fail "two renderings differ"
ok "rendering twice gives the same bytes"

for bad in unknownKey=1 image.tagg=x crds.enable=false networkPolicy.enabled=maybe image.digest=sha256:short \
    seccompInstaller.kubeletRoot=/ seccompInstaller.kubeletRoot=relative fullnameOverride=Upper \
    terminationGracePeriodSeconds=0; do
    if render --set "$bad" >/dev/null 2>&1; then fail "accepted --set $bad"; fi
done
ok "unknown and wrong values are refused"
if "$helm" template release "$chart" --kube-version 1.30.0 >/dev/null 2>&1; then fail "accepted Kubernetes 1.30"; fi
ok "too old a Kubernetes is refused"

python3 hack/chart_rules.py "$work"
