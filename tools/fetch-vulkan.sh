#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fetch-vulkan.sh [--layers] [DIR] - Mesa's software Vulkan of a newer Debian, unpacked into DIR and installed nowhere.
# DIR/run PROGRAM... starts a program that was built here with it; DIR's name is printed.
# DIR: $XDG_CACHE_HOME/controlnet-lavapipe, or ~/.cache/controlnet-lavapipe. What is there already is kept.
# --layers: Khronos' validation layers too, where VK_INSTANCE_LAYERS asks for them.
#
# Packages come from the archive that this machine's apt is set up for, by apt, which checks their signatures. Exits 1
# with one line where that can't be: no Debian, no network. Debian 12's own driver has no cooperative matrices.
set -u
LC_ALL=C
export LC_ALL
layers=
[ "${1:-}" != --layers ] || { layers=vulkan-validationlayers && shift; }
dir=${1:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/controlnet-lavapipe}
suite=trixie
seconds=${CN_FETCH_SECONDS:-90} # for the lists, and again for the packages
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

give_up() {
    echo "fetch-vulkan.sh: $*" >&2
    exit 1
}

ready() { [ -x "$dir/run" ] && { [ -z "$layers" ] || [ -d "$dir/layers" ]; }; }

# The archive in apt's sources that has Debian itself, not its security updates or somebody's packages.
archive() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
        grep -E '/debian/?$' | head -n 1
}

# Why apt failed, in a line; it says nothing where its time has run out.
reason() {
    said=$(grep . "$work/log" | tail -n 1)
    echo "${said:-no answer within $seconds s}"
}

# apt with folders of its own: it knows no installed package, so that all that a driver needs comes with it.
apt() {
    timeout -k 5 "$seconds" apt-get -qq -o "Dir::State=$work/state" -o "Dir::State::status=$work/status" \
        -o "Dir::Cache=$work/cache" -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::Etc::preferencesparts=- -o APT::Sandbox::User= -o "APT::Default-Release=$suite" \
        -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20 "$@" >"$work/log" 2>&1
}

# The driver's or layer's description SOURCE as FILE, which names its library where it lies now.
describe() {
    sed "s|\"library_path\": *\"[^\"]*/\{0,1\}\(lib[^\"/]*\)\"|\"library_path\": \"$lib/\1\"|" "$1" >"$2"
}

# Debian's newer libraries want its newer C library, which only that one's own loader starts.
write_run() {
    cat >"$work/tree/run" <<TEXT
#!/bin/sh
# Starts PROGRAM with the libraries beside this file; other programs that it starts have the machine's.
VK_DRIVER_FILES=$dir/lavapipe.json VK_ICD_FILENAMES=$dir/lavapipe.json VK_LAYER_PATH=$dir/layers
GOMP_SPINCOUNT=\${GOMP_SPINCOUNT:-1000} # or controlnet starts itself again, which is the loader here
export VK_DRIVER_FILES VK_ICD_FILENAMES VK_LAYER_PATH GOMP_SPINCOUNT
exec $loader --library-path $lib:/usr/lib/$triple "\$@"
TEXT
    chmod +x "$work/tree/run"
}

if ready; then
    echo "$dir"
    exit 0
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && [ -r "$keyring" ] ||
    give_up "only Debian's apt and keys can fetch it"
uri=$(archive)
[ -n "$uri" ] || give_up "apt is set up for no archive of Debian"
mkdir -p "$(dirname "$dir")" && work=$(mktemp -d "$dir.XXXXXX") || give_up "no folder can be made beside $dir"
dir=$(cd "$(dirname "$dir")" && pwd)/$(basename "$dir")
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/tree"
: >"$work/status"
for s in $suite $suite-backports; do echo "deb [signed-by=$keyring] $uri $s main"; done >"$work/sources.list"
apt update || give_up "$uri can't be read: $(reason)"
apt install -y --download-only --no-install-recommends libc6 libvulkan1 "mesa-vulkan-drivers/$suite-backports" $layers ||
    give_up "packages can't be fetched: $(reason)"
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$work/tree" || give_up "$(basename "$package") can't be unpacked"
done
driver=$(find "$work/tree/usr/lib" -name libvulkan_lvp.so)
triple=$(basename "$(dirname "$driver")")
lib=$dir/usr/lib/$triple
loader=$(find "$work/tree/usr/lib/$triple" -name 'ld-linux*.so.*' | head -n 1)
[ -n "$driver" ] && [ -n "$loader" ] || give_up "the packages aren't laid out as expected"
loader=$lib/$(basename "$loader")
describe "$(find "$work/tree/usr/share/vulkan/icd.d" -name 'lvp_icd*.json')" "$work/tree/lavapipe.json"
if [ -n "$layers" ]; then
    mkdir -p "$work/tree/layers"
    for layer in "$work"/tree/usr/share/vulkan/explicit_layer.d/*validation*.json; do
        describe "$layer" "$work/tree/layers/$(basename "$layer")"
    done
fi
write_run
# What was there lacks the layers, or half of it.
rm -rf "$dir" && mv "$work/tree" "$dir" || give_up "$dir can't be replaced"
echo "$dir"
