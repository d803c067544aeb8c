#!/usr/bin/env bash
# Argo CD itself, built from its Go module, runs the operator and its services from git in a real cluster of its own.
# Out: one line per rule; on failure the programs' logs in target/argocd/. The cluster is ended, whatever happens.
set -euo pipefail
cd "$(dirname "$0")/.."
export CLUSTER_NAME=argocd
unset CONTEXT # It has clusters of its own, or none.
. hack/env.sh
export GOFLAGS="-trimpath -buildvcs=false" CGO_ENABLED=0

# Debian's redis-server with the libraries that this machine lacks. Unpacked, not installed: the package would start a server.
fetch_redis() {
  local fresh=$redis.$$ package
  download() {
    # It changes nothing of the machine's, so it waits for nobody's lock.
    apt-get install -y -q --no-install-recommends --download-only \
      -o Debug::NoLocking=1 -o Dir::Cache::Archives="$fresh/packages" redis-server
  }
  # shellcheck disable=SC2064 # of now: the name is a local one
  trap "rm -rf '$fresh'" EXIT
  mkdir -p "$fresh/packages/partial"
  if ! download; then apt-get update -q; download; fi
  for package in "$fresh"/packages/*.deb; do dpkg-deb -x "$package" "$fresh"; done
  rm -rf "$fresh/packages" "$redis"
  mv "$fresh" "$redis"
  redis-server --version
}
if ! command -v redis-server >/dev/null; then
  redis=$CACHE/redis
  PATH=$redis/usr/bin:$PATH LD_LIBRARY_PATH=$redis/usr/lib/$(uname -m)-linux-gnu
  export LD_LIBRARY_PATH redis
  export -f fetch_redis
  redis-server --version >/dev/null 2>&1 || hack/step.sh "redis-server" hack/quietly.sh bash -euo pipefail -c fetch_redis
fi

# The program is minutes of compiling, so it is kept, under a name made from what goes in.
build() {
  local key flags='-s -w -X github.com/argoproj/argo-cd/v3/common.version=3.5.7'
  key=$({ go env GOVERSION && echo "$flags" && sha256sum tests/argocd/{go.mod,go.sum,main.go}; } | sha256sum | cut -c1-16)
  ARGOCD_PROGRAM=$CACHE/argocd/$key
  cd tests/argocd
  if [ ! -x "$ARGOCD_PROGRAM" ]; then
    mkdir -p "$CACHE/argocd"
    ../../hack/step.sh "Argo CD's program, once, some minutes" go build -ldflags "$flags" -o "$ARGOCD_PROGRAM.$$" .
    mv "$ARGOCD_PROGRAM.$$" "$ARGOCD_PROGRAM"
  fi
  ARGOCD_MANIFESTS=$(go list -m -f '{{.Dir}}' github.com/argoproj/argo-cd/v3)/manifests
  ../../hack/step.sh "Argo CD's tests" go test -vet=off -c -o ../../target/argocd/argocd.test .
  cd ../..
  export ARGOCD_PROGRAM ARGOCD_MANIFESTS
}
mkdir -p target/argocd
ARGOCD_LOGS=$PWD/target/argocd
export ARGOCD_LOGS
start=$SECONDS
build
echo "argocd: programs and tests are built, $((SECONDS - start)) s"
hack/step.sh "images" hack/images.sh all

finish() {
  code=$?
  if [ $code -ne 0 ]; then
    {
      kubectl get applications,shot,pods -A
      kubectl get shot -A -o yaml
      kubectl -n "$OPERATOR_NAMESPACE" logs deployment/screenshot-operator --tail=200
      kubectl get events -A
    } >target/argocd/objects.txt 2>&1 || true
    echo "what was in the cluster, and the programs' logs: target/argocd/" >&2
  fi
  "$CLUSTER" down
  exit $code
}
trap finish EXIT
"$CLUSTER" down # what a killed run left
"$CLUSTER" up --port 16445 --time-limit 20
for image in screenshot-operator capture-server demo-site; do "$CLUSTER" load "dist/images/$image.tar"; done
# Inside the node's network, where Argo CD can reach the API server and its own parts and nothing else: the API server's,
# as the cluster's first process has threads outside of it.
node=$(pgrep -o -f -P "$("$CLUSTER" status --json | jq .pid)" "^kube-apiserver ")
(cd tests/argocd && nsenter --net="/proc/$node/ns/net" ../../target/argocd/argocd.test -test.v -test.timeout 10m)
