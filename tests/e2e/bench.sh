#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench.sh BUILD - that each work of the benchmark runs, at a width and size where it takes no time, and says its seconds.
set -u
build=$1 passed=0 failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

# check NAME ARGUMENT...: one line of JSON with the fastest run's seconds is expected.
check() {
    name=$1
    shift
    if timeout 120 "$build/bench" "$@" --channels 32 --px 64 --runs 1 >"$log" 2>&1 && grep -q '"seconds_min": *[0-9]' "$log"; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        sed 's/^/    /' "$log"
    fi
}

# count NETWORK MILLIONS: parameters of what `bench model` wrote to $out, as published.
count() {
    if "$build/controlnet" inspect "$out/base" 2>&1 | grep -E "^ *$1 " | grep -q " $2 M parameters"; then
        passed=$((passed + 1))
        echo "ok   $1 has $2 million parameters"
    else
        failed=$((failed + 1))
        echo "FAIL $1 of the benchmark hasn't $2 million parameters"
    fi
}

check "draw" draw
check "draw with guidance, without a ControlNet" draw --guidance --no-control
check "decode" decode
check "train" train
check "finetune" finetune
check "optimizer" optimizer
check "SDXL draw" draw --model sdxl
check "SDXL train" train --model sdxl
# What isn't narrowed has the published networks' sizes.
out=$(mktemp -d) || exit 1
trap 'rm -rf "$log" "$out"' EXIT
timeout 120 "$build/bench" model --channels 32 --weights f16 --out "$out" >"$log" 2>&1 || cat "$log"
count vae 83.65
count text_encoder 123.06
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
