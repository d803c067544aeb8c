#!/usr/bin/env bash
# How long a machine takes that has built nothing of this project: `make demo`, `make demo` again, `make test` twice, one after the
# other in a fresh clone with empty caches (cargo's, Go's, pip's, ours), as a new user would. About an hour on two cores.
#
#   hack/bench-cold.sh [DIRECTORY]     default: a temporary one, removed at the end; 25 GB
#
# Out: rows in target/bench/cold.json, what was printed in target/bench/cold.log. What the system's package manager has
# installed stays installed, as do Rust and Go themselves: the log names no package that was missing.
# Must not: use or change a cache of the user's. No cluster of the project's may be up.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/bench-rows.sh
here=$PWD
given=${1:-}
work=${given:-$(mktemp -d)}
mkdir -p "$work/shims" "$work/cargo" target/bench
log=$here/target/bench/cold.log
: >"$log"
finish() {
  code=$?
  if [ -d "$work/clone" ]; then (cd "$work/clone" && hack/demo.sh down >>"$log" 2>&1) || true; fi
  # Go's modules are read-only, and the store of images stays mounted on itself.
  if [ -z "$given" ]; then
    awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount
    chmod -R u+w "$work" && rm -rf "$work"
  fi
  exit $code
}
trap finish EXIT
git clone -q "$here" "$work/clone"
# Where the clients of the registries are set up stays as it is; what they keep does not.
for file in config.toml credentials.toml; do
  if [ -f "${CARGO_HOME:-$HOME/.cargo}/$file" ]; then cp "${CARGO_HOME:-$HOME/.cargo}/$file" "$work/cargo/"; fi
done
# cargo's directory of programs has nextest, too: of it only what rustup put there.
shims=$(dirname "$(command -v cargo)")
for program in cargo rustc rustup rustfmt rustdoc cargo-fmt cargo-clippy clippy-driver; do ln -sf "$shims/$program" "$work/shims/"; done
PATH=$work/shims:$(tr ':' '\n' <<<"$PATH" | grep -vxF "$shims" | paste -sd :)
export PATH CARGO_HOME=$work/cargo GOPATH=$work/go GOCACHE=$work/go-build XDG_CACHE_HOME=$work/cache PIP_CACHE_DIR=$work/pip
unset CARGO_TARGET_DIR GOMODCACHE GOBIN CONTEXT KUBECONFIG
cd "$work/clone"
timed() { # timed NAME COMMAND...
  local name=$1
  shift
  echo "== $*" | tee -a "$log" >&2
  begin
  "$@" >>"$log" 2>&1 || { tail -n 40 "$log" >&2; return 1; }
  took "$name"
}
timed demo make demo
timed again make demo
timed down make demo-down
timed test make test
timed warm make test
add both "$(tr ' ' '\n' <<<"${samples[demo]}${samples[test]}" | awk '{ s += $1 } END { print s }')"
row demo "cold: make demo" s ""
row again "make demo again" s 90
row test "make test after that" s ""
row warm "make test again" s 720
row both "cold: make demo and make test, more than make test alone" s 3600
finish_rows "$here/target/bench/cold.json"
