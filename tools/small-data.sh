#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# small-data.sh [BUILD] - robust on small data? Trains models/tiny-sd's control on few and on many scenes of the same
# condition, for as many steps and with the same held-out pairs, and prints both side by side.
#   PAIRS="1000 10000"   training pairs of each run
#   STEPS=2000           steps of each run
#   EVERY=250            steps between validations
#   HELD=32              held-out pairs
#   OUT=out/small-data   gets scenes and runs; what is there already is gone on with
# Scenes are of 128 px, the condition is canny, batch 4, learning rate 1e-3.
set -eu
cd "$(dirname "$0")/.."

build=${1:-build}
pairs=${PAIRS:-1000 10000}
steps=${STEPS:-2000}
every=${EVERY:-250}
held=${HELD:-32}
out=${OUT:-out/small-data}

# scenes DIR COUNT FIRST
scenes() {
    "$build/controlnet" dataset scenes "$1" -n "$2" --start "$3" --size 128 --seed 1 \
        --condition "canny low=60 high=120"
}

# table RUN...: the validations of all runs side by side, from their metrics.jsonl
table() {
    for n in "$@"; do
        sed "s/^/$n /" "$out/$n/metrics.jsonl"
    done | awk -v runs="$*" '
    function value(key) {
        if (!match($0, "\"" key "\": *[-+0-9.e]+")) return ""
        v = substr($0, RSTART, RLENGTH)
        sub(/^[^:]*: */, "", v)
        return v
    }
    /"event": *"validation"/ {
        step = value("step")
        if (!(step in known)) { known[step] = 1; steps[++n_steps] = step }
        agreement[step, $1] = value("agreement_with_control")
        loss[step, $1] = value("loss_with_control")
        without[$1] = value("agreement_without_control")
        loss_without[$1] = value("loss_without_control")
        learned[$1] = value("learned_at_step")
    }
    function row(name, a, b, i) {
        printf "%-18s", name
        for (i = 1; i <= n; i++) printf " %12s", a[i]
        for (i = 1; i <= n; i++) printf " %12s", b[i]
        print ""
    }
    END {
        n = split(runs, run, " ")
        for (i = 1; i <= n; i++) { x[i] = run[i] " pairs"; y[i] = run[i] " pairs" }
        printf "%-18s %-*s held-out loss\n", "", 13 * n - 1, "agreement (edge F1)"
        row("step", x, y)
        for (k = 1; k <= n_steps; k++) {
            for (i = 1; i <= n; i++) {
                x[i] = sprintf("%.3f", agreement[steps[k], run[i]])
                y[i] = sprintf("%.4f", loss[steps[k], run[i]])
            }
            row(steps[k], x, y)
        }
        for (i = 1; i <= n; i++) { x[i] = sprintf("%.3f", without[run[i]]); y[i] = sprintf("%.4f", loss_without[run[i]]) }
        row("without control", x, y)
        for (i = 1; i <= n; i++) { x[i] = learned[run[i]] < 0 ? "not yet" : learned[run[i]]; y[i] = "" }
        row("learned at step", x, y)
    }'
}

mkdir -p "$out"
scenes "$out/held" "$held" 1000000
for n in $pairs; do
    scenes "$out/scenes-$n" "$n" 0
    "$build/controlnet" train -m models/tiny-sd --train-data-dir "$out/scenes-$n" --output-dir "$out/$n" \
        --validation-data-dir "$out/held" --validation-count "$held" --resolution 128 --train-batch-size 4 \
        --learning-rate 1e-3 --max-train-steps "$steps" --validation-steps "$every" \
        --checkpointing-steps "$every" --checkpoints-total-limit 1 --resume-from-checkpoint latest --seed 1
done
# PAIRS is split on purpose.
# shellcheck disable=SC2086
table $pairs
