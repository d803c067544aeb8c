#!/usr/bin/env bash
# The cluster for machines that cannot run the project's own one (not root, or not Linux): kind, in containers.
#   kind.sh up      a cluster of our own name, the images built inside the container engine, and loaded
#   kind.sh down    removes that cluster; no other one, and no context of yours
#   kind.sh there   whether that cluster is there
#   kind.sh needs   says which of the programs that it needs is missing
# kind's own network plugin enforces NetworkPolicies. Nothing is installed here: these programs are the user's to choose.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
NAME=screenshot-operator

needs() {
  local missing=() program
  # macOS has 3.2.
  case $BASH_VERSION in [123].* | 4.[0-3].*)
    echo "please install bash 4.4 or newer first (and put it before /bin/bash on PATH)" >&2
    return 1
    ;;
  esac
  command -v docker >/dev/null || command -v podman >/dev/null || missing+=("docker or podman")
  for program in kind kubectl helm curl; do command -v "$program" >/dev/null || missing+=("$program"); done
  [ ${#missing[@]} -eq 0 ] && return 0
  printf 'please install: %s\n' "${missing[@]}" >&2
  echo "(the project's own cluster needs root on Linux; CONTEXT=name uses a cluster of yours)" >&2
  return 1
}

# kind takes docker unless it is told otherwise.
command -v docker >/dev/null || export KIND_EXPERIMENTAL_PROVIDER=podman
engine() { if command -v docker >/dev/null; then echo docker; else echo podman; fi; }

# The programs are compiled inside, so that a machine that is not Linux gets Linux programs. The stage is named although
# it is the default: podman 4 does not follow a default into `FROM`.
image() { # image NAME CONTAINERFILE
  hack/step.sh "image $1" hack/quietly.sh \
    "$(engine)" build -q --build-arg BIN=compiled -t "localhost/$1:dev" -f "$2" .
  rm -f "$STATE/$1.tar" # podman adds to no archive that is there
  "$(engine)" save -o "$STATE/$1.tar" "localhost/$1:dev"
  kind load image-archive "$STATE/$1.tar" --name "$NAME"
}

up() {
  needs
  mkdir -p "$STATE"
  if ! there; then
    kind create cluster --name "$NAME" --kubeconfig "$KUBECONFIG" --wait 180s
  else
    kind export kubeconfig --name "$NAME" --kubeconfig "$KUBECONFIG"
  fi
  image screenshot-operator operator/Containerfile
  image capture-server capture-server/Containerfile
  image demo-site tests/site/Containerfile
}

there() { kind get clusters 2>/dev/null | grep -qx "$NAME"; }

down() {
  command -v kind >/dev/null || return 0
  kind delete cluster --name "$NAME" --kubeconfig "$KUBECONFIG"
  rm -f "$KUBECONFIG" "$STATE"/{screenshot-operator,capture-server,demo-site}.tar
}

case "${1:-}" in
  up) up ;;
  there) there ;;
  down) down ;;
  needs) needs ;;
  *) echo "usage: kind.sh up|there|down|needs" >&2; exit 2 ;;
esac
