# shellcheck shell=bash
# Sourced by the other scripts, from the project's root: where built things are kept, for all checkouts of this user.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/screenshot-operator
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
# The time that images and their programs are built under. Not exported: where cargo sees another value, or none, it
# compiles the C libraries anew.
# shellcheck disable=SC2034 # for who sources this
EPOCH=${SOURCE_DATE_EPOCH:-1767225600}

# Cargo tells a changed file by its time alone and does not tell one checkout from another. What another checkout built
# would pass for ours, older contents and its paths included. So the first use after another checkout makes every file
# of this one new; the dependencies stay built.
if [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$PWD" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  find . \( -name .git -o -path ./target -o -path ./dist \) -prune -o -type f -exec touch -c {} +
  echo "$PWD" >"$CARGO_TARGET_DIR/checkout"
fi
