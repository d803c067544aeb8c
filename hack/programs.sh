#!/usr/bin/env bash
# Builds programs of the workspace as the images carry them, and prints the directory that they are in.
#   hack/programs.sh PACKAGE...
# Settings: PROFILE=image|release   cargo's profile (default image: quick to rebuild)
# Static, so that they run on an empty root. The explicit target keeps the flag away from build scripts and procedural
# macros, which cannot be linked statically.
# rustc's incremental cache holds for one path of the sources. So they are compiled from a copy that stands at one place
# for all checkouts, in which only files with other contents are written: a fresh clone compiles what it has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/cache.sh
profile=${PROFILE:-image} target=$(uname -m)-unknown-linux-gnu packages=()
for package in "$@"; do packages+=(-p "$package"); done
export SOURCE_DATE_EPOCH=$EPOCH
mkdir -p "$CACHE/source"
exec 9>"$CACHE/source.lock"
flock 9
rsync --recursive --links --perms --checksum --delete --exclude=target --exclude=third_party \
  Cargo.toml Cargo.lock rust-toolchain.toml crds operator capture-server tests "$CACHE/source/"
cd "$CACHE/source"
RUSTFLAGS="-C target-feature=+crt-static" \
  cargo build --locked --profile "$profile" --target "$target" --bins "${packages[@]}" >&2
echo "$CARGO_TARGET_DIR/$target/$profile"
