#!/bin/sh
# strategies.sh [BASE [DATA [OUT]]] - trains the paper's four strategies on one base and data set and prints a table:
# locked; the middle's link alone, then all; the decoder unlocked late; all of the UNet unlocked late.
#
# BASE: models/tiny-sd. DATA: 1200 scenes with canny edges, made in OUT. OUT: a new folder under /tmp, kept.
# From the environment: BUILD (build), STEPS (500), BORDER (half of them: when links join or the base is unlocked), EVERY
# (100, validation), PX (128), BATCH (4), LR (1e-3), MORE (further options of every run). A run that is there in OUT is
# not repeated. Times compare where nothing else runs.
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
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM

mkdir -p "$out"
[ -n "${2:-}" ] || "$build/controlnet" dataset scenes "$data" -n 1200 --size "$px" --condition "canny low=60 high=120"

# run NAME OPTION...: one strategy; its result as a JSON line in OUT/NAME.json
run() {
    name=$1
    shift
    [ ! -s "$out/$name.json" ] || return 0
    echo "== $name: $*" >&2
    # shellcheck disable=SC2086
    "$build/controlnet" train -m "$base" --train-data-dir "$data" --output-dir "$out/$name" --resolution "$px" \
        --train-batch-size "${BATCH:-4}" --learning-rate "${LR:-1e-3}" --max-train-steps "$steps" \
        --validation-steps "$every" --checkpointing-steps 0 --cache-dir "$out/cache" --json "$@" ${MORE:-} \
        >"$out/$name.new" 2>"$out/$name.log" &
    pid=$!
    wait "$pid" || {
        tail -n 3 "$out/$name.log" >&2
        exit 1
    }
    pid=
    mv "$out/$name.new" "$out/$name.json"
}

run locked
run only-mid --only-mid-control --reconnect-after "$border"
run decoder --unlock decoder --unlock-after "$border"
run all --unlock all --unlock-after "$border"

# value KEY: of the JSON lines on standard input, the last one
value() { sed -n "s/.*\"$1\": \([-0-9.e+]*\).*/\1/p" | tail -n 1; }

# median FROM TO NAME: of the step times behind step FROM up to TO
median() {
    grep '"loss"' "$out/$3/metrics.jsonl" | sed -n 's/.*"step": \([0-9]*\),.*"seconds": \([0-9.e+-]*\).*/\1 \2/p' |
        awk -v from="$1" -v to="$2" '$1 > from && $1 <= to { print $2 }' | sort -g |
        awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)]; else print "nan" }'
}

# curve NAME: loss with control / agreement at each validation
curve() {
    grep '"event": "validation"' "$out/$1.json" | while read -r line; do
        printf ' %s: %.4f/%.3f' "$(echo "$line" | value step)" "$(echo "$line" | value loss_with_control)" \
            "$(echo "$line" | value agreement_with_control)"
    done
}

first=$(median 0 "$border" locked)
last=$(median "$border" "$steps" locked)
echo "base $base, $steps steps of ${BATCH:-4} at $px px, border at step $border; median step times"
echo "| strategy | learned at step | s/step before, after | ratio to locked | planned, peak GiB | step: held-out loss/agreement |"
echo "|---|---|---|---|---|---|"
for name in locked only-mid decoder all; do
    learned=$(value learned_at_step <"$out/$name.json")
    [ "$learned" -ge 0 ] || learned=no
    before=$(median 0 "$border" "$name")
    after=$(median "$border" "$steps" "$name")
    awk -v name="$name" -v learned="$learned" -v b="$before" -v a="$after" -v first="$first" -v last="$last" \
        -v plan="$(value peak_bytes <"$out/$name.json")" -v peak="$(value peak_resident_bytes <"$out/$name.json")" \
        -v curve="$(curve "$name")" 'BEGIN {
            printf "| %s | %s | %.3f, %.3f | %.2f, %.2f | %.2f, %.2f |%s |\n", name, learned, b, a, b / first, a / last,
                plan / 2 ^ 30, peak / 2 ^ 30, curve }'
done
echo "runs are in $out"
