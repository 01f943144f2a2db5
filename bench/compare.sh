#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# compare.sh [--work "draw decode train"] [--dtype "f32 bf16"] [--rounds N] [--runs N] [--model sd15|sdxl] [--px PX] [--env DIR] [--scale]
#
# Measures this program, PyTorch with diffusers, and OpenVINO on the same machine at the same work
# (compare.py says how each is set up), in turn, N rounds (2) of N runs (3) each, and prints a line of JSON a
# measurement, then a table of the fastest runs and their ratios. The Python packages come from PyPI into DIR, a
# virtual environment that is made once (bench-env in the temporary folder). bf16 is left out where the
# processor has none. --scale measures this program alone instead, over batch 1, 2, 4 (a decoder takes
# one picture at a time) and 256, 512, 768 px.
# A work more is finetune, a training step of the UNet itself, without a ControlNet.
# Needs a built build/bench (make) and about 12 GB of memory for PyTorch's training step of SD 1.5, 17 for its finetune. A program that
# has too little memory is left out of the table.
set -euo pipefail
cd "$(dirname "$0")/.."

work="draw decode train" dtype="f32 bf16" rounds=2 runs=3 model=sd15 px='' scale=''
env=${TMPDIR:-/tmp}/controlnet-bench-env
usage() {
    sed -n '2,3s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
while [[ $# -gt 0 ]]; do
    case $1 in
    --scale) scale=1 && shift && continue ;;
    --model | --work | --dtype | --rounds | --runs | --px | --env) [[ $# -gt 1 ]] || usage ;;
    *) usage ;;
    esac
    declare "${1#--}=$2"
    shift 2
done
[[ -x build/bench ]] || { echo "compare.sh: build/bench is missing; make builds it" >&2 && exit 1; }
grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo || dtype=${dtype//bf16/}

[[ -n $px ]] || px=$([[ $model = sdxl ]] && echo 1024 || echo 512)
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
measure() { "$@" | tee -a "$lines"; }
ours() { measure build/bench "$1" --model "$model" --dtype "$2" --px "$3" --batch "$4" --runs "$runs"; }

if [[ -n $scale ]]; then
    for w in $work; do for d in $dtype; do
        ours "$w" "$d" "$px" 1
        [[ $w = decode ]] || for b in 2 4; do ours "$w" "$d" "$px" "$b"; done
        for p in 256 512 768; do [[ $p = "$px" ]] || ours "$w" "$d" "$p" 1; done
    done; done
else
    if [[ ! -x $env/bin/python ]]; then
        python3 -m venv "$env"
        "$env/bin/pip" install -q torch diffusers transformers accelerate openvino
    fi
    theirs() {
        measure "$env/bin/python" bench/compare.py "$1" "$2" --model "$model" --dtype "$3" --px "$px" --runs "$runs" --threads "$(nproc)" ||
            echo "compare.sh: $1 has no result ($2, $3)" >&2
    }
    for ((round = 0; round < rounds; round++)); do
        for w in $work; do for d in $dtype; do
            ours "$w" "$d" "$px" 1
            [[ $w = train || $w = finetune ]] || theirs openvino "$w" "$d"
            theirs torch "$w" "$d"
        done; done
    done
fi

python3 - "$lines" <<'PYTHON'
import json, sys

best = {}
for line in map(json.loads, open(sys.argv[1])):
    key = line["work"], line["dtype"], line["px"], line["batch"]
    slot = best.setdefault(key, {})
    engine = line.get("engine", "here")
    seconds, peak = slot.get(engine, (float("inf"), 0))
    slot[engine] = min(seconds, line["seconds_min"]), max(peak, line["peak_rss_bytes"])
print("\nseconds of the fastest run, peak memory; here / other")
for (work, dtype, px, batch), slot in best.items():
    here = slot["here"]
    text = f"{work:8} {dtype:5} {px} px, batch {batch}: here {here[0]:.3f} s {here[1] / 1e9:.2f} GB"
    for engine in sorted(set(slot) - {"here"}):
        other = slot[engine]
        text += (f"; {engine} {other[0]:.3f} s {other[1] / 1e9:.2f} GB,"
                 f" ratio {here[0] / other[0]:.2f} and {here[1] / other[1]:.2f}")
    print(text)
PYTHON
