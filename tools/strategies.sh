#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# strategies.sh [BASE [DATA [OUT]]] - trains the paper's four strategies on one base and data set and prints a table:
# locked; the middle's link alone, then all; the decoder unlocked late; all of the UNet unlocked late.
#
# BASE: models/tiny-sd. DATA: 1200 scenes with canny edges, made in OUT. OUT: a new temporary folder, kept.
# From the environment: BUILD (build), STEPS (500), BORDER (half of them: when links join or the base is unlocked), EVERY
# (100, validation; 0: none), PX (128), BATCH (4), LR (1e-3), PAIRS (1200), MORE and UNLOCKED (further options of every
# run, of the last two), RUNS (which of the four: locked only-mid decoder all). KILL=yes takes each run again, kills it
# with SIGKILL in the step behind the border, resumes it from the border's checkpoint and compares its weights with the
# whole run's. A run that is there in OUT is not repeated. Times compare where nothing else runs.
# tools/strategies-sd15.sh does it at the size of Stable Diffusion 1.5.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
base=${1:-models/tiny-sd}
steps=${STEPS:-500}
border=${BORDER:-$((steps / 2))}
every=${EVERY:-100}
px=${PX:-128}
out=${3:-$(mktemp -d)}
data=${2:-$out/scenes}
runs=${RUNS:-locked only-mid decoder all}
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM

mkdir -p "$out"
[ -n "${2:-}" ] || "$build/controlnet" dataset scenes "$data" -n "${PAIRS:-1200}" --size "$px" \
    --condition "canny low=60 high=120"

# start NAME OPTION...: a run of the base and data set in the background
start() {
    folder=$out/$1
    shift
    # shellcheck disable=SC2086
    "$build/controlnet" train -m "$base" --train-data-dir "$data" --output-dir "$folder" --resolution "$px" \
        --train-batch-size "${BATCH:-4}" --learning-rate "${LR:-1e-3}" --max-train-steps "$steps" \
        --validation-steps "$every" --cache-dir "$out/cache" --overwrite --json "$@" ${MORE:-} >"$folder.new" 2>>"$folder.log" &
    pid=$!
}

# finish NAME: waits for it; its result is then in OUT/NAME.json
finish() {
    wait "$pid" || {
        tail -n 3 "$out/$1.log" >&2
        exit 1
    }
    pid=
    mv "$out/$1.new" "$out/$1.json"
}

# seconds FROM TO NAME: least and median of the step times behind step FROM up to TO
seconds() {
    grep '"loss"' "$out/$3/metrics.jsonl" | sed -n 's/.*"step": \([0-9]*\),.*"seconds": \([0-9.e+-]*\).*/\1 \2/p' |
        awk -v from="$1" -v to="$2" '$1 > from && $1 <= to { print $2 }' | sort -g |
        awk '{ v[NR] = $1 } END { if (NR) printf "%.3f, %.3f", v[1], v[int((NR + 1) / 2)] }'
}

# kill_behind_border NAME: the run NAME-killed with SIGKILL, half of a step's time behind the checkpoint of the border
kill_behind_border() {
    while [ ! -d "$out/$1-killed/checkpoint-$border" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    sleep "$(seconds 0 "$steps" "$1" | awk '{ print $1 / 2 }')"
    kill -9 "$pid" 2>/dev/null || true
    if wait "$pid" 2>/dev/null; then
        echo "== $1: done before it could be killed" >&2
    else
        echo "== $1: killed in step $((border + 1))" >&2
    fi
}

# same NAME: both layouts of what the whole run and the killed one saved
same() {
    for file in control.safetensors diffusion_pytorch_model.safetensors base.safetensors; do
        [ ! -e "$out/$1/$file" ] || cmp "$out/$1/$file" "$out/$1-killed/$file"
    done
}

# run NAME OPTION...: one strategy
run() {
    name=$1
    shift
    case " $runs " in *" $name "*) ;; *) return 0 ;; esac
    if [ ! -s "$out/$name.json" ]; then
        echo "== $name: $*" >&2
        start "$name" --checkpointing-steps 0 "$@"
        finish "$name"
    fi
    [ -n "${KILL:-}" ] && [ ! -s "$out/$name-killed.json" ] || return 0
    rm -rf "$out/$name-killed"
    start "$name-killed" --checkpointing-steps "$border" "$@"
    kill_behind_border "$name"
    start "$name-killed" --checkpointing-steps 0 --resume-from-checkpoint latest "$@"
    finish "$name-killed"
    same "$name"
    rm -r "$out/$name-killed"
}

# shellcheck disable=SC2086
{
    run locked
    run only-mid --only-mid-control --reconnect-after "$border"
    run decoder --unlock decoder --unlock-after "$border" ${UNLOCKED:-}
    run all --unlock all --unlock-after "$border" ${UNLOCKED:-}
}

# value KEY: of the JSON lines on standard input, the last one
value() { sed -n "s/.*\"$1\": \([-0-9.e+]*\).*/\1/p" | tail -n 1; }

# curve NAME: loss with control / agreement at each validation
curve() {
    grep '"event": "validation"' "$out/$1.json" | while read -r line; do
        printf ' %s: %.4f/%.3f' "$(echo "$line" | value step)" "$(echo "$line" | value loss_with_control)" \
            "$(echo "$line" | value agreement_with_control)"
    done
}

echo "base $base, $steps steps of ${BATCH:-4} at $px px, border at step $border; seconds of the fastest and the median step"
echo "| strategy | learned at step | before the border | behind it | planned, peak GiB, ratio | killed, resumed | step: held-out loss/agreement |"
echo "|---|---|---|---|---|---|---|"
for name in $runs; do
    learned=$(value learned_at_step <"$out/$name.json")
    [ "$learned" -ge 0 ] || learned=no
    resumed=
    [ ! -s "$out/$name-killed.json" ] || resumed="the same bytes"
    awk -v plan="$(value peak_bytes <"$out/$name.json")" -v peak="$(value peak_resident_bytes <"$out/$name.json")" \
        -v head="| $name | $learned | $(seconds 0 "$border" "$name") | $(seconds "$border" "$steps" "$name") |" \
        -v tail="| $resumed |$(curve "$name") |" \
        'BEGIN { printf "%s %.2f, %.2f, %.3f %s\n", head, plan / 2 ^ 30, peak / 2 ^ 30, peak / plan, tail }'
done
echo "runs are in $out"
