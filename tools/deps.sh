#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# deps.sh [--dev] [--clients] - installs the Debian or Ubuntu packages that are missing; silent when none is.
# --dev adds what lint and fuzzing need, --clients what tools/serve-clients.sh does. Works as root or through sudo; elsewhere it says what is needed.
set -eu

usage="usage: tools/deps.sh [--dev] [--clients]"
dev=0
clients=
for argument; do
    case $argument in
    --dev) dev=1 ;;
    --clients) clients="python3-venv chromium|chromium-browser chromium-driver|chromium-chromedriver" ;;
    *) echo "$usage" >&2 && exit 2 ;;
    esac
done

# Names joined by | are the same thing in different releases.
packages="gcc make pkg-config|pkgconf libdnnl-dev libxsmm-dev libpng-dev
    libjpeg62-turbo-dev|libjpeg-turbo8-dev libwebp-dev libjansson-dev zlib1g-dev libpcre2-dev
    libutf8proc-dev libarchive-dev libcmocka-dev"
# What the program can do without: training by several processes, the server, pictures of some kinds,
# GPUs (and Mesa's drivers, one of which computes on the CPU: with it the tests of GPUs run anywhere).
optional="libopenmpi-dev openmpi-bin libmicrohttpd-dev libgif-dev libtiff-dev|libtiff5-dev libavif-dev libjxl-dev
    libvulkan-dev glslang-tools mesa-vulkan-drivers $clients"
headers="stdarg.h stdio.h setjmp.h stdint.h oneapi/dnnl/dnnl.h libxsmm.h png.h jpeglib.h
    webp/encode.h webp/demux.h jansson.h zlib.h pcre2.h utf8proc.h archive.h cmocka.h"

# Not Debian: the compiler knows whether the headers are there.
if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    for header in $headers; do echo "#include <$header>"; done |
        ${CC:-cc} -DPCRE2_CODE_UNIT_WIDTH=8 -E -x c - >/dev/null 2>&1 && exit 0
    cat >&2 <<'TEXT'
deps.sh installs packages on Debian and Ubuntu only. Please install, with headers: a C11 compiler with
OpenMP, GNU make, oneDNN, libxsmm, libpng, libjpeg-turbo, libwebp, jansson, zlib, PCRE2, utf8proc, libarchive,
cmocka (and clang, clang-format, clang-tidy, cppcheck and libomp for lint and fuzzing).
TEXT
    exit 1
fi

# The sanitizers' runtime belongs to the release's own clang.
clang_major() {
    { clang --version 2>/dev/null || apt-cache depends clang 2>/dev/null; } |
        sed -n 's/.*clang version \([0-9][0-9]*\).*/\1/p; s/.*Depends: clang-\([0-9][0-9]*\)$/\1/p' |
        head -n 1
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Those of the named packages of which no alternative is installed.
missing() {
    for group; do
        found=0
        for name in $(echo "$group" | tr '|' ' '); do
            if installed "$name"; then found=1 && break; fi
        done
        [ $found = 1 ] || printf '%s ' "$group"
    done
}

# For each group the alternative that this release has; fails when one has none.
choose() {
    for group; do
        chosen=
        for name in $(echo "$group" | tr '|' ' '); do
            case $(LC_ALL=C apt-cache policy "$name" 2>/dev/null | sed -n 's/^ *Candidate: //p') in
            '' | '(none)') ;;
            *) chosen=$name && break ;;
            esac
        done
        [ -n "$chosen" ] || return 1
        printf '%s ' "$chosen"
    done
}

wanted() {
    missing $packages
    [ $dev = 1 ] || return 0
    missing clang clang-format clang-tidy cppcheck libomp-dev
    major=$(clang_major)
    [ -z "$major" ] || missing "libclang-rt-$major-dev|libclang-common-$major-dev"
}

as_root=
need=$(wanted)
extra=$(missing $optional)
[ -n "$need$extra" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        [ -n "$need" ] || exit 0
        echo "missing packages; as root: apt-get install $(choose $need || echo "$need")" >&2
        exit 1
    fi
    as_root=sudo
fi

apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y "$@" >&2; }
install() { names=$(choose $1) && apt --no-install-recommends install $names; }

echo "installing what is missing: $need$extra" >&2
if [ -n "$need" ] && ! install "$need"; then
    apt update || apt update || echo "apt-get update failed; going on with the lists that are here" >&2
fi
# Again also after a first success: what clang's runtime is called may be known only now.
need=$(wanted)
[ -z "$need" ] || install "$need" || {
    echo "could not install: $need" >&2
    exit 1
}
[ -z "$extra" ] || install "$extra" ||
    echo "could not install: $extra(what needs it is left out)" >&2
