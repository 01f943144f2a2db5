#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# serve-clients.sh [BUILD] - other programs' clients and the page's test on `controlnet serve` with models/tiny-sd
# and a ControlNet of a few steps; schemathesis on a smaller model, made here.
#   VENV=DIR        a virtual environment with webuiapi, openai, schemathesis, selenium, axe-core-python, pillow; made
#                   there when it is absent (out/venv-clients). "none": what the system's python3 has
#   PICTURES=DIR    gets screenshots of the page, one of a training run of some minutes among them
# What isn't installed is skipped with a line. Exits 1 when something failed.
set -eu
cd "$(dirname "$0")/.."

build=${1:-build}
venv=${VENV:-out/venv-clients}
python=python3
bin=
if [ "$venv" != none ]; then
    if [ ! -x "$venv/bin/python" ]; then
        mkdir -p "$(dirname "$venv")"
        python3 -m venv "$venv"
        "$venv/bin/pip" -q install webuiapi openai schemathesis selenium axe-core-python pillow ||
            echo "not everything could be installed" >&2
    fi
    python=$venv/bin/python
    bin=$venv/bin/
fi

work=$(mktemp -d)
servers=
finish() {
    # shellcheck disable=SC2086
    [ -z "$servers" ] || kill $servers 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# serve NAME OPTION...: a server whose address comes into $work/NAME, its log into $work/NAME.log
serve() {
    name=$1
    shift
    "$build/controlnet" serve "$@" --port 0 --preview vae >"$work/$name" 2>"$work/$name.log" &
    pid=$!
    servers="$servers $pid"
    tries=0
    until [ -s "$work/$name" ]; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || ! kill -0 $pid 2>/dev/null; then
            cat "$work/$name.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

if [ -z "${CONTROL_NETS:-}" ]; then
    CONTROL_NETS=$work/nets
    "$build/controlnet" dataset scenes "$work/pairs" --count 4 --condition canny --simple >/dev/null 2>&1
    "$build/controlnet" train -m models/tiny-sd --train-data-dir "$work/pairs" --output-dir "$work/nets/canny" --resolution 128 \
        --train-batch-size 2 --max-train-steps 3 --learning-rate 1e-2 --validation-steps 0 --seed 1 >/dev/null 2>&1
fi
# training writes into the first folder of ControlNets
mkdir "$work/data" "$work/trained"
"$build/controlnet" dataset scenes "$work/data/edges" --count 12 --condition canny --simple >/dev/null 2>&1
if [ -n "${PICTURES:-}" ]; then
    "$build/controlnet" dataset scenes "$work/data/scribbles" --count 1600 --size 128 --condition scribble >/dev/null 2>&1
fi
# a second model, which differs in what its UNet is taken to give
cp -r models/tiny-sd "$work/other-sd"
sed -i 's/"prediction_type": *"[a-z_]*"/"prediction_type": "v_prediction"/' "$work/other-sd/scheduler/scheduler_config.json"
mkdir "$work/lora" && : >"$work/lora/ink.safetensors" # to be listed; nothing is drawn with it
serve whole -m models/tiny-sd -m "$work/other-sd" --control-nets "$work/trained" --data "$work/data" --lora-dir "$work/lora" \
    --control-nets "$CONTROL_NETS" --max-pixels 262144
# a fresh clone's: a base model and nothing else
serve bare -m models/tiny-sd
# one whose jobs are done at once, for thousands of requests
"$build/controlnet" pretrain --output-dir "$work/small-sd" --size 64 --latent-channels 4 --vae-widths 8,8,8,8 --unet-widths 16,16,16 \
    --unet-groups 4 --text-width 64 --scenes 32 --scenes-ahead 32 --vae-steps 1 --vae-batch 1 --unet-steps 1 --unet-batch 2 >/dev/null 2>&1
"$build/controlnet" train -m "$work/small-sd" --train-data-dir "$work/data/edges" --output-dir "$work/small-nets/canny" --resolution 64 \
    --train-batch-size 2 --max-train-steps 1 --validation-steps 0 >/dev/null 2>&1
serve small -m "$work/small-sd" --control-nets "$work/small-nets" --data "$work/data" --max-pixels 4096 --max-steps 50 --max-batch 2 --queue 8
address=$(cat "$work/whole")

status=0
echo "== clients"
timeout 300 "$python" tests/clients/clients.py "$address" || status=1
echo "== schemathesis"
if [ -x "${bin}schemathesis" ] || { [ -z "$bin" ] && command -v schemathesis >/dev/null; }; then
    # which names there are, a schema can't say: valid ones may be refused. A job that was cancelled is still there
    timeout 900 "${bin}schemathesis" run "$(cat "$work/small")/openapi.json" --max-examples "${EXAMPLES:-20}" \
        --exclude-path-regex '/events$' --exclude-checks positive_data_acceptance,use_after_free --request-timeout 120 --generation-deterministic --no-color || status=1
else
    echo "SKIP  schemathesis isn't installed"
fi
echo "== page"
if "$python" -c 'import selenium' 2>/dev/null && command -v chromedriver >/dev/null; then
    timeout 1800 "$python" tests/page/page.py "$address" ${PICTURES:+"$PICTURES"} || status=1
    timeout 300 "$python" tests/page/page.py "$(cat "$work/bare")" ${PICTURES:+"$PICTURES"} || status=1
else
    echo "SKIP  selenium, chromium or chromium-driver isn't installed"
fi
for name in whole bare small; do
    # a server that ended by itself has no answer
    "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/healthz", timeout=60)' "$(cat "$work/$name")" ||
        { echo "FAIL  the server $name ended" && tail -5 "$work/$name.log" && status=1; }
done
exit $status
