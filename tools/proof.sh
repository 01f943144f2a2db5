#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# proof.sh OUT [BUILD] - the paper's nine conditions on a small base: a ControlNet is trained for each from scenes that
# this program makes, and measured on held-out ones. Writes OUT/proof.md with a table, OUT/sheets and, where ImageMagick is,
# OUT/sheet.png of two scenes each. Hours; what is there already is gone on with, so it may be stopped and started again.
#   BASE=models/tiny-sd          the base model
#   CONDITIONS="canny lines ..." which of them (all nine)
#   VARIANTS="full small mid"    full: PAIRS pairs; small: 1,000; mid: the middle alone, all links from half the steps on
#   COMBINED="canny+pose depth+segmentation"   drawn together, 50 scenes each; "": none
#   PAIRS=20000 STEPS=1500 BATCH=8 EVERY=250 OPTIMIZER=Muon RATE=3e-3   of each training; the rate falls over the last 30 %
#   SIZE=128                     px, the base's own
#   GUIDANCE=2                   of the drawings that are measured: words that are followed more closely leave less to control
#   SCENES=200 SEED=7            held-out scenes, and the seed that makes them
#   MLSD=FILE PIDINET=FILE       weights; without them lines are exact straight edges and soft edges exact ones
#   READER_STEPS=3000            of the network that reads exact maps from drawings
set -eu
if [ $# -lt 1 ]; then
    sed -n '3,16s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
out=$1
build=${2:-build}
base=${BASE:-models/tiny-sd}
conditions=${CONDITIONS:-canny lines softedge scribble pose segmentation depth normal cartoon}
variants=${VARIANTS:-full small mid}
combined=${COMBINED-canny+pose depth+segmentation}
pairs=${PAIRS:-20000}
steps=${STEPS:-1500}
batch=${BATCH:-8}
every=${EVERY:-250}
optimizer=${OPTIMIZER:-Muon}
rate=${RATE:-3e-3}
scenes=${SCENES:-200}
seed=${SEED:-7}
size=${SIZE:-128}
guidance=${GUIDANCE:-2}
program=$build/controlnet

# kind NAME [train]: the condition as `dataset scenes --condition` and `pretrain --condition` take it. Canny's thresholds are
# chosen anew for each picture in training, as in the paper, and fixed where drawings are measured.
kind() {
    case $1 in
    canny) if [ "${2:-}" = train ]; then echo canny; else echo "canny low=100 high=200"; fi ;;
    lines) if [ -n "${MLSD:-}" ]; then echo mlsd; else echo lines; fi ;;
    softedge) if [ -n "${PIDINET:-}" ]; then echo pidinet; else echo softedge; fi ;;
    *) echo "$1" ;;
    esac
}
weights() {
    case $1 in
    lines) echo "${MLSD:-}" ;;
    softedge) echo "${PIDINET:-}" ;;
    esac
}

# Bodies in ( ) keep their variables to themselves.
# pairs_of NAME COUNT DIR FIRST
pairs_of() (
    name=$1 count=$2 dir=$3 first=$4
    set -- --condition "$(kind "$name" train)"
    [ "$name" != canny ] || set -- "$@" --random-thresholds
    [ -z "$(weights "$name")" ] || set -- "$@" --model "$(weights "$name")"
    "$program" dataset scenes "$dir" -n "$count" --start "$first" --seed 1 --size "$size" "$@" >&2
    share_pictures "$dir"
)

# share_pictures DIR: scenes of two conditions are the same pictures, whose latents are then encoded once.
share_pictures() (
    for other in "$out"/data/*; do
        [ "$other" != "$1" ] && [ ! -L "$other/target" ] && [ ! -L "$1/target" ] || continue
        if diff -rq "$1/target" "$other/target" >/dev/null 2>&1; then
            rm -r "$1/target"
            ln -s "../$(basename "$other")/target" "$1/target"
        fi
    done
)

# train_one NAME VARIANT
train_one() (
    name=$1 variant=$2 dir=$out/$1-$2
    [ ! -e "$dir/done" ] || return 0
    count=$pairs
    [ "$variant" != small ] || count=1000
    pairs_of "$name" "$count" "$out/data/$name-$count" 0
    pairs_of "$name" 32 "$out/data/$name-held" 1000000
    set -- --train-data-dir "$out/data/$name-$count" --validation-data-dir "$out/data/$name-held"
    [ "$variant" != mid ] || set -- "$@" --only-mid-control --reconnect-after $((steps / 2))
    began=$(date +%s)
    "$program" train -m "$base" "$@" --output-dir "$dir" --cache-dir "$out/cache" --resolution "$size" --train-batch-size "$batch" \
        --optimizer-type "$optimizer" --learning-rate "$rate" --lr-scheduler warmup_stable_decay --lr-warmup-steps 0 \
        --lr-decay-steps 0.3 --max-train-steps "$steps" --validation-steps "$every" --validation-count 32 \
        --checkpointing-steps "$every" --checkpoints-total-limit 1 --resume-from-checkpoint latest --seed 1
    echo "$(($(date +%s) - began))" >"$dir/seconds"
    : >"$dir/done"
)

# measure OUTFILE SHEET SCENES (--control-net DIR --condition KIND)...
measure() (
    file=$1 sheet=$2 count=$3
    shift 3
    [ ! -e "$file" ] || return 0
    [ -z "${MLSD:-}" ] || set -- "$@" --annotator-model "$MLSD"
    [ -z "${PIDINET:-}" ] || set -- "$@" --annotator-model "$PIDINET"
    "$program" pretrain --evaluate "$base" --seed "$seed" --held-out 0 --prompts 0 --pictures 0 --pairs 0 \
        --control-scenes "$count" --cfg-scale "$guidance" --reader "$out/reader.safetensors" --reader-steps "${READER_STEPS:-3000}" \
        --control-sheet "$sheet" --json "$@" >"$file.tmp"
    mv "$file.tmp" "$file"
)

mkdir -p "$out/data" "$out/sheets"
for name in $conditions; do
    for variant in $variants; do
        train_one "$name" "$variant"
        measure "$out/$name-$variant.json" "$out/sheets/$name-$variant.png" "$scenes" \
            --control-net "$out/$name-$variant" --condition "$(kind "$name")"
    done
done
for pair in $combined; do
    a=${pair%+*} b=${pair#*+}
    [ -e "$out/$a-full/done" ] && [ -e "$out/$b-full/done" ] || continue
    measure "$out/$pair.json" "$out/sheets/$pair.png" 50 --control-net "$out/$a-full" --condition "$(kind "$a")" \
        --control-net "$out/$b-full" --condition "$(kind "$b")"
done
python3 tools/proof-table.py "$out" "$conditions" "$variants" "$combined" >"$out/proof.md.tmp"
mv "$out/proof.md.tmp" "$out/proof.md"
if command -v montage >/dev/null; then
    set --
    for name in $conditions; do
        [ ! -e "$out/sheets/$name-full.png" ] || set -- "$@" -label "$name" "$out/sheets/$name-full.png"
    done
    montage "$@" -crop "$((4 * size))x$((2 * size))+0+0" +repage -tile 3x -geometry +8+8 -depth 8 "$out/sheet.png" ||
        echo "proof.sh: no sheet was put together" >&2
fi
echo "$out/proof.md"
