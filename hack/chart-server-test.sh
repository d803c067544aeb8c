#!/usr/bin/env bash
# What only an API server can say of the charts: admission policies, Pod Security, and that it takes every rendered object.
# Brings up a control plane of its own (no node) and ends it afterwards.
#
#   hack/chart-server-test.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/cache.sh
cluster=tests/cluster/cluster.sh
name=chart-tests
trap '"$cluster" down --name $name' EXIT
"$cluster" down --name $name # what a killed run left
"$cluster" up --control-plane-only --name $name --time-limit 15 --port 16448
KUBECONFIG=$("$cluster" kubeconfig --name $name)
export KUBECONFIG PATH
PATH=$("$cluster" path):/usr/bin:$PATH
python3 hack/chart_openapi.py
python3 hack/chart_admission.py
python3 hack/chart_server.py "$(hack/definitions.sh "$CACHE/definitions")"
