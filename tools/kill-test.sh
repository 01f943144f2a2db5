#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kill-test.sh [BUILD] [KILLS] - kills a training run on models/tiny-sd with SIGKILL at random moments, KILLS (20)
# times, while it builds its cache, trains, validates and saves, and compares what it leaves with what a run that
# was never killed leaves, byte for byte. make test has the same on a model of a few thousand weights.
set -eu
cd "$(dirname "$0")/.."

build=${1:-build}
kills=${2:-20}
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

# start OUT: the run in the background; latest also where there is nothing yet
start() {
    "$build/controlnet" train -m models/tiny-sd --train-data-dir "$dir/circles" --output-dir "$1" \
        --resolution 128 --train-batch-size 4 --learning-rate 1e-3 --max-train-steps 24 --checkpointing-steps 2 \
        --checkpoints-total-limit 2 --validation-steps 12 --validation-count 2 --validation-sampling-steps 4 \
        --cache-latents-to-disk --resume-from-checkpoint latest >>"$1.log" 2>&1 &
    pid=$!
}

# below N: a whole number from 0 to N - 1
below() { echo $(($(od -An -N4 -tu4 /dev/urandom) % $1)); }

"$build/controlnet" dataset circles "$dir/circles" -n 96 --size 128 >/dev/null 2>&1
begin=$(date +%s%N)
start "$dir/whole"
wait "$pid" || { cat "$dir/whole.log"; exit 1; }
ms=$((($(date +%s%N) - begin) / 1000000))
echo "never killed: $ms ms"

n=0 folder=0
while [ "$n" -lt "$kills" ]; do
    start "$dir/killed-$folder"
    after=$(below "$ms")
    sleep "$((after / 1000)).$(printf %03d $((after % 1000)))"
    kill -9 "$pid" 2>/dev/null || true
    if wait "$pid" 2>/dev/null; then # it was done: the next ones begin in another folder
        cmp "$dir/whole/control.safetensors" "$dir/killed-$folder/control.safetensors"
        folder=$((folder + 1))
    else
        n=$((n + 1))
    fi
done
start "$dir/killed-$folder"
wait "$pid" || { cat "$dir/killed-$folder.log"; exit 1; }
pid=
# behind the header, where a checkpoint's files say which run they are of
tensors() { tail -c "+$(($(od -An -N8 -tu8 "$1") + 9))" "$1"; }
for name in control.safetensors diffusion_pytorch_model.safetensors checkpoint-24/optimizer.safetensors; do
    tensors "$dir/killed-$folder/$name" >"$dir/tensors"
    tensors "$dir/whole/$name" | cmp - "$dir/tensors"
done
echo "killed $n times, the same bytes"
