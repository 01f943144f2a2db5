#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# strategies-sd15.sh OUT - the strategies of tools/strategies.sh at Stable Diffusion 1.5's size: a seeded base in f16,
# 512 px, a few steps of one pair, each run also killed and resumed. OUT takes 30 GB at most; a machine of 16 GB
# carries it, since unlocked bases are trained with 8-bit AdamW. STEPS (4), KILL, RUNS, MORE and BUILD from the environment.
set -eu
cd "$(dirname "$0")/.."

out=${1:?the folder for the model and the runs is missing}
[ -d "$out/model/base" ] || "${BUILD:-build}/bench" model --weights f16 --out "$out/model"
export STEPS="${STEPS:-4}" EVERY=0 PX=512 BATCH=1 LR=1e-5 PAIRS=8 KILL="${KILL-yes}" UNLOCKED="--use-8bit-adam"
exec tools/strategies.sh "$out/model/base" "" "$out"
