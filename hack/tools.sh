#!/usr/bin/env bash
# Installs what the other verbs need, and only what is missing, with the system's package manager and cargo.
#   tools.sh         what building and testing need
#   tools.sh demo    what `make demo` needs, which is less where the cluster is not the project's own
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/cache.sh
# The demo on another cluster builds nothing here; in kind everything is built inside the container engine.
if [ "${1:-}" = demo ]; then
  if [ -n "${CONTEXT:-}" ]; then
    for tool in kubectl helm curl; do command -v "$tool" >/dev/null || { echo "please install $tool first" >&2; exit 1; }; done
    exit 0
  fi
  if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; then exec hack/kind.sh needs; fi
fi
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; } # at_least WANTED FOUND
# Before anything is changed. These two are the user's: Debian 12 has them too old to build this or to fetch what does.
command -v cargo >/dev/null ||
  { echo "please install Rust first; with rustup (newer Debians have it as a package) the version follows from rust-toolchain.toml" >&2; exit 1; }
command -v go >/dev/null || { echo "please install Go first" >&2; exit 1; }
# One for all modules, so that they share what is compiled.
needed=go$(sed -n 's/^go //p' tests/*/go.mod tests/cluster/third_party/*/go.mod hack/lint/third_party/*/go.mod | sort -V | tail -n 1)
found=$(go env GOVERSION)
if ! at_least "$needed" "$found"; then
  echo "please install Go ${needed#go} or newer first: this is $found" >&2
  echo "(from Go 1.21 on it fetches that one itself: go env -w GOTOOLCHAIN=$needed)" >&2
  exit 1
fi
packages=(buildah skopeo mmdebstrap rsync runc nftables libseccomp-dev pkg-config gcc libc6-dev iproute2 util-linux jq curl
  ca-certificates chromium-headless-shell fonts-noto-core fonts-noto-cjk fonts-noto-color-emoji python3-yaml)
# What looks at the sources, and at how they behave, is of no use to who only wants to see the demo.
if [ "${1:-}" != demo ]; then packages+=(python3-venv shellcheck); fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "please install these packages and run this again: ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  hack/step.sh "the lists of Debian packages" hack/quietly.sh apt-get update -q
  hack/step.sh "Debian packages: ${missing[*]}" hack/quietly.sh apt-get install -y -q --no-install-recommends "${missing[@]}"
fi
[ "${1:-}" != demo ] || exit 0
# cargo_tool NAME VERSION OPTION...: a newer one that is there is the user's, and as good.
cargo_tool() {
  local name=$1 wanted=$2 found
  shift 2
  found=$(cargo "$name" --version 2>/dev/null | sed -n "s/^cargo-$name \([^ ]*\).*/\1/p" || true)
  if at_least "$wanted" "$found"; then return; fi
  hack/step.sh "cargo-$name $wanted from source, once, some minutes" env -u CARGO_TARGET_DIR \
    cargo install -q "cargo-$name" --locked --debug --no-default-features --version "$wanted" "$@"
}
# Unoptimised and without its own updates: it only starts programs and waits for them.
cargo_tool nextest 0.9.143 --features default-no-update
# Unoptimised and without the network features: it runs for a second and reads only what cargo has fetched.
cargo_tool deny 0.19.0
