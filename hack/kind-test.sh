#!/usr/bin/env bash
# On a machine that is not Linux, `make demo` must go to kind: our own cluster by name, our own kubeconfig, our own images.
# kind itself cannot run everywhere, so its programs are recorders here; what is asserted is every call they got.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
cat >"$work/bin/recorder" <<'R'
#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$CALLS"
[ "$(basename "$0") $*" != "kind get clusters" ] || { [ -z "${THERE:-}" ] || echo "$THERE"; }
# As podman does it: an archive that is there is refused.
case "$(basename "$0") ${1:-}" in "docker save") [ ! -e "$3" ] || exit 125; : >"$3" ;; esac
R
chmod +x "$work/bin/recorder"
for program in docker kind kubectl helm curl; do cp "$work/bin/recorder" "$work/bin/$program"; done
printf '#!/bin/sh\necho Darwin\n' >"$work/bin/uname"
chmod +x "$work/bin/uname"
export CALLS=$work/calls XDG_CACHE_HOME=$work/cache CARGO_TARGET_DIR=$work/target
mkdir -p "$CARGO_TARGET_DIR" && echo "$PWD" >"$CARGO_TARGET_DIR/checkout"
unset CONTEXT KUBECONFIG
run() { PATH=$work/bin:$PATH "$@" >"$work/out" 2>&1 || { cat "$work/out"; return 1; }; }
expect() { grep -qE -- "$1" "$CALLS" || { echo "missing call: $1" >&2; cat "$CALLS" >&2; exit 1; }; }

run hack/tools.sh demo
run hack/install.sh up
expect "^kind create cluster --name screenshot-operator --kubeconfig $work/cache/screenshot-operator/state/kind.kubeconfig "
for image in screenshot-operator capture-server demo-site; do
  expect "^docker build -q --build-arg BIN=compiled -t localhost/$image:dev -f [a-z/-]+/Containerfile \.$"
  expect "^kind load image-archive $work/cache/screenshot-operator/state/$image.tar --name screenshot-operator$"
done
expect "^helm upgrade --install screenshot-operator "
THERE=screenshot-operator run hack/install.sh up
# Whether the end-to-end suite ends the cluster goes by this.
if run hack/install.sh there >/dev/null; then echo "a kind cluster that is not there was found" >&2; exit 1; fi
if THERE=theirs run hack/install.sh there >/dev/null; then echo "another kind cluster passes for ours" >&2; exit 1; fi
THERE=screenshot-operator run hack/install.sh there
DEMO_OUT=$work/pictures run hack/demo.sh down
expect "^kind delete cluster --name screenshot-operator --kubeconfig "
if ls "$work"/cache/screenshot-operator/state/*.tar 2>/dev/null; then echo "archives are left" >&2; exit 1; fi

# One program that is missing is named, and nothing is begun. Here is nothing but what the scripts themselves use.
: >"$CALLS"
mkdir "$work/few"
for program in bash cat dirname; do ln -s "$(command -v $program)" "$work/few/"; done
for program in kind curl; do
  mv "$work/bin/$program" "$work/away"
  if PATH=$work/bin:$work/few hack/tools.sh demo 2>"$work/out"; then echo "a missing $program went unnoticed" >&2; exit 1; fi
  grep -qx "please install: $program" "$work/out"
  mv "$work/away" "$work/bin/$program"
done
# So is a bash that is too old for these scripts.
with_bash() { PATH=$work/bin:$PATH bash -c 'BASH_VERSION=$1; shift; . hack/kind.sh' hack/kind.sh "$1" needs 2>"$work/out"; }
for version in '3.2.57(1)-release' '4.3.48(1)-release'; do
  if with_bash "$version"; then echo "bash $version passes" >&2; exit 1; fi
  grep -q 'please install bash 4.4 or newer' "$work/out"
done
for version in '4.4.0(1)-release' '5.2.15(1)-release' '10.0.0(1)-release'; do with_bash "$version"; done
[ ! -s "$CALLS" ]
echo "kind: ok"
