#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# serve-clients.sh [BUILD] - other programs' clients and the page's test on `controlnet serve` with models/tiny-sd
# and a ControlNet of two steps.
#   VENV=DIR        a virtual environment with webuiapi, openai, schemathesis, selenium, axe-core-python, pillow; made
#                   there when it is absent (out/venv-clients). "none": what the system's python3 has
#   PICTURES=DIR    gets screenshots of the page
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
server=
bare=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$bare" ] || kill "$bare" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

if [ -z "${CONTROL_NETS:-}" ]; then
    CONTROL_NETS=$work/nets
    "$build/controlnet" dataset scenes "$work/pairs" --count 4 --condition canny --simple >/dev/null 2>&1
    "$build/controlnet" train -m models/tiny-sd --train-data-dir "$work/pairs" --output-dir "$work/nets/canny" --resolution 128 \
        --train-batch-size 2 --max-train-steps 3 --learning-rate 1e-2 --validation-steps 0 --seed 1 >/dev/null 2>&1
fi
# training writes into the first folder of ControlNets
mkdir "$work/data" "$work/trained"
"$build/controlnet" dataset scenes "$work/data/edges" --count 12 --condition canny --simple >/dev/null 2>&1
# a second model, which differs in what its UNet is taken to give
cp -r models/tiny-sd "$work/other-sd"
sed -i 's/"prediction_type": *"[a-z_]*"/"prediction_type": "v_prediction"/' "$work/other-sd/scheduler/scheduler_config.json"
"$build/controlnet" serve -m models/tiny-sd -m "$work/other-sd" --control-nets "$work/trained" --data "$work/data" --control-nets "$CONTROL_NETS" --port 0 --preview vae --max-pixels 262144 --queue 1000 >"$work/address" 2>"$work/log" &
server=$!
# a fresh clone's: a base model and nothing else
"$build/controlnet" serve -m models/tiny-sd --port 0 --preview vae >"$work/bare" 2>"$work/bare-log" &
bare=$!
tries=0
until [ -s "$work/address" ] && [ -s "$work/bare" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 $server 2>/dev/null || ! kill -0 $bare 2>/dev/null; then
        cat "$work/log" "$work/bare-log" >&2
        exit 1
    fi
    sleep 0.1
done
address=$(cat "$work/address")

status=0
echo "== clients"
timeout 300 "$python" tests/clients/clients.py "$address" || status=1
echo "== schemathesis"
if [ -x "${bin}schemathesis" ] || { [ -z "$bin" ] && command -v schemathesis >/dev/null; }; then
    # which names there are, a schema can't say: valid ones may be refused. A job that was cancelled is still there
    timeout 900 "${bin}schemathesis" run "$address/openapi.json" --max-examples "${EXAMPLES:-20}" \
        --exclude-path-regex '/events$' --exclude-checks positive_data_acceptance,use_after_free --request-timeout 60 --generation-deterministic --no-color || status=1
else
    echo "SKIP  schemathesis isn't installed"
fi
echo "== page"
if "$python" -c 'import selenium' 2>/dev/null && command -v chromedriver >/dev/null; then
    timeout 900 "$python" tests/page/page.py "$address" ${PICTURES:+"$PICTURES"} || status=1
    timeout 300 "$python" tests/page/page.py "$(cat "$work/bare")" ${PICTURES:+"$PICTURES"} || status=1
else
    echo "SKIP  selenium, chromium or chromium-driver isn't installed"
fi
kill -0 $server 2>/dev/null || { echo "FAIL  the server ended" && tail -5 "$work/log" && status=1; }
exit $status
