#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cppcheck.sh - cppcheck over src/, kernels as for AVX-512 and float32. Prints what it finds and
# exits 1. tools/cppcheck.txt holds what it is wrong about, with the reasons.
set -eu
cd "$(dirname "$0")/.."
if ! command -v cppcheck >/dev/null 2>&1; then
    echo "cppcheck.sh: cppcheck is missing (tools/deps.sh --dev installs it)" >&2
    exit 1
fi
cache=${BUILD:-build}/cppcheck
mkdir -p "$cache"
exec cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability --std=c11 \
    --platform=unix64 -j "$(nproc)" --cppcheck-build-dir="$cache" --suppressions-list=tools/cppcheck.txt \
    --template='{file}:{line}: {severity}: {message} [{id}]' \
    -Isrc -Iinclude -D__x86_64__ -DCN_ISA=v4 -DCN_STORE=f32 -DCN_STORE_F32 src
