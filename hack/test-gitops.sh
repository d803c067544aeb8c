#!/usr/bin/env bash
# What GitOps tools are given: generated files are fresh, scripts and health expressions keep the rules of Argo CD, Flux
# and kstatus, manifests survive an API server's pruning and defaulting, kustomize builds them. No cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
unset CONTEXT # It has clusters of its own, or none.
. hack/env.sh
# As the cluster's programs are built: most of what this needs is then compiled already.
export GOFLAGS="-trimpath -buildvcs=false" CGO_ENABLED=0
hack/gitops.py --check
echo "gitops: ok: generated files are those of the chart and the scripts"
mirrored=$(kubectl kustomize gitops/kustomize/overlays/mirror)
if grep -n 'localhost/' <<<"$mirrored"; then
  echo "gitops: the overlay leaves an image that is not from the mirror" >&2
  exit 1
fi
[ "$(grep -c 'registry.example.com/' <<<"$mirrored")" -ge 2 ] || { echo "gitops: the overlay names no image" >&2 && exit 1; }
echo "gitops: ok: the overlay takes every image from the mirror"
# The base is install.yaml, which `make lint` holds to the schemas; this makes it hold for the overlay.
without_images() { grep -vE 'image(:|=)' | grep -v '^#'; }
if ! diff <(without_images <gitops/install.yaml) <(without_images <<<"$mirrored") >&2; then
  echo "gitops: the overlay differs from the base in more than images" >&2
  exit 1
fi
echo "gitops: ok: the overlay differs from the base in images alone"
cd tests/gitops
# No vet: it would look at every dependency, a minute of work, for these few files.
go test -vet=off -count=1 ./...
