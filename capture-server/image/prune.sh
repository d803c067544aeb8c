#!/bin/sh
# Copies what the browser needs, and nothing else, from an installed Debian into an empty root.
#
# In:  a Debian with chromium-headless-shell, fonts and ca-certificates installed; $1, the new root (must not exist).
# Out: the closure of shared libraries, what the dynamic linker cannot see (NSS modules, fonts, ICU data), a minimal
#      /etc, the browser's build date, and one dpkg record and copyright file for every package that gave a file, so that scanners can still
#      read what is inside.
# Must not: bring a shell, an interpreter or a package manager into the new root; the last lines check that.
set -eu

root=$1
epoch=${SOURCE_DATE_EPOCH:-1767225600}
browser=/usr/lib/chromium
list=$(mktemp)
trap 'rm -f "$list" "$list".*' EXIT
mkdir "$root"

# --- 1. the browser ---------------------------------------------------------------------------------------------
# The package's /usr/bin wrapper is a shell script, so the binary is started directly. Left out: the desktop
# browser's resources that chromium-common brings and headless shell never opens, and Vulkan's debugging layers.
for file in chromium-headless-shell headless_command_resources.pak headless_lib_data.pak headless_lib_strings.pak \
    icudtl.dat v8_context_snapshot.bin snapshot_blob.bin; do
    if [ -e "$browser/$file" ]; then echo "$browser/$file"; fi
done >"$list"
grep -qx "$browser/chromium-headless-shell" "$list" || { echo "prune: no headless shell in $browser" >&2; exit 1; }
# GL by software, for pages with WebGL where the policy allows it.
for file in libEGL.so libGLESv2.so libvk_swiftshader.so vk_swiftshader_icd.json libvulkan.so.1; do
    if [ -e "$browser/$file" ]; then echo "$browser/$file"; fi
done >>"$list"

# --- 2. what ldd cannot see -------------------------------------------------------------------------------------
# NSS loads these by name at run time.
for package in libnss3 libnspr4; do
    dpkg -L "$package" | grep -E '/lib(softokn3|freebl3|freeblpriv3|nssckbi)\.(so|chk)$' || true
done >>"$list"
ls -d /usr/lib/locale/C.utf8 /etc/fonts /usr/share/fonts /usr/share/fontconfig /usr/share/mime/mime.cache \
    /etc/ssl/certs/ca-certificates.crt /usr/share/zoneinfo/UTC 2>/dev/null >>"$list" || true

# --- 3. the closure of shared libraries -------------------------------------------------------------------------
grep -E "^($browser/chromium-headless-shell|.*\.so(\.[0-9]+)*)$" "$list" | while read -r object; do
    ldd "$object" 2>/dev/null || true
done | sed -n -E 's/^[^/]*(\/[^ ]+) \(0x.*/\1/p; s/.*=> not found.*/MISSING/p' | sort -u >"$list.libs"
if grep -q MISSING "$list.libs"; then echo "prune: a shared library is missing" >&2; exit 1; fi

# /lib and /lib64 are links into /usr on a merged Debian: name each library by its real directory, and take the
# link together with its target.
while read -r library; do
    directory=$(realpath "$(dirname "$library")")
    echo "$directory/$(basename "$library")"
    realpath "$library"
done <"$list.libs" | sort -u >>"$list"

# --- 4. fonts: the cache is made before the copy, on directories with the mtimes that the image will have ---------
# fontconfig compares a directory's mtime with its cache, and the image's root is read-only: a stale cache would be
# rebuilt in memory by every launch.
find /usr/share/fonts /usr/local/share/fonts -exec touch -h -d "@$epoch" {} + 2>/dev/null || true
rm -rf /var/cache/fontconfig
SOURCE_DATE_EPOCH=$epoch fc-cache --force --system-only
echo /var/cache/fontconfig >>"$list"

# --- 5. copy ----------------------------------------------------------------------------------------------------
sort -u "$list" | while read -r path; do
    cp -a --parents "$path" "$root"
done
ln -s usr/lib "$root/lib"
if [ -d "$root/usr/lib64" ]; then ln -s usr/lib64 "$root/lib64"; fi
# The dynamic linker's name is fixed by the ABI, and on amd64 it is a link.
for linker in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1; do
    if [ -e "$linker" ] && [ ! -e "$root$linker" ]; then
        mkdir -p "$root/usr$(dirname "$linker")"
        cp -a "/usr$linker" "$root/usr$linker"
        [ -e "$root/lib64" ] || ln -s usr/lib64 "$root/lib64"
    fi
done

# --- 6. a minimal /etc and the mount points ---------------------------------------------------------------------
mkdir -p "$root/etc/screenshot" "$root/tmp" "$root/run/jail" "$root/home/nonroot" "$root/dev/shm" "$root/proc" "$root/sys"
chmod 1777 "$root/tmp"
chown 65532:65532 "$root/home/nonroot" "$root/run/jail"
printf 'root:x:0:0:root:/:/nonexistent\nnonroot:x:65532:65532:nonroot:/home/nonroot:/nonexistent\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
cp -L /etc/os-release "$root/etc/os-release"
cp /etc/debian_version "$root/etc/debian_version"

# --- 7. dpkg records and copyrights of the packages that gave a file ----------------------------------------------
# status.d is the layout that scanners know from other images without a package manager.
mkdir -p "$root/var/lib/dpkg/status.d"
(cd "$root" && find . \( -type f -o -type l \) ! -path './etc/passwd' | sed 's/^\.//') >"$list.files"
{
    # A package may still list a file by the name it had before /lib became a link.
    xargs -d '\n' dpkg-query -S <"$list.files" 2>/dev/null || true
    sed -n 's|^/usr/lib|/lib|p' "$list.files" | xargs -d '\n' dpkg-query -S 2>/dev/null || true
} | grep -v '^diversion' | sed 's/: .*//; s/, /\n/g; s/:.*//' | sort -u >"$list.packages"
while read -r package; do
    dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
    if [ -e "/usr/share/doc/$package/copyright" ]; then
        mkdir -p "$root/usr/share/doc/$package"
        cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
    fi
done <"$list.packages"

# --- 8. the age of the browser ------------------------------------------------------------------------------------
# Debian dates a package's files by its changelog, so the binary's date, as installed, is that of the build. The step that
# installs it notes it in `built-at`, as a builder may date all files of a finished step alike. The server shows it if this
# is the version that runs. Without a note, or with a date that is the image's own, nothing is claimed.
built=$(cat "$browser/built-at" 2>/dev/null || true)
if [ -n "$built" ] && [ "$built" != "$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" ]; then
    version=$(dpkg-query -W -f='${source:Upstream-Version}' chromium-headless-shell)
    printf '{"version":"%s","builtAt":"%s"}\n' "$version" "$built" >"$root$browser/build.json"
fi

# --- 9. what must hold ------------------------------------------------------------------------------------------
if find "$root" -perm /6000 -type f | grep .; then echo "prune: a set-id file" >&2; exit 1; fi
if find "$root" -type f \( -name sh -o -name bash -o -name dash -o -name 'perl*' -o -name 'python*' -o -name dpkg \
    -o -name apt -o -name busybox \) -perm /111 | grep .; then
    echo "prune: a shell or an interpreter" >&2
    exit 1
fi
chroot "$root" "$browser/chromium-headless-shell" --version --no-sandbox ||
    { echo "prune: the browser does not start in the pruned root" >&2; exit 1; }
rm -rf "$root/root" "$root/home/nonroot/.config" "$root/home/nonroot/.cache"
find "$root" -exec touch -h -d "@$epoch" {} +
echo "prune: $(wc -l <"$list.packages") packages, $(du -sm "$root" | cut -f1) MB"
