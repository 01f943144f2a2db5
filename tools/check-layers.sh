#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-layers.sh [ROOT] - the include layering of docs/architecture.md, on every #include
# "folder/file.h". Arrows point down only. Prints the lines that break it and exits 1.
# ROOT: another tree than this one (tests/lint).
set -eu
cd "${1:-$(dirname "$0")/..}"

find src include tests bench tools -type f \
    \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null | LC_ALL=C sort | awk '
function allow(folder, list,    n, i, parts) {
    known[folder] = 1
    ok[folder, folder] = 1
    n = split(list, parts, " ")
    for (i = 1; i <= n; i++) ok[folder, parts[i]] = 1
}
function complain(file, line, text, why) {
    printf "%s:%d: %s\n    %s\n", file, line, text, why
    bad = 1
}
function check(file, line, text, name,    folder, target) {
    if (name ~ /\.(c|cu)$/) {
        complain(file, line, text, "sources are linked, not included")
        return
    }
    if (file ~ /^include\//) {
        complain(file, line, text, "the public header stands alone: system headers only")
        return
    }
    if (name == "controlnet.h" || name == "base/library.h" || name == "io/json_text.h" || file !~ /^src\//) return
    if (name ~ /(^|\/)\.\.?\//) {
        complain(file, line, text, "write the path from src/, as in \"io/tensors.h\"")
        return
    }
    folder = file
    sub(/^src\//, "", folder)
    sub(/\/.*/, "", folder)
    target = name
    sub(/\/.*/, "", target)
    if (!(folder in known))
        complain(file, line, text, "src/" folder " has no layer: give it one in tools/check-layers.sh")
    else if (!((folder, target) in ok))
        complain(file, line, text, folder " must not know " target)
}
BEGIN {
    allow("base", "")
    allow("io", "base")
    allow("image", "base")
    allow("graph", "base")
    allow("dist", "base")
    allow("cpu", "base graph")
    allow("gpu", "base graph")
    # Who asks for a device by its name gets either.
    allow("device", "base graph cpu gpu")
    # Networks are written once, for every backend.
    allow("model", "base io graph")
    # The networks of annotators are loaded as the models are.
    allow("annotate", "base io image graph model")
    allow("diffuse", "base io image graph device model annotate")
    allow("data", "base io image graph dist device model annotate diffuse")
    allow("eval", "base io image graph device model annotate diffuse data")
    allow("train", "base io image graph dist device model annotate diffuse data eval")
    allow("scene", "base io image graph model annotate data")
    allow("pretrain", "base io image graph device model annotate diffuse data eval train scene")
    allow("pipeline", "base io image graph device model annotate diffuse data eval train scene")
    # Programs stand on the public header alone, and on base/library.h and io/json_text.h, which do so too; one command
    # of cli starts the server.
    allow("cli", "server")
    allow("server", "")
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
        check(file, number, text, name)
    }
    close(file)
}
END { exit bad }
'
