# shellcheck shell=bash
# Sourced by the other scripts, from the project's root: where built things are kept, for all checkouts of this user.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/screenshot-operator
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
# The time that images and their programs are built under. Not exported: where cargo sees another value, or none, it
# compiles the C libraries anew.
# shellcheck disable=SC2034 # for who sources this
EPOCH=${SOURCE_DATE_EPOCH:-1767225600}

# Cargo tells a changed file by its time alone and does not tell one checkout from another. What another checkout built
# would pass for ours, older contents included. So the first use after another checkout gives each file the time that the
# same file has there, if it has the same contents, and makes every other one new; what is compiled then is what differs.
# Made new, too: a file whose compiled form knows its own path, and all of them where cargo was used without this cache.
follow() { # follow CHECKOUT: the one that CARGO_TARGET_DIR was used by, or nothing
  local before=${1:-/nowhere} file new=()
  if [ -d target/debug ] || [ -d target/release ]; then before=/nowhere; fi
  while read -r file; do
    if cmp -s "$before/$file" "$file" && ! grep -qsE 'env!\("CARGO_MANIFEST_DIR"|insta::' "$file"; then
      touch -c -r "$before/$file" "$file"
    else
      new+=("$file")
    fi
  done < <(find . \( -name .git -o -path ./target -o -path ./dist \) -prune -o -type f -print)
  [ ${#new[@]} -eq 0 ] || printf '%s\0' "${new[@]}" | xargs -0 touch -c
}
if [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$PWD" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  follow "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)"
  echo "$PWD" >"$CARGO_TARGET_DIR/checkout"
fi
