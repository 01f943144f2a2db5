#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-files.sh [ROOT] - what holds for every source file, beside the layers (check-layers.sh):
#   names      no two files under src/ share a name
#   internal   NAME_internal.h is included only from its own folder
#   circles    no headers include each other in a circle, and no two sources know each other through
#              their headers; a header, its own source and what belongs to that source may
#   license    the SPDX line is among a file's first three
#   comments   at most 100 columns, also where clang-format found no place to break them; under src/ and
#              include/, a source or header that one names (lower case: ours) is there
# Prints what breaks it and exits 1. ROOT: another tree than this one (tests/lint).
set -eu
cd "${1:-$(dirname "$0")/..}"
LC_ALL=C
export LC_ALL

c_files() {
    find src include tests bench tools examples -type f \
        \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null | sort
}
all_files() {
    c_files
    find tests bench tools -type f \( -name '*.sh' -o -name '*.py' \) 2>/dev/null | sort
    for file in Makefile .ci/run; do
        if [ -f "$file" ]; then echo "$file"; fi
    done
}
status=0

find src -type f 2>/dev/null | sort | awk -F/ '
{ if ($NF in first) { print $0 ": " first[$NF] " has the same name"; bad = 1 } else first[$NF] = $0 }
END { exit bad }' || status=1

all_files | awk '
{
    file = $0
    found = 0
    for (n = 0; n < 3 && (getline line < file) > 0; n++)
        if (line ~ /SPDX-License-Identifier: Apache-2\.0/) found = 1
    close(file)
    if (!found) {
        print file ":1: the line SPDX-License-Identifier: Apache-2.0 is missing"
        bad = 1
    }
}
END { exit bad }' || status=1

c_files | awk '
# Whether a comment is on this line, whose text is left in `said`; in_comment lasts from line to line.
function comment_on(text,    i, c, two, quote, n, any) {
    any = in_comment
    quote = said = ""
    n = length(text)
    for (i = 1; i <= n; i++) {
        c = substr(text, i, 1)
        two = substr(text, i, 2)
        if (in_comment) {
            if (two == "*/") { in_comment = 0; i++; said = said " " }
            else said = said c
        } else if (quote != "") {
            if (c == "\\") i++
            else if (c == quote) quote = ""
        } else if (two == "/*") { in_comment = any = 1; i++ }
        else if (two == "//") { said = said substr(text, i + 2); return 1 }
        else if (c == "\"" || c == "\047") quote = c
    }
    return any
}
function check_names(    name, before) {
    before = ""
    while (match(said, /[A-Za-z0-9_-]+\.[A-Za-z0-9_]+/)) {
        name = substr(said, RSTART, RLENGTH)
        if (RSTART > 1) before = substr(said, RSTART - 1, 1)
        said = substr(said, RSTART + RLENGTH)
        if (name !~ /^[a-z0-9_]+\.[ch]$/ || before == "." || before == "<" || name in there) continue
        print file ":" number ": " name " is no file of this tree"
        bad = 1
    }
}
{
    files[++n_files] = $0
    name = $0
    sub(/.*\//, "", name)
    there[name] = 1
}
END {
    for (k = 1; k <= n_files; k++) {
        file = files[k]
        number = in_comment = 0
        while ((getline text < file) > 0) {
            number++
            if (!in_comment && text !~ /\/[*\/]/) continue
            wide = text
            gsub(/[\200-\277]/, "", wide) # UTF-8: what follows the first byte of a character
            if (!comment_on(text)) continue
            if (length(wide) > 100) {
                print file ":" number ": a comment of " length(wide) " columns; 100 are the most"
                bad = 1
            }
            if (file ~ /^(src|include)\//) check_names()
        }
        close(file)
    }
    exit bad
}' || status=1

c_files | awk '
function folder(file) { sub(/\/[^\/]*$/, "", file); return file }
function edge(from, to) { to_list[from] = to_list[from] " " to }
# Tarjan: strongly connected parts of the graph `graph`, those of more than one file to judge().
function visit(v,    n, i, parts, w) {
    low[v] = index_of[v] = ++visited
    stack[++top] = v
    on_stack[v] = 1
    n = split(graph[v], parts, " ")
    for (i = 1; i <= n; i++) {
        w = parts[i]
        if (!(w in index_of)) {
            visit(w)
            if (low[w] < low[v]) low[v] = low[w]
        } else if (on_stack[w] && index_of[w] < low[v]) low[v] = index_of[w]
    }
    if (low[v] != index_of[v]) return
    n = 0
    do {
        w = stack[top--]
        on_stack[w] = 0
        member[++n] = w
    } while (w != v)
    if (n > 1) judge(n)
}
function judge(n,    i, k, m, sources, parts, inside) {
    sources = 0
    for (i = 1; i <= n; i++) {
        inside[member[i]] = 1
        if (member[i] ~ /\.c$/) sources++
    }
    if (!headers_alone && sources < 2) return
    bad = 1
    print headers_alone ? "these headers include each other:" : "these files know each other in a circle:"
    for (i = 1; i <= n; i++) {
        m = split(to_list[member[i]], parts, " ")
        for (k = 1; k <= m; k++)
            if (parts[k] in inside) print "    " member[i] " includes " parts[k]
    }
}
function search(    i) {
    for (i in index_of) delete index_of[i]
    for (i = 1; i <= n_files; i++) if (!(files[i] in index_of)) visit(files[i])
}
/^src\// {
    files[++n_files] = $0
    is_file[$0] = 1
}
{
    file = $0
    number = 0
    while ((getline text < file) > 0) {
        number++
        if (text !~ /^[ \t]*#[ \t]*include[ \t]*"/) continue
        name = text
        sub(/^[^"]*"/, "", name)
        sub(/".*/, "", name)
        if (name ~ /_internal\.h$/ && folder(file) != folder("src/" name)) {
            print file ":" number ": " name " belongs to src/" folder(name) " alone"
            bad = 1
        }
        if (file ~ /^src\//) edge(file, "src/" name)
    }
    close(file)
}
END {
    for (i = 1; i <= n_files; i++) {
        if (files[i] !~ /\.h$/) continue
        n = split(to_list[files[i]], parts, " ")
        for (k = 1; k <= n; k++) if (parts[k] in is_file) graph[files[i]] = graph[files[i]] " " parts[k]
    }
    headers_alone = 1
    search()
    # Who includes a header leans on its source too.
    headers_alone = 0
    for (i = 1; i <= n_files; i++) {
        source = files[i]
        if (files[i] ~ /\.h$/) {
            sub(/\.h$/, ".c", source)
            if (source in is_file) graph[files[i]] = graph[files[i]] " " source
            continue
        }
        n = split(to_list[files[i]], parts, " ")
        for (k = 1; k <= n; k++) if (parts[k] in is_file) graph[files[i]] = graph[files[i]] " " parts[k]
    }
    search()
    exit bad
}' || status=1

exit $status
