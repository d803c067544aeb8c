#!/bin/sh
# Builds the test cluster's program into the user's cache when it is missing or outdated, and runs it.
# In: the arguments of `cluster` (try: cluster.sh help). Out: whatever that prints.
# It must not rebuild what is there: the names in the cache are made from what goes in.
set -eu
src=$(cd "$(dirname "$0")" && pwd)
kubernetes=v1.36.3

need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
missing=
need nft nftables; need ip iproute2; need gcc gcc; need pkg-config pkg-config
pkg-config --exists libseccomp 2>/dev/null || missing="$missing libseccomp-dev"
if [ -n "$missing" ]; then
  echo "cluster: these packages are missing:$missing" >&2
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "cluster: install them and try again" >&2
    exit 1
  fi
  echo "cluster: installing them with apt-get" >&2
  # shellcheck disable=SC2086 # a list of words
  { apt-get update && apt-get install -y --no-install-recommends $missing; } >&2
fi
command -v go >/dev/null 2>&1 || { echo "cluster: go is missing (hack/tools.sh says which)" >&2; exit 1; }

digest() { LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16; }
cd "$src"
tools=$( { go env GOVERSION; find third_party internal/tools internal/pack testapp go.mod go.sum -type f ! -name '*_test.go' | digest; } | sha256sum | cut -c1-16)
program=$( { echo "$kubernetes $tools"; find . -type f \( -name '*.go' -o -path '*/files/*' -o -name cluster.sh \) ! -name '*_test.go' | digest; } | sha256sum | cut -c1-16)
CLUSTER_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/screenshot-operator/cluster/$tools
bin=$CLUSTER_CACHE/bin/cluster-$program
export CLUSTER_CACHE CLUSTER_SOURCE="$src"

# One builds, whoever else comes meanwhile waits for it.
mkdir -p "$CLUSTER_CACHE/bin"
exec 9>"$CLUSTER_CACHE/build.lock"
flock 9
if [ ! -x "$bin" ]; then
  echo "cluster: its program is built now (minutes the first time, seconds after that)" >&2
  v=k8s.io/component-base/version
  # Without gitVersion the servers call themselves v0.0.0, which breaks helm's kubeVersion.
  CGO_ENABLED=0 GOWORK=off GOFLAGS="-trimpath -buildvcs=false" \
    ../../hack/step.sh "the cluster's program" go build -o "$bin.$$" -ldflags "-s -w \
    -X $v.gitVersion=$kubernetes -X $v.gitMajor=1 -X $v.gitMinor=36 -X $v.gitTreeState=clean \
    -X $v.gitCommit=modules -X $v.buildDate=2026-01-01T00:00:00Z" . >&2
  mv "$bin.$$" "$bin"
  # 145 MB each: keep the ones used last
  find "$CLUSTER_CACHE/bin" -name 'cluster-*' -type f -printf '%T@ %p\n' | sort -rn | tail -n +4 | cut -d' ' -f2- | xargs -r rm -f
else
  touch -c "$bin"
fi
if [ "$(readlink "$CLUSTER_CACHE/bin/cluster" || true)" != "cluster-$program" ]; then
  ln -sfn "cluster-$program" "$CLUSTER_CACHE/bin/cluster"
  ln -sfn cluster "$CLUSTER_CACHE/bin/kubectl"
fi
cd "$OLDPWD"
# `path`: the directory with kubectl and helm, for PATH.
if [ "${1-}" = path ]; then echo "$CLUSTER_CACHE/bin"; exit; fi
if [ "${1-}" = up ] || [ "${1-}" = helm ]; then
  [ -x "$CLUSTER_CACHE/bin/helm" ] || "$bin" build
fi
# What only builds keeps the lock until it has ended; a cluster's processes must not inherit it.
if [ "${1-}" != build ]; then exec 9>&-; fi
exec "$bin" "$@"
