#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-cuda.sh - that the text of every kernel of src/gpu/kernels is CUDA too: nvcc compiles it for sm_80. Nothing is
# run. With -v registers, spills and shared memory are printed. Skipped where there is no nvcc.
set -u
cd "$(dirname "$0")/.." || exit 1
nvcc=$(command -v nvcc || command -v /usr/local/cuda/bin/nvcc)
if [ -z "$nvcc" ]; then
    echo "SKIP kernels as CUDA: nvcc isn't installed"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
for kernel in src/gpu/kernels/*.k src/gpu/kernels/matrix/*.k; do
    name=$(basename "$kernel" .k)
    words=words.cuda.h
    [ "$(dirname "$kernel")" = src/gpu/kernels ] || words=matrix/words_matrix.cuda.h
    printf '#include "gpu/kernels/%s"\n#include "%s"\n' "$words" "${kernel#src/}" >"$dir/$name.cu"
    if "$nvcc" -cubin -arch=sm_80 -Isrc -Xptxas -v -o "$dir/$name.cubin" "$dir/$name.cu" >"$dir/log" 2>&1; then
        passed=$((passed + 1))
        [ "${1:-}" != -v ] || sed -n "s/^ptxas info *: Used/$name: used/p; /spill/s/^ */$name: /p" "$dir/log"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        sed 's/^/    /' "$dir/log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
