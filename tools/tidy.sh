#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tidy.sh [all] - clang-tidy over the sources that changed since TIDY_BASE: by default where this
# branch left main, on main itself the last commit; "all": over every source. .clang-tidy says what
# it looks for. Prints what it finds and exits 1.
# What was found clean is remembered in BUILD/tidy by its preprocessed text, so a second run takes
# only what changed since.
set -eu
cd "$(dirname "$0")/.."
known=${BUILD:-build}/tidy

# one FILE: clean, or what clang-tidy says of it.
one() {
    command=$(sed -n "s|.*\"command\": \"\(.*\)\", \"file\": \"$1\"}.*|\1|p" "$known/compile_commands.json")
    [ -n "$command" ] || return 0 # not built here (without MPI)
    command=$(printf '%s' "$command" | sed 's/\\"/"/g; s/ -MMD -MP//; s/ -o [^ ]*$//')
    key=$({ cat .clang-tidy && clang-tidy --version && eval "$command -E -C"; } 2>/dev/null | sha256sum)
    stamp=$known/${key%% *}
    if [ -f "$stamp" ]; then return 0; fi
    if clang-tidy -p "$known" --quiet "$1" >"$stamp.out" 2>"$stamp.err" && [ ! -s "$stamp.out" ]; then
        mv "$stamp.out" "$stamp"
        rm -f "$stamp.err"
        return 0
    fi
    cat "$stamp.out"
    echo
    grep -v 'warnings\{0,1\} generated\.$' "$stamp.err" || true
    rm -f "$stamp.out" "$stamp.err"
    return 1
}

sources() { git ls-files 'src/**.c' 'tests/**.c' 'bench/*.c' 'tools/*.c' 'examples/*.c' | sort; }

base() {
    for branch in main origin/main; do
        fork=$(git merge-base HEAD "$branch" 2>/dev/null) || continue
        if [ "$fork" != "$(git rev-parse HEAD)" ]; then
            echo "$fork"
            return
        fi
    done
    git rev-parse -q --verify HEAD^ || git hash-object -t tree /dev/null # the empty tree
}

# Sources that changed, and those of headers that did.
changed() {
    git diff --name-only --diff-filter=d "$1" -- '*.c' '*.h' | sed 's/\.h$/.c/' | sort -u >"$known/changed"
    sources | comm -12 - "$known/changed"
}

if [ "${1:-}" = --one ]; then
    one "$2"
    exit
fi
git rev-parse -q --verify HEAD >/dev/null 2>&1 || exit 0 # no git: nothing says what changed
mkdir -p "$known"
if [ "${1:-}" = all ]; then files=$(sources); else files=$(changed "${TIDY_BASE:-$(base)}"); fi
[ -n "$files" ] || exit 0
if ! command -v clang-tidy >/dev/null 2>&1; then
    echo "tidy.sh: clang-tidy is missing (tools/deps.sh --dev installs it)" >&2
    exit 1
fi
MAKEFLAGS= make -nB V=1 CC=clang --no-print-directory all tests |
    awk -v once=1 -f tools/compdb.awk >"$known/compile_commands.json"
printf '%s\n' $files | xargs -P "$(nproc)" -n 1 sh tools/tidy.sh --one
