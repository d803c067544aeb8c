#!/usr/bin/env bash
# The arrows between the rooms point one way. The process that faces hostile input carries no Kubernetes client.
set -euo pipefail
fail=0
absent() { # absent PACKAGE DEPENDENCY [EDGES]
  local tree
  tree=$(cargo tree -q --locked -e "${3:-normal}" --prefix none -p "$1")
  if grep -q "^$2 v" <<<"$tree"; then
    echo "$1 must not depend on $2" >&2
    fail=1
  fi
}
# code FILE...: what is compiled into the programs, each line with its file: without comments, and without what stands
# under #[cfg(test)], which is one line that ends with a semicolon or ends with a brace of its own line.
code() {
  awk 'FNR == 1 { skip = 0 } /^#\[cfg\(test\)\]/ { skip = 1; next }
    skip { if (/^}/ || (skip == 1 && /;$/)) skip = 0; else if (!/^#/) skip = 2; next }
    !/^ *\/\// { print FILENAME ": " $0 }' "$@"
}
# knows_no WHAT PATTERN FILE...
knows_no() {
  local what=$1 pattern=$2
  shift 2
  if code "$@" | grep -E "$pattern" >&2; then
    echo "must not know $what" >&2
    fail=1
  fi
}
# sources PLACE...: files with code; schema.rs of the contract is a module of tests, too.
sources() { find "$@" -name '*.rs' ! -name 'tests.rs' ! -name '*_tests.rs' ! -path '*/policy/src/schema.rs' ! -path '*/tests/*' | LC_ALL=C sort; }

# Not even for its tests: `cargo tree -p capture-server -i kube` finds nothing.
absent capture-server kube normal,build,dev
absent capture-server k8s-openapi
absent capture-egress kube
absent screenshot-policy tokio
absent screenshot-policy kube
absent screenshot-policy k8s-openapi
absent capture-jail tokio
absent screenshot-operator capture-jail
absent capture-server ring
absent screenshot-operator ring

# What decides has nothing to ask or to write with.
mapfile -t pure < <(sources operator/src/plan operator/src/status operator/src/status.rs operator/src/validate \
  operator/src/validate.rs operator/src/leader/decide.rs)
knows_no "a client of Kubernetes" '\bkube::(api|client)\b|\b(Client|Api)\b|\.await\b|\basync (fn|move)\b' "${pure[@]}"
mapfile -t contract < <(sources crds/policy/src)
knows_no "files, sockets or a clock" '\bstd::(fs|io|process|env|thread)\b|\bstd::time::(SystemTime|Instant)\b|\b(TcpStream|TcpListener|UdpSocket|ToSocketAddrs)\b' \
  "${contract[@]}"
# The room with unsafe code is one file.
unsafe=$(grep -rlE '(allow|expect|warn)\([^)]*unsafe_code' --include='*.rs' crds operator capture-server tests)
if [ "$unsafe" != capture-server/jail/src/sys.rs ]; then
  echo "unsafe code is let in by: ${unsafe//$'\n'/ }" >&2
  fail=1
fi
# The workspace's lints hold in every member. The jail has its own table, as it alone may let unsafe code in.
for manifest in $(cargo metadata -q --locked --no-deps --format-version 1 | jq -r '.packages[].manifest_path'); do
  case $manifest in
    */capture-server/jail/Cargo.toml)
      table() { awk -v of="[$1" '/^\[/ { on = index($0, of) == 1 } on && /^[a-z_]+ = / && !/^unsafe_code/' "$2" | sort; }
      if ! diff <(table workspace.lints Cargo.toml) <(table lints "$manifest") >&2; then
        echo "$manifest has other lints than the workspace" >&2
        fail=1
      fi
      ;;
    *)
      if [ "$(sed -n '/^\[lints\]/{n;p}' "$manifest")" != "workspace = true" ]; then
        echo "$manifest does not take the workspace's lints" >&2
        fail=1
      fi
      ;;
  esac
done
exit $fail
