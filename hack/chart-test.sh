#!/usr/bin/env bash
# Renders the charts and holds them to the rules that no schema states.
#
#   hack/chart-test.sh            needs helm (or $HELM), python3 with PyYAML
#   hack/chart-test.sh --update   takes today's renderings as the committed ones, then tests
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
ok "the copies in the charts are those of their sources"
mkdir "$work/copy"
cp -r --parents crds/*.yaml charts hack "$work/copy"
copies=(charts/*/files/crds/*.yaml)
if [ -n "${CAPTURE_JAIL:-}" ]; then copies+=("$chart"/files/capture-jail-*.json); fi
if [ -n "${SCREENSHOT_OPERATOR:-}" ]; then copies+=("$chart"/files/{rules,cluster-rules,own-rules,addresses}.yaml); fi
for each in "${copies[@]}"; do
    echo >>"$work/copy/$each"
    if "$work/copy/hack/sync-charts.sh" --check >/dev/null 2>&1; then fail "a $each that differs is not noticed"; fi
    cp "$each" "$work/copy/$each"
done
"$work/copy/hack/sync-charts.sh" --check
ok "a copy that differs is noticed (${#copies[@]} tried)"
for each in "$chart" charts/screenshot-operator-crds; do
    "$helm" lint --strict --quiet "$each" >"$work/lint" 2>&1 || { cat "$work/lint" >&2 && fail "lint $each"; }
done
ok "lint --strict"

mkdir "$work/once" "$work/twice"
hack/chart-render.sh "$work/once"
hack/chart-render.sh "$work/twice"
diff -r "$work/once" "$work/twice" >&2 || fail "two renderings differ"
ok "rendering twice gives the same bytes"
if grep -rnE '\b(lookup|now|rand[A-Z][A-Za-z]*|gen[A-Z][A-Za-z]*|uuidv4|getHostByName|htpasswd)\b' \
    --include='*.yaml' --include='*.tpl' --include='*.txt' charts/*/templates | grep '{{' >&2; then
    fail "a template asks the cluster, the clock or chance"
fi
ok "no template asks the cluster, the clock or chance"
python3 hack/chart_golden.py "$work/once" "$chart/ci/golden" "$@"
ok "the renderings are the committed ones"
hack/chart-notes.sh "$@"
ok "NOTES are the committed ones"

render() { "$helm" template release "$chart" --namespace operators --kube-version 1.33.0 "$@"; }
for bad in unknownKey=1 image.tagg=x crds.enable=false networkPolicy.enabled=maybe image.digest=sha256:short \
    seccompInstaller.kubeletRoot=/ seccompInstaller.kubeletRoot=relative fullnameOverride=Upper \
    terminationGracePeriodSeconds=0 podSecurityContext.runAsUser=0 podSecurityContext.runAsUser=70000 \
    'watchNamespaces={web,web}' 'watchNamespaces={Web}' 'extraArgs={run}' "log.filter=\$(id)" \
    admissionPolicy.enable=false 'networkPolicy.apiServerPorts={0}' podMonitor.interval=soon strategy.type=Recreate \
    strategy.rollingUpdate.maxSurge=few strategy.rollingUpdate.maxSurge=0,strategy.rollingUpdate.maxUnavailable=0 namespaceOverride=Upper grafanaDashboard.enable=true \
    'extraObjects[0].kind=Secret' cluster.domain=Upper 'cluster.nat64Prefixes={64:ff9b::/95}' \
    'cluster.extraDeniedCIDRs={8.8.8.8}' livenessProbe.exec=x replicaCount=0 serviceAccount.create=false; do
    if render --set "$bad" >/dev/null 2>&1; then fail "accepted --set $bad"; fi
done
ok "unknown and wrong values are refused"
if "$helm" template release "$chart" --kube-version 1.30.0 >/dev/null 2>&1; then fail "accepted Kubernetes 1.30"; fi
ok "too old a Kubernetes is refused"

python3 hack/chart_rules.py "$work/once"
