#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# demo.sh [BUILD] - trains a canny ControlNet on the shipped base model and draws with it (make demo).
#   PHOTO=FILE    draws from that photograph's edges too
#   DEMO_MINUTES  of training (7)
#   DEMO_ARGS     more options of `controlnet demo`
# Leaves out/demo/report.html and out/demo/summary.json. Exits 1 when control isn't above chance.
set -u
cd "$(dirname "$0")/.." || exit 1

build=${1:-build}
photo=${PHOTO:-}
status=0
# DEMO_ARGS is split on purpose.
# shellcheck disable=SC2086
"$build/controlnet" demo --model models/tiny-sd --output-dir out/demo \
    ${photo:+--photo "$photo"} ${DEMO_MINUTES:+--minutes "$DEMO_MINUTES"} ${DEMO_ARGS:-} || status=$?
if [ -f out/demo/report.html ]; then
    echo "open $(pwd)/out/demo/report.html in a browser; numbers: out/demo/summary.json"
fi
exit $status
