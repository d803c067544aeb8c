#!/usr/bin/env bash
# What an installation tells its user (templates/NOTES.txt), for each file of values under ci/, against the committed texts.
#
#   hack/chart-notes.sh [--update]     needs helm (or $HELM); --update takes today's texts as the committed ones
#
# Out: nothing, or the first text that differs. Must not: talk to a cluster.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
helm=${HELM:-helm}
chart=charts/screenshot-operator
for values in "$chart"/ci/*-values.yaml; do
    golden=$chart/ci/golden/$(basename "$values" -values.yaml).notes.txt
    notes=$(KUBECONFIG=/nonexistent "$helm" install release "$chart" --namespace operators --dry-run=client -f "$values" |
        sed -n '/^NOTES:$/,$p')
    if [ -z "$notes" ]; then echo "chart-test: no NOTES with $values" >&2 && exit 1; fi
    if [ "${1-}" = --update ]; then
        echo "$notes" >"$golden"
    elif ! diff -u "$golden" <(echo "$notes") >&2; then
        echo "chart-test: NOTES changed; if they should, run hack/chart-test.sh --update and commit" >&2
        exit 1
    fi
done
