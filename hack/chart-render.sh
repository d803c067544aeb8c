#!/usr/bin/env bash
# Renders the charts: once for each file of values under ci/, and the chart of definitions.
#
#   hack/chart-render.sh DIRECTORY [HELM ARGUMENT...]     needs helm (or $HELM)
#
# Out: DIRECTORY/<values>.yaml. Must not: talk to a cluster, or look at the versions of one.
set -euo pipefail
out=$(realpath "${1:?directory}")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
helm=${HELM:-helm}
chart=charts/screenshot-operator
for values in "$chart"/ci/*-values.yaml; do
    "$helm" template release "$chart" --namespace operators --kube-version 1.33.0 -f "$values" "$@" \
        >"$out/$(basename "$values" -values.yaml).yaml"
done
"$helm" template crds charts/screenshot-operator-crds --kube-version 1.33.0 >"$out/crds-only.yaml"
