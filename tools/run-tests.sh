#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run-tests.sh [BUILD [sanitized | gpu | NAME...]] - runs every test program and adds up what they report.
#
# gpu: all that runs on a device, of which the whole has a part. sanitized: unit, ops, golden and badinput alone, without those that measure memory. NAME: these programs.
# One line a program: name, result, seconds. A program that fails is shown in full, every skip with its
# reason. Closes with "N passed, N failed, N skipped"; exits 1 if anything failed, crashed, ran past
# CN_TEST_TIMEOUT seconds (900), was not built or reported no count.
# Programs report as cmocka does ("[  PASSED  ] N test(s).") or close with "N passed, N failed[, N skipped]".
# CN_LAVAPIPE (~/.cache/controlnet-lavapipe) is where tools/fetch-vulkan.sh has put a newer software Vulkan.
# CN_SHARED (../shared) holds the large reference data; where it is absent its runs are counted as skipped.
# CN_TEST_JOBS=N: N programs at a time, which stand in the order in which they end; what measures time, or makes
# as much as it can in a given time, comes behind them by itself.
# CN_TEST_LEAVE_OUT: names of unit and ops programs that are skipped.
set -u
cd "$(dirname "$0")/.." || exit 1

build=${1:-build}
[ $# -eq 0 ] || shift
sanitized=
[ "${1:-}" != sanitized ] || { sanitized=1 && shift; }
# Planned and real memory are compared there, and a sanitizer's own is in the latter.
measures=' unit_generate_memory unit_train_memory '
CN_SHARED=${CN_SHARED:-../shared}
LC_ALL=C
# threads that wait don't spin: tests share the machine with whatever else runs
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export CN_SHARED LC_ALL OMP_WAIT_POLICY
jobs=${CN_TEST_JOBS:-1}
passed=0 failed=0 skipped=0
log=$(mktemp) || exit 1
queue=$(mktemp -d) || exit 1
queued=0
trap 'rm -rf "$log" "$queue"' EXIT
trap 'exit 1' HUP INT TERM

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# Reads a program's output; prints "passed failed skipped reported".
count() {
    awk '
    /^\[  (PASSED|FAILED|SKIPPED) *\] [0-9]+ test\(s\)/ {
        n = $0
        sub(/^[^]]*\] /, "", n)
        sub(/ .*/, "", n)
        if ($2 == "PASSED") p += n; else if ($2 == "FAILED") f += n; else s += n
        any = 1
    }
    # Counts the tests whose setup failed too, which the line above leaves out.
    /^ *[0-9]+ FAILED TEST\(S\)$/ { all += $1 }
    /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { lp = $1; lf = $3; ls = $5; last = 1 }
    END { print p + lp, (all > f ? all : f) + lf, s + ls, any || last ? 1 : 0 }' "$log"
}

# show_skips NAME COUNT: the reasons that the program printed, and how many it kept to itself.
show_skips() {
    awk -v name="$1" -v count="$2" '
    /^[ \t]*(SKIP|skipped:)/ { sub(/^[ \t]+/, ""); print "    " name ": " $0; n++; next }
    /^\[  SKIPPED \] / && !/test\(s\)/ && !seen[$4]++ { tests = tests " " $4 }
    END {
        if (count > 0 && tests != "") print "    " name ": skipped:" tests
        if (count > 0 && n == 0) print "    " name ": " count " skipped without a reason"
    }' "$log"
}

# run NAME PROGRAM [ARGUMENT...]: now, or with the others of the queue.
run() {
    if [ "$jobs" -gt 1 ]; then
        queued=$((queued + 1))
        printf '%s\n' "$@" >"$queue/$queued"
    else
        run_now "$@"
    fi
}

# One of the queue, whose words stand in FILE: what it says in one piece, its numbers to FILE.count.
run_queued() {
    file=$1
    set --
    while IFS= read -r word; do set -- "$@" "$word"; done <"$file"
    run_now "$@" >"$file.said"
    cat "$file.said"
    echo "$passed $failed $skipped" >"$file.count"
}

run_queue() {
    seq 1 $queued | CN_TEST_JOBS=1 xargs -P "$jobs" -I '{}' sh tools/run-tests.sh "$build" queued "$queue/{}"
    for i in $(seq 1 $queued); do
        p=0 f=1 s=0 # unless it says otherwise
        [ ! -f "$queue/$i.count" ] || read -r p f s <"$queue/$i.count"
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    done
    rm -f "$queue"/*
    queued=0
}

# run_alone NAME PROGRAM [ARGUMENT...]: when all others have ended.
run_alone() {
    [ "$queued" = 0 ] || run_queue
    run_now "$@"
}

run_now() {
    name=$1
    shift
    if [ ! -x "$1" ]; then
        echo "FAIL  $name: $1 was not built"
        failed=$((failed + 1))
        return
    fi
    begin=$(now_ms)
    timeout -k 10 "${CN_TEST_TIMEOUT:-900}" "$@" >"$log" 2>&1 </dev/null
    status=$?
    ms=$(($(now_ms) - begin))
    set -- $(count)
    p=$1 f=$2 s=$3 why=
    if [ "$4" = 0 ]; then
        why="no count reported, exit status $status"
    elif [ "$status" = 124 ] || [ "$status" = 137 ]; then
        why="ran past its time, exit status $status"
    elif [ "$status" -ne 0 ] && [ "$f" = 0 ]; then
        why="exit status $status although no test failed"
    fi
    [ -z "$why" ] || f=$((f + 1))
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    result=ok
    [ "$f" = 0 ] || result=FAIL
    printf '%-5s %-36s %d passed, %d failed, %d skipped  %d.%02d s%s\n' "$result" "$name" "$p" "$f" "$s" \
        $((ms / 1000)) $((ms % 1000 / 10)) "${why:+  ($why)}"
    if [ "$f" != 0 ]; then
        sed 's/^/    | /' "$log"
    fi
    show_skips "$name" "$s"
}

# over_fixtures NAME SOURCE FOLDER: the program on the repository's fixtures, then on the large ones.
over_fixtures() {
    [ -f "$2" ] || [ -x "$build/tests/$1" ] || return 0
    run "$1 tests/golden/$3" "$build/tests/$1" "tests/golden/$3"
    over_shared "$1" "$3"
}

# over_shared NAME FOLDER: on the large ones alone.
over_shared() {
    if [ -d "$CN_SHARED/reference/$2" ]; then
        run "$1 $CN_SHARED/reference/$2" "$build/tests/$1" "$CN_SHARED/reference/$2"
    else
        echo "SKIP  $1 $CN_SHARED/reference/$2: the folder is absent (CN_SHARED names another)"
        skipped=$((skipped + 1))
    fi
}

finish() {
    [ "$queued" = 0 ] || run_queue
    if [ $((passed + failed)) = 0 ]; then
        echo "FAIL  no test ran"
        failed=1
    fi
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
    exit
}
# device NAME PROGRAM...: on the device that suits best.
device() {
    what=$1
    shift
    run "$what on Vulkan" "$(command -v env)" CN_DEVICE=vulkan "$@"
}

# newer NAME PROGRAM...: on the software Vulkan of tools/fetch-vulkan.sh. It starts PROGRAM alone, no other that this one starts.
newer() {
    what=$1
    shift
    run "$what on newer lavapipe" "$(command -v env)" CN_DEVICE=vulkan "$lavapipe/run" "$@"
}

# on_newer part|all: what Debian's driver takes long for, or hasn't.
on_newer() {
    lavapipe=${CN_LAVAPIPE:-${XDG_CACHE_HOME:-$HOME/.cache}/controlnet-lavapipe}
    if [ ! -x "$lavapipe/run" ]; then
        echo "SKIP  operations on newer lavapipe: tools/fetch-vulkan.sh hasn't put it into $lavapipe (CN_LAVAPIPE names another)"
        skipped=$((skipped + 1))
        return
    fi
    if ! why=$("$lavapipe/run" "$build/controlnet" devices 2>&1 >/dev/null); then
        echo "SKIP  operations on newer lavapipe: $why"
        skipped=$((skipped + 1))
        return
    fi
    families="conv linear"
    [ "$1" = part ] || families=$(grep -l OP_FAMILIES tests/ops/test_*.c | sed 's/.*test_//; s/\.c$//')
    for family in $families; do newer "ops_$family" "$build/tests/ops_$family"; done
    newer "golden tests/golden/core" "$build/tests/golden" tests/golden/core text_encoder
    newer unit_device_matrices "$build/tests/unit_device_matrices"
    [ "$1" = all ] || return 0
    for family in conv linear; do
        run "ops_$family in f16 on newer lavapipe" "$(command -v env)" CN_DEVICE=vulkan CN_PRECISION=f16 \
            "$lavapipe/run" "$build/tests/ops_$family"
    done
    printf '#!/bin/sh\nexec "%s/run" "%s/controlnet" "$@"\n' "$lavapipe" "$build" >"$queue/controlnet"
    chmod +x "$queue/controlnet"
    newer "e2e tests/golden/drawing in f16" "$build/tests/e2e" tests/golden/drawing --precision f16 --controlnet "$queue/controlnet"
}

# on_device part|all: operations, networks and drawings on a GPU, or on Mesa's software Vulkan.
on_device() {
    if ! why=$("$build/controlnet" devices 2>&1 >/dev/null); then
        echo "SKIP  operations and networks on Vulkan: $why"
        skipped=$((skipped + 1))
        return
    fi
    for source in tests/ops/test_*.c; do
        grep -q OP_FAMILIES "$source" || continue
        name=ops_$(basename "$source" .c | sed 's/^test_//')
        device "$name" "$build/tests/$name"
    done
    if [ "$1" = part ]; then
        device "golden tests/golden/core" "$build/tests/golden" tests/golden/core text_encoder
        device "e2e tests/golden/drawing, one" "$build/tests/e2e" tests/golden/drawing --case weights
        device "e2e tests/golden/drawing, one in f16" "$build/tests/e2e" tests/golden/drawing --case weights --precision f16
        return
    fi
    # the browser's software Vulkan, another's than Mesa: subgroups of 4, no F16
    swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
    if [ -f "$swiftshader" ]; then
        for name in $(grep -l OP_FAMILIES tests/ops/test_*.c | sed 's/.*test_/ops_/; s/\.c$//'); do
            run "$name on SwiftShader" "$(command -v env)" CN_DEVICE=vulkan VK_ICD_FILENAMES=$swiftshader "$build/tests/$name"
        done
    else
        echo "SKIP  operations on SwiftShader: Debian's chromium-common isn't installed"
        skipped=$((skipped + 1))
    fi
    run "kernels as CUDA" /bin/sh tools/check-cuda.sh
    for name in unit_device unit_device_optimizer unit_train_device; do device "$name" "$build/tests/$name"; done
    # lavapipe's subgroups are as wide as its vectors; other drivers don't look at this
    for width in 128 512; do
        run "unit_device with subgroups of $((width / 32))" "$(command -v env)" LP_NATIVE_VECTOR_WIDTH=$width "$build/tests/unit_device"
    done
    device "golden tests/golden/core" "$build/tests/golden" tests/golden/core text_encoder unet controlnet vae half train train_options
    device "golden tests/golden/sd2/core" "$build/tests/golden" tests/golden/sd2/core text_encoder controlnet unet
    for folder in pipelines sd2/pipelines drawing conditions inpainting distilled ip_adapter prompts sampling; do
        device "e2e tests/golden/$folder" "$build/tests/e2e" "tests/golden/$folder"
        device "e2e tests/golden/$folder in f16" "$build/tests/e2e" "tests/golden/$folder" --precision f16
    done
}

if [ "${1:-}" = queued ]; then
    run_queued "$2"
    exit
fi
if [ "${1:-}" = gpu ]; then
    on_device all
    on_newer all
    finish
fi
if [ $# -gt 0 ]; then
    for name; do run "$name" "$build/tests/$name"; done
    finish
fi
for kind in unit ops; do
    for source in tests/$kind/test_*.c; do
        [ -f "$source" ] || continue
        name=${kind}_$(basename "$source" .c | sed 's/^test_//')
        case " ${CN_TEST_LEAVE_OUT:-} " in *" $name "*)
            echo "SKIP  $name: left out by CN_TEST_LEAVE_OUT"
            skipped=$((skipped + 1))
            continue
            ;;
        esac
        if [ ! -x "$build/tests/$name" ] && grep -qE 'include "gpu/(gpu_ops|hazards|vk_)' "$source" &&
            "$build/controlnet" devices 2>&1 | grep -q 'this build has no Vulkan'; then
            echo "SKIP  $name: this build has no Vulkan"
            skipped=$((skipped + 1))
            continue
        fi
        if [ -n "$sanitized" ] && [ "${measures#* $name }" != "$measures" ]; then
            echo "SKIP  $name: memory isn't measured under a sanitizer"
            skipped=$((skipped + 1))
            continue
        fi
        # MPI unloads its plug-ins before leaks are looked for, so that leaks.txt can't name them.
        if [ -n "$sanitized" ] && [ "$name" = unit_ranks ]; then
            run "$name" "$(command -v env)" "ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0" "$build/tests/$name"
            continue
        fi
        run "$name" "$build/tests/$name"
    done
done
if [ -z "$sanitized" ]; then
    on_device part
    on_newer part
fi
if [ -n "$sanitized" ]; then
    run "golden tests/golden/core" "$build/tests/golden" tests/golden/core
    run badinput "$build/tests/badinput"
    finish
fi
over_fixtures golden tests/golden/golden.c core
over_shared golden sdxl/core
run "golden tests/golden/core, training options" "$build/tests/golden" tests/golden/core train_options
over_fixtures e2e tests/e2e/e2e.c pipelines
over_shared e2e sdxl
run "golden tests/golden/sd2/core" "$build/tests/golden" tests/golden/sd2/core text_encoder controlnet unet
run "e2e tests/golden/sd2/pipelines" "$build/tests/e2e" tests/golden/sd2/pipelines
run "e2e tests/golden/drawing" "$build/tests/e2e" tests/golden/drawing
run "e2e tests/golden/conditions" "$build/tests/e2e" tests/golden/conditions
run "e2e tests/golden/sampling" "$build/tests/e2e" tests/golden/sampling
run "e2e tests/golden/inpainting" "$build/tests/e2e" tests/golden/inpainting
run "e2e tests/golden/distilled" "$build/tests/e2e" tests/golden/distilled
run "e2e tests/golden/ip_adapter" "$build/tests/e2e" tests/golden/ip_adapter
run "e2e tests/golden/prompts" "$build/tests/e2e" tests/golden/prompts
run "annotators tests/golden/annotators" "$build/tests/annotators" tests/golden/annotators
if [ -d "$CN_SHARED/annotators" ]; then
    run "annotators $CN_SHARED/annotators" "$build/tests/annotators" "$CN_SHARED/annotators"
else
    echo "SKIP  annotators $CN_SHARED/annotators: the folder is absent (CN_SHARED names another)"
    skipped=$((skipped + 1))
fi
run "e2e tests/golden/sd2/pipelines in bf16" "$build/tests/e2e" tests/golden/sd2/pipelines --precision bf16
for type in f16 bf16 q8; do
    run "e2e tests/golden/pipelines, weights in $type" "$build/tests/e2e" tests/golden/pipelines --weight-type $type
done
# what other processors compute: the least that runs, a desktop's, an Intel server's without bfloat16
for isa in SSE41 AVX2 AVX512_CORE; do
    run "golden tests/golden/core, at most $isa" "$(command -v env)" ONEDNN_MAX_CPU_ISA=$isa "$build/tests/golden" tests/golden/core
done
run "e2e tests/golden/inpainting, at most AVX2" "$(command -v env)" ONEDNN_MAX_CPU_ISA=AVX2 "$build/tests/e2e" tests/golden/inpainting
[ ! -f tests/e2e/badinput.c ] || run badinput "$build/tests/badinput"
run badnets "$build/tests/badnets"
run files "$build/tests/files"
run lint /bin/sh tests/lint/lint.sh
run "kernels for matrix units" tools/matrix-kernels.sh --check
run install /bin/sh tests/e2e/install.sh "$build"
run "power loss" "$build/tests/replay"
run_alone bench /bin/sh tests/e2e/bench.sh "$build"
if command -v python3 >/dev/null; then
    run_alone "load of the server, a sample" "$(command -v python3)" tests/clients/load.py "$build/controlnet" 3 3
else
    echo "SKIP  load of the server: python3 isn't installed"
    skipped=$((skipped + 1))
fi
run_alone "torture, a sample" "$build/tests/torture" --seconds 25
run_alone "torture, a sample of memory" "$build/tests/torture" --kind alloc --seconds 15
[ ! -f tests/e2e/mutants.c ] || run_alone mutants "$build/tests/mutants"
finish
