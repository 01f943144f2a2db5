#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD - installs into an empty folder and uses what is there as a stranger would: compiles the examples by
# pkg-config alone and runs them, formats the manual page, asks for completions.
set -u
build=$1 passed=0 failed=0 skipped=0
case $build in
*-address | *-undefined | *-thread)
    echo "SKIP install: a library with sanitizers isn't installed"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
    ;;
esac
to=$(mktemp -d) || exit 1
trap 'rm -rf "$to"' EXIT
log=$to/log

# check NAME COMMAND...: counts whether it succeeds, and shows what it said if not.
check() {
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        cat "$log"
    fi
}
skip() {
    echo "SKIP $1"
    skipped=$((skipped + 1))
}

check "make install" make --no-print-directory BUILD="$build" DESTDIR="$to" PREFIX=/usr install
export PKG_CONFIG_PATH="$to/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$to" PATH="$to/usr/bin:$PATH"
for example in examples/*.c; do
    name=$(basename "$example" .c)
    check "$name.c by pkg-config" sh -c \
        "\${CC:-gcc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror $example \$(pkg-config --cflags --libs controlnet) -o $to/$name"
done

picture=tests/golden/drawing/photo.png
check "annotate" "$to/annotate" canny $picture "$to/edges.png" low=50 high=120
"$build/controlnet" annotate canny $picture -o "$to/same.png" --low 50 --high 120 2>"$log"
check "its picture is the program's" cmp "$to/edges.png" "$to/same.png"
check "train" "$to/train" models/tiny-sd "$to/scenes" "$to/trained" 2
check "train goes on" "$to/train" models/tiny-sd "$to/scenes" "$to/trained" 3
check "what was trained" controlnet inspect "$to/trained"
check "generate" "$to/generate" models/tiny-sd "$to/trained" $picture "a red cube" "$to/drawn.png"
check "generate without control" "$to/generate" models/tiny-sd - - "a red cube" "$to/plain.png"
refused() {
    said=$("$to/generate" models/tiny-sd "$to/nothing" $picture "a cube" "$to/no.png" 2>&1) && return 1
    echo "$said" | grep "^generate: .*nothing"
}
check "a missing ControlNet is named" refused

page=$to/usr/share/man/man1/controlnet.1
check "options in the manual page" grep -q sampling "$page"
if command -v groff >/dev/null; then
    clean() { groff -man -Tutf8 -ww "$page" 2>&1 >/dev/null | grep . && return 1 || return 0; }
    check "the manual page is clean" clean
else
    skip "the manual page is clean: no groff"
fi
complete() { # SHELL'S WORDS...: what bash offers for the last one
    bash -c '. "$0/usr/share/bash-completion/completions/controlnet"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _controlnet; printf "%s\n" "${COMPREPLY[@]}"' "$to" "$@"
}
offers() { want=$1; shift; complete "$@" | grep -qx -- "$want"; }
if command -v bash >/dev/null; then
    check "bash offers commands" offers generate controlnet ge
    check "bash offers kinds of annotators" offers canny controlnet annotate ca
    check "bash offers options" offers --sampling-method controlnet generate --samp
else
    skip "bash's completions: no bash"
fi
for shell in zsh fish; do
    file=$(find "$to/usr/share/$shell" -type f)
    if command -v $shell >/dev/null; then
        check "$shell reads its completions" $shell -n "$file"
    else
        check "$shell's completions name options" grep -q -e sampling-method "$file"
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
