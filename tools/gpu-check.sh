#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# gpu-check.sh [BUILD [DEVICE]] - what a GPU gives, in one command of at most 9 minutes: devices, operations against
# their references, three golden training steps, times of drawing, decoding and training at Stable Diffusion 1.5's
# size, a drawing of models/tiny-sd. Writes gpu-check.txt into $OUT (BUILD/gpu-check) and says what failed.
#
# Each part has a bound of its own, the whole one of 540 seconds; what it left out is named.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
device=${2:-vulkan}
out=${OUT:-$build/gpu-check}
mkdir -p "$out" || exit 1
report=$out/gpu-check.txt
begun=$(date +%s)
failed=0
: >"$report"
say() { echo "$*" | tee -a "$report"; }

# part SECONDS NAME COMMAND...
part() {
    bound=$1
    name=$2
    shift 2
    left=$((540 - ($(date +%s) - begun)))
    if [ "$left" -lt 10 ]; then
        say "LEFT  $name: no time is left"
        return
    fi
    [ "$bound" -le "$left" ] || bound=$left
    from=$(date +%s%N)
    timeout -k 5 "$bound" env CN_DEVICE="$device" "$@" >"$out/part" 2>&1 </dev/null
    status=$?
    ms=$((($(date +%s%N) - from) / 1000000))
    if [ "$status" = 0 ]; then
        say "ok    $name  ${ms} ms"
        grep -E '"seconds_min"|passed, |PASSED|GFLOP' "$out/part" | tail -n 4 | sed 's/^/      /' | tee -a "$report"
    elif [ "$status" = 124 ] || [ "$status" = 137 ]; then
        say "SLOW  $name: more than $bound s"
    else
        say "FAIL  $name: exit status $status"
        failed=$((failed + 1))
        tail -n 8 "$out/part" | sed 's/^/      /' | tee -a "$report"
    fi
}

"$build/controlnet" devices >"$out/part" 2>&1 || {
    cat "$out/part" >&2
    exit 1
}
tee -a "$report" <"$out/part"
for op in conv linear attention norm pointwise shape spatial loss embed; do
    part 60 "ops_$op" "$build/tests/ops_$op"
done
part 60 "the optimizer beside the CPU's" "$build/tests/unit_device_optimizer"
part 60 "memory of the device" "$build/tests/unit_device"
part 90 "golden networks" "$build/tests/golden" tests/golden/core text_encoder unet controlnet vae
part 60 "golden training steps" "$build/tests/golden" tests/golden/core train
part 60 "golden training steps again" "$build/tests/golden" tests/golden/core train
for dtype in f32 f16; do
    part 60 "draw, 512 px, $dtype" "$build/bench" draw --device "$device" --dtype $dtype --weights f16
    for batch in 1 4 16; do
        part 60 "train, 512 px, batch $batch, $dtype" "$build/bench" train --device "$device" --dtype $dtype \
            --weights f16 --batch $batch --use-8bit-adam --gradient-checkpointing
    done
done
part 60 "decode, 512 px, f32" "$build/bench" decode --device "$device"
part 60 "a drawing of tiny-sd" "$build/controlnet" generate -m models/tiny-sd --device "$device" -p "a red cube" \
    -s 1 --steps 20 -o "$out/drawing.png"
rm -f "$out/part"
say "$failed failed, $(($(date +%s) - begun)) seconds; $report"
[ "$failed" = 0 ]
