#!/usr/bin/env bash
# Fetches the definitions of kinds that others install (Gateway API, Prometheus operator), as their Go modules ship them, and
# prints the directory that they are in. Each module is pinned by version and by the hash of its content.
set -euo pipefail
directory=${1:?usage: hack/definitions.sh DIRECTORY}
mkdir -p "$directory"

# take MODULE@VERSION SUM FILE...
take() {
    local module=$1 sum=$2 answer source file
    shift 2
    # Outside of any module: this is a download, not a dependency.
    answer=$(cd / && GOFLAGS='' go mod download -json "$module")
    if ! grep -qF "\"Sum\": \"$sum\"" <<<"$answer"; then
        echo "$module is not what it was: expected $sum" >&2
        exit 1
    fi
    source=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$answer")
    for file; do install -m 0644 "$source/$file" "$directory/$(basename "$file")"; done
}

take sigs.k8s.io/gateway-api@v1.4.0 "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=" \
    config/crd/standard/gateway.networking.k8s.io_httproutes.yaml
take github.com/prometheus-operator/prometheus-operator@v0.93.1 "h1:4Juk8v93RdG1DSGD/mGp+SeQKPmnlLIj2iq3blLZgFY=" \
    example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml \
    example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml
echo "$directory"
