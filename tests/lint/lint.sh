#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lint.sh - that each check of make lint can fail: small trees that break one rule each, and the same
# trees without the fault. Closes with "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/../.." || exit 1
tools=$PWD/tools
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
passed=0 failed=0 skipped=0
spdx='/* SPDX-License-Identifier: Apache-2.0 */'

# file NAME LINE...: a source file of the small tree, with its license line.
file() {
    mkdir -p "$work/tree/$(dirname "$1")"
    name=$1
    shift
    { echo "$spdx" && printf '%s\n' "$@"; } >"$work/tree/$name"
}
fresh() {
    rm -rf "$work/tree"
    file include/controlnet.h '#define CN_VERSION "1"'
    file src/base/base.h '#include "controlnet.h"' '/* what all know */'
    file src/base/base.c '#include "base/base.h"'
    file src/io/zip.h '#include "base/base.h"'
    file src/io/zip.c '#include "io/zip.h"' '#include "io/zip_internal.h"'
    file src/io/zip_internal.h '#include "io/zip.h"'
    file src/graph/graph.h '#include "base/base.h"'
    file src/graph/graph.c '#include "graph/graph.h"'
}
result() {
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
        sed 's/^/    /' "$work/log"
    fi
}
# complains TEXT CHECK [ARGUMENT]: the check fails, with these words, and not for a slip of the shell's.
complains() {
    text=$1
    shift
    sh "$tools/$1" "$2" >"$work/log" 2>&1
    [ $? = 1 ] && grep -qF -- "$text" "$work/log"
    result $? "$1 should have said: $text"
}
content() {
    sh "$tools/$1" "$2" >"$work/log" 2>&1 && [ ! -s "$work/log" ]
    result $? "$1 should have been content"
}
tree=$work/tree

fresh
content check-files.sh "$tree"
content check-layers.sh "$tree"
content check-banned.sh "$tree"

file src/graph/zip.c '#include "graph/graph.h"'
complains 'src/io/zip.c: src/graph/zip.c has the same name' check-files.sh "$tree"

fresh
file src/graph/graph.c '#include "io/zip_internal.h"'
complains 'src/graph/graph.c:2: io/zip_internal.h belongs to src/io alone' check-files.sh "$tree"
complains 'graph must not know io' check-layers.sh "$tree"
fresh
file tests/unit/test_zip.c '#include "io/zip_internal.h"'
complains 'tests/unit/test_zip.c:2: io/zip_internal.h belongs' check-files.sh "$tree"

fresh
file src/graph/plan.h '#include "graph/node.h"'
file src/graph/node.h '#include "graph/plan.h"'
complains 'these headers include each other:' check-files.sh "$tree"
# Two sources, each of which needs what the other's header offers; at a distance of one header too.
fresh
file src/graph/plan.h '#include "base/base.h"'
file src/graph/plan.c '#include "graph/plan.h"' '#include "graph/graph.h"'
content check-files.sh "$tree"
file src/graph/ops.h '#include "graph/plan.h"'
file src/graph/graph.c '#include "graph/graph.h"' '#include "graph/ops.h"'
complains 'src/graph/plan.c includes src/graph/graph.h' check-files.sh "$tree"

fresh
echo '#include "base/base.h"' >"$tree/src/base/base.c"
complains 'src/base/base.c:1: the line SPDX' check-files.sh "$tree"
fresh
mkdir "$tree/tools" && echo 'true' >"$tree/tools/run.sh"
complains 'tools/run.sh:1: the line SPDX' check-files.sh "$tree"

fresh
long=$(printf 'https://example.org/%081d' 0)
file src/base/base.c '#include "base/base.h"' "const char *link = \"$long\";"
content check-files.sh "$tree"
file src/base/base.c '#include "base/base.h"' '/*' "$long" '*/'
complains 'src/base/base.c:4: a comment of 101 columns' check-files.sh "$tree"
file src/base/base.c '#include "base/base.h"' "int x; /* $long */"
complains 'src/base/base.c:3: a comment of 114 columns' check-files.sh "$tree"
file src/base/base.c '#include "base/base.h"' "const char *x = \"/* no comment $long\";"
content check-files.sh "$tree"
umlauts=$(printf '/* %094d */' 0 | sed 's/0/ü/g')
file src/base/base.c '#include "base/base.h"' "$umlauts"
content check-files.sh "$tree"
file src/base/base.c '#include "base/base.h"' '/* As base.h, <stdio.h>, maskApi.c and hook.py have it. */'
content check-files.sh "$tree"
file src/base/base.c '#include "base/base.h"' '/* See' ' * old_name.c. */'
complains 'src/base/base.c:4: old_name.c is no file of this tree' check-files.sh "$tree"

fresh
file src/base/base.c '#include "base/base.h"' 'void f(char *s) { strcpy(s, "x"); }'
complains 'strcpy is banned: use cn_format' check-banned.sh "$tree"
file src/base/base.c '#include "base/base.h"' 'void f(void) { exit(1); } /* strcpy(s, "x") */'
complains 'exit only in src/cli' check-banned.sh "$tree"
file src/base/base.c '#include "base/base.h"' 'int f(void) { return open("x", 0); }'
complains 'open only in src/base/sys.c' check-banned.sh "$tree"
file src/base/base.c '#include "base/base.h"' 'char *f(json_t *x) { return json_dumps(x, 0); }'
complains 'json_dumps misses where memory is out' check-banned.sh "$tree"

# message LINE...: what a commit says.
message() { printf '%s\n' "$@" >"$work/message"; }
seventy_two=$(printf '%072d' 0)
message "$seventy_two" '' 'Why.'
content check-commit.sh "$work/message"
message "${seventy_two}1" '' 'Why.'
complains 'its subject has 73 characters' check-commit.sh "$work/message"
message 'zip: read the end record first'
complains 'its body is empty' check-commit.sh "$work/message"
message 'zip: read the end record first' '' ' ' ''
complains 'its body is empty' check-commit.sh "$work/message"
message 'zip: read the end record first' 'It says where the rest is.'
complains 'its second line must be empty' check-commit.sh "$work/message"
message '' '' 'Why.'
complains 'it has no subject' check-commit.sh "$work/message"
# The last commit of a repository of its own; a merge is passed over; no git, nothing to check.
if command -v git >/dev/null 2>&1; then
    repository=$work/repository
    mkdir -p "$repository/tools" && cp "$tools/check-commit.sh" "$repository/tools"
    cd "$repository" || exit 1
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
    export GIT_CONFIG_GLOBAL GIT_CONFIG_NOSYSTEM
    sh tools/check-commit.sh >"$work/log" 2>&1 # no git here, unless the work folder lies in one
    result $? 'a tree without git has no commit to check'
    commit() { git -c user.name=x -c user.email=x -c commit.gpgsign=false "$@" >/dev/null 2>&1; }
    commit init -q . && commit commit --allow-empty -m short
    ! sh tools/check-commit.sh >"$work/log" 2>&1 && grep -qF 'its body is empty' "$work/log"
    result $? 'the last commit has no body'
    commit checkout -q -b side && commit commit --allow-empty -m other
    commit checkout -q - && commit commit --allow-empty -m short && commit merge --no-ff -m 'a merge' side
    sh tools/check-commit.sh >"$work/log" 2>&1
    result $? 'a merge has a message of its own'
fi

# clang-tidy over what changed since the last commit, in a repository of its own.
fault='int f(int x) { return x == x; }'
clean='int f(int x) { return x + 1; }'
if command -v git >/dev/null 2>&1 && command -v clang-tidy >/dev/null 2>&1; then
    rm -rf "$repository"
    mkdir -p "$repository/tools" "$repository/src/base" && cd "$repository" || exit 1
    cp "$tools/tidy.sh" "$tools/compdb.awk" tools && cp "$tools/../.clang-tidy" .
    printf '%s\n' 'all: a.o b.o' 'tests:' '%.o: src/base/%.c' '	$(CC) -std=c11 -c $< -o $@' >Makefile
    echo "$fault" >src/base/a.c && echo "$clean" >src/base/b.c && echo /build >.gitignore
    commit init -q . && commit add . && commit commit -m one && commit commit --allow-empty -m two
    echo "$clean" | sed 's/f(/g(/' >src/base/b.c
    sh tools/tidy.sh >"$work/log" 2>&1 && [ ! -s "$work/log" ]
    result $? 'clang-tidy looks at the file that changed alone'
    echo "$fault" >src/base/b.c
    ! sh tools/tidy.sh >"$work/log" 2>&1 && grep -q 'src/base/b.c:1:.*misc-redundant-expression' "$work/log"
    result $? 'clang-tidy finds a fault in the file that changed'
    ! sh tools/tidy.sh all >"$work/log" 2>&1 && grep -q 'src/base/a.c:1:' "$work/log"
    result $? 'clang-tidy finds a fault in all files'
else
    echo "skipped: clang-tidy or git is missing (tools/deps.sh --dev)"
    skipped=$((skipped + 1))
fi
if command -v cppcheck >/dev/null 2>&1; then
    rm -rf "$repository"
    mkdir -p "$repository/tools" "$repository/src" && cd "$repository" || exit 1
    cp "$tools/cppcheck.sh" "$tools/cppcheck.txt" tools
    echo 'int f(void) { int a[2] = {0}; return a[2]; }' >src/a.c
    ! sh tools/cppcheck.sh >"$work/log" 2>&1 && grep -q 'src/a.c:1: error: .*arrayIndexOutOfBounds' "$work/log"
    result $? 'cppcheck finds a fault'
    echo "$clean" >src/a.c
    sh tools/cppcheck.sh >"$work/log" 2>&1
    result $? 'cppcheck is content'
else
    echo "skipped: cppcheck is missing (tools/deps.sh --dev)"
    skipped=$((skipped + 1))
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
