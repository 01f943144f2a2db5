#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-banned.sh [ROOT] - functions that have no place here. Prints each line that calls one and
# exits 1. ROOT: another tree than this one (tests/lint).
#   everywhere     no bound on what is written, no error from bad input, a shell, or the stack's end
#   in the library printing, ending the process, the environment: only programs do that
#                  what asks the system for files, locks or memory by itself: sys.h does, where it can be made to fail
# Comments and literals are taken out first, so they may name what they like.
set -eu
cd "${1:-$(dirname "$0")/..}"

find src include tests bench tools -type f \
    \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null | LC_ALL=C sort | awk '
function set_of(list, set,    n, i, parts) {
    n = split(list, parts, " ")
    for (i = 1; i <= n; i++) set[parts[i]] = 1
}
# The line without comments and the inside of literals; in_comment lasts from line to line.
function code_of(text,    out, i, c, two, quote, n) {
    out = ""
    quote = ""
    n = length(text)
    for (i = 1; i <= n; i++) {
        c = substr(text, i, 1)
        two = substr(text, i, 2)
        if (in_comment) {
            if (two == "*/") { in_comment = 0; i++; out = out " " }
        } else if (quote != "") {
            if (c == "\\") i++
            else if (c == quote) { quote = ""; out = out c }
        } else if (two == "/*") { in_comment = 1; i++ }
        else if (two == "//") break
        else {
            if (c == "\"" || c == "\047") quote = c
            out = out c
        }
    }
    return out
}
function complain(file, line, text, why) {
    sub(/^[ \t]+/, "", text)
    printf "%s:%d: %s\n    %s\n", file, line, text, why
    bad = 1
}
function check(file, line, text,    rest, before, name, library, env, call, asks) {
    library = file ~ /^(src|include)\// && file !~ /^src\/(cli|server)\//
    env = library && file != "src/base/log.c" && file != "src/base/context.c"
    asks = library && file !~ /^src\/(base\/(sys|context)|dist\/ranks_mpi)\.c$/
    rest = code_of(text)
    before = ""
    while (match(rest, /[A-Za-z_][A-Za-z0-9_]*/)) {
        if (RSTART > 1) before = substr(rest, 1, RSTART - 1)
        name = substr(rest, RSTART, RLENGTH)
        rest = substr(rest, RSTART + RLENGTH)
        call = rest ~ /^[ \t]*\(/ && before !~ /(\.|->)[ \t]*$/
        if (call && name in everywhere) complain(file, line, text, name " is banned: " hint[name])
        else if (call && library && name in programs)
            complain(file, line, text, name " only in src/cli, src/server, tests, bench and tools: use cn_fail or cn_log")
        else if (call && asks && name in system_calls)
            complain(file, line, text, name " only in src/base/sys.c: use what sys.h or base.h has")
        else if (call && file ~ /^src\// && file != "src/io/json_text.c" && name in half_read)
            complain(file, line, text, name " misses where memory is out: use json_text.h")
        else if (library && (name == "stdout" || name == "stderr"))
            complain(file, line, text, "the library never prints: use cn_fail or cn_log")
        else if (call && env && name in environment)
            complain(file, line, text, name " only in src/base/log.c, src/base/context.c and src/cli")
        before = ""
    }
}
BEGIN {
    set_of("strcpy strcat sprintf vsprintf gets strtok atoi atol atoll atof system popen alloca", everywhere)
    set_of("exit _exit _Exit quick_exit abort printf vprintf puts putchar perror", programs)
    set_of("open openat fopen fdopen pread pwrite rename renameat renameat2 fsync fdatasync opendir readdir scandir " \
           "fts_open mmap flock mkdir unlink rmdir ftruncate posix_fallocate aligned_alloc mkstemp mkostemp", system_calls)
    set_of("json_loads json_loadb json_dumps json_dumpb json_copy", half_read)
    set_of("getenv secure_getenv setenv putenv", environment)
    hint["strcpy"] = hint["strcat"] = hint["sprintf"] = hint["vsprintf"] = "use cn_format or cn_str"
    hint["gets"] = "use fgets"
    hint["strtok"] = "use strtok_r or strcspn"
    hint["atoi"] = hint["atol"] = hint["atoll"] = "use strtol and look at its end pointer"
    hint["atof"] = "use strtod and look at its end pointer"
    hint["system"] = hint["popen"] = "use posix_spawn"
    hint["alloca"] = "use cn_alloc"
}
{
    file = $0
    number = 0
    in_comment = 0
    while ((getline text < file) > 0) check(file, ++number, text)
    close(file)
}
END { exit bad }
'
