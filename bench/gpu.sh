#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What to run first where there is a GPU: stages of some parts each, a stage in less than eight minutes, with one JSON
# file that is written anew after every part. What has passed is not done again as long as the sources stay the same, so
# a run that was cut off goes on.
#
#     bench/gpu.sh             machine build smoke first_round tests sanitizer profile speed quick reference
#     bench/gpu.sh short       machine build smoke first_round: at most six minutes where there are 16 processors
#     bench/gpu.sh STAGE...    these; besides stand_in and paper, which need no GPU
#
#     LIMIT=SECONDS                  ends everything by then, in good order
#     ROUNDS=3 STEPS=200 BATCH=128   of what is timed
#     STAND_IN=1                     a rehearsal without a GPU, on the stand-in of tests/cuda_on_cpu; times mean nothing
#
# Needs nvcc, cuBLAS, a C and a C++ compiler and make; what else a bare machine lacks 'make gpu-bundle' puts into .gpu/.
# All goes to runs/gpu. To $OUT, if that is set, goes what is to be kept: gpu.json, all.log, and runs.tar, with which
# another machine goes on.
set -u
cd "$(dirname "$0")/.." || exit
out=runs/gpu${STAND_IN:+_stand_in}
bundle=$PWD/.gpu/root
mkdir -p "$out"

all="machine build smoke first_round tests sanitizer profile speed quick reference"
case ${*:-all} in
all) stages=$all ;;
short) stages="machine build smoke first_round" LIMIT=${LIMIT:-350} ;;
*) stages=$* ;;
esac
for stage in $stages; do
    case " $all stand_in paper " in
    *" $stage "*) ;;
    *)
        echo "gpu.sh: there is no stage '$stage'" >&2
        exit 2
        ;;
    esac
done

# the libraries that came along, beside those of the system; PyTorch brings its own
given_libraries=${LD_LIBRARY_PATH:-}
if [ -d "$bundle" ]; then
    libraries=$bundle/usr/lib/x86_64-linux-gnu
    blas=$libraries/openblas-pthread
    CPPFLAGS="-isystem $bundle/usr/include -isystem $bundle/usr/include/x86_64-linux-gnu/openblas-pthread"
    LDFLAGS="-L$libraries -L$blas -Wl,-rpath-link,$libraries"
    LD_LIBRARY_PATH=$blas:$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    PKG_CONFIG=$PWD/bench/gpu_pkg_config.sh
    export CPPFLAGS LDFLAGS LD_LIBRARY_PATH PKG_CONFIG
fi
# where the system does not look for cuBLAS by itself
cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$cuda/lib64:$cuda/targets/x86_64-linux/lib"
export PATH="$cuda/bin:$PATH"

# Code for the GPU that there is takes a fifth of the time that code for all takes.
options=CUDA=1
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d .)
! nvcc --list-gpu-code 2> /dev/null | grep -qx "sm_$capability" || options="CUDA=1 CUDA_CODE=$capability"

# shellcheck disable=SC2086 # options are words
program=$(make -s print-test-program $options 2> /dev/null)
if [ -n "${STAND_IN:-}" ]; then
    gpu="none: the stand-in"
    NIN_MODULE_DIR=$PWD/$(dirname "$program")/modules/stand_in
else
    gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | head -n 1)
    NIN_MODULE_DIR=$PWD/lib
fi
export NIN_MODULE_DIR

# ---- parts ---------------------------------------------------------------------------------------

now() {
    date +%s
}

# a JSON string of a file's last lines
quoted() { # file, lines
    tail -n "$2" "$1" | tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/ /g' |
        awk '{ if (NR > 1) printf "\\n"; printf "%s", $0 }'
}

report() {
    {
        printf '{"commit": "%s",\n "sources": "%s",\n "gpu": "%s",\n "parts": {' \
            "$(git rev-parse --short HEAD 2> /dev/null)" "$sources" "${gpu:-none}"
        separator=
        for state in "$out"/*.state; do
            [ -f "$state" ] || continue
            log=${state%.state}.log
            read -r seconds words < "$state"
            printf '%s\n  "%s": {"state": "%s", "seconds": %s, "output": "%s"}' \
                "$separator" "$(basename "$state" .state)" "$words" "$seconds" \
                "$([ ! -f "$log" ] || quoted "$log" 60)"
            separator=,
        done
        printf '},\n "results": ['
        awk '/^[{]/ {
            name = FILENAME
            sub(/.*\//, "", name)
            sub(/\.log$/, "", name)
            printf "%s\n  {\"part\": \"%s\", %s", separator, name, substr($0, 2)
            separator = ","
        }' "$out"/speed.*.log 2> /dev/null
        printf ']}\n'
    } > "$out/gpu.json.part"
    mv "$out/gpu.json.part" "$out/gpu.json"
    if [ -n "${OUT:-}" ]; then
        cp "$out/gpu.json" "$OUT/"
        tail -n +1 "$out"/*.log > "$OUT/all.log" 2> /dev/null
        tar cf "$OUT/runs.tar" "$out"
    fi
}

aside= # this is one of several shells
# of a part or of a stage; what is not "passed" is tried again
put_state() { # name, seconds, words
    echo "$2 $3" > "$out/$1.state"
    [ "$3" = passed ] || failed=1
    [ -n "$aside" ] || report
}

has_passed() { # name
    [ -f "$out/$1.state" ] && read -r _ words < "$out/$1.state" && [ "$words" = passed ]
}

# Runs a command, but no longer than so many seconds and than its stage may.
part() { # name, seconds, command...
    part=$1 limit=$2
    shift 2
    ! has_passed "$part" || return 0
    start=$(now)
    [ "$limit" -lt $((deadline - start)) ] || limit=$((deadline - start))
    if [ "$limit" -le 0 ]; then
        failed=1
        [ -f "$out/$part.state" ] || put_state "$part" 0 "not begun"
        return 0
    fi
    [ -z "$aside" ] || echo "0 cut off" > "$out/$part.state" # what becomes of one that ends with its shell
    timeout -k 5 "$limit" "$@" > "$out/$part.log" 2>&1
    case $? in
    0) result=passed ;;
    124 | 137) result="cut off" ;;
    127) result=missing ;;
    *) result=failed ;;
    esac
    echo "    $part: $result in $(($(now) - start)) s"
    [ "$result" = passed ] || tail -n 12 "$out/$part.log"
    put_state "$part" $(($(now) - start)) "$result"
}

# ---- stages --------------------------------------------------------------------------------------

# shellcheck disable=SC2016 # for the other shell
machine() {
    part machine 60 sh -c '
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no GPU"
        grep -m 1 "model name" /proc/cpuinfo
        echo "processors: $(nproc)"
        cc --version | head -n 1
        nvcc --version | tail -n 1
        for tool in compute-sanitizer cuobjdump git; do
            command -v $tool || echo "no $tool"
        done
        python3 -c "import torch; print(\"PyTorch\", torch.__version__)" 2> /dev/null || echo "no PyTorch"'
}

build() {
    # shellcheck disable=SC2086 # options are words
    part build 450 make -j"$(nproc)" $options lib test-program examples/mnist_nin bench/step bench/epoch bench/infer
}

# What is not timed goes side by side: a test program waits most of its time.
beside() { # as part
    (
        aside=1
        part "$@"
    ) &
}

# Waits for them; what one of them has found is reported then.
ended() { # what their names begin with
    wait
    for state in "$out/$1".*.state; do
        has_passed "$(basename "$state" .state)" || failed=1
    done
    report
}

# In one process, since one that has opened a GPU must not fork.
suite() { # part, seconds, suite, case or nothing
    beside "$1" "$2" env NIN_TEST_DEVICE=cuda CK_FORK=no CK_EXCLUDE_TAGS="$excluded" CK_RUN_SUITE="$3" \
        ${4:+CK_RUN_CASE=$4} "$program"
}

smoke() {
    excluded=long
    suite smoke.cuda 100 cuda training
    suite smoke.stretch 100 stretch training
    suite smoke.ops 100 ops
    suite smoke.cuda_bf16 100 cuda_bf16
    ended smoke
}

# What is particular to CUDA, as far as a GPU can run it, and suites that take the device that there is.
tests() {
    excluded=
    for suite in cuda stretch; do
        suite tests.$suite 300 $suite training
    done
    for suite in cuda_bf16 gradients ops parity trainer optimizer network builder checkpoint sharing; do
        suite tests.$suite 300 $suite
    done
    ended tests
}

# Kernels of cuBLAS are not searched for races between threads of a block; ours are in unnamed namespaces. Nor is memory
# that they write without the tool's noticing searched for what nobody has written, so only where there are none.
sanitizer() {
    while read -r tool suite case limit options; do
        # shellcheck disable=SC2086 # options are words
        beside "sanitizer.$tool.$suite.$case" "$limit" env NIN_TEST_DEVICE=cuda CK_FORK=no CK_EXCLUDE_TAGS=long \
            CK_RUN_SUITE="$suite" CK_RUN_CASE="$case" \
            compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 $options "$program" < /dev/null
    done << END
memcheck ops stacks 300
racecheck ops stacks 300 --kernel-name kns=_GLOBAL__N_
synccheck ops stacks 300 --kernel-name kns=_GLOBAL__N_
initcheck ops stacks 300
memcheck cuda training 300
racecheck cuda training 300 --kernel-name kns=_GLOBAL__N_
memcheck cuda_bf16 bf16 300
racecheck cuda_bf16 bf16 300 --kernel-name kns=_GLOBAL__N_
memcheck cuda_bf16 tf32 300
racecheck cuda_bf16 tf32 300 --kernel-name kns=_GLOBAL__N_
memcheck stretch training 300
racecheck stretch training 300 --kernel-name kns=_GLOBAL__N_
initcheck gradients differences 300
memcheck gradients differences 300
memcheck ops layers 300
END
    ended sanitizer
}

# What each kernel of a step does, and why it waits; a step of kernels one by one, after those that warm up.
profile() {
    for precision in fp32 tf32 bf16; do
        part profile.$precision 120 env NIN_CUDA_GRAPH=0 ncu --clock-control none --csv --page raw \
            --log-file "$out/profile.$precision.csv" --launch-skip 160 --section LaunchStats \
            --section SpeedOfLight --section Occupancy --section WarpStateStats --section SchedulerStats \
            bench/step --device cuda --preset "${PRESET:-mnist}" --steps 1 --batch "${BATCH:-128}" \
            --precision $precision --algorithm "${ALGORITHM:-auto}"
    done
}

# libnin's steps and PyTorch's, in turns
measure() { # round, preset, ways of PyTorch
    of=speed.$1.$2 preset=$2 ways=$3
    set -- --device cuda --preset "$preset" --steps "${STEPS:-200}" --batch "${BATCH:-128}"
    for precision in fp32 tf32 bf16; do
        for bench in step epoch infer; do
            part "$of.$precision.$bench" 60 bench/$bench "$@" --precision $precision
        done
        [ $precision = fp32 ] || part "$of.$precision.direct" 60 bench/epoch "$@" --precision $precision --algorithm direct
    done
    part "$of.fp32.biases_apart" 60 env NIN_CUDA_EPILOGUE=0 bench/step "$@"
    part "$of.fp32.no_graph" 60 env NIN_CUDA_GRAPH=0 bench/step "$@"
    [ -n "$peer" ] || return 0
    for precision in --precision=fp32 --tf32 --precision=bf16; do
        # shellcheck disable=SC2086 # ways are words
        part "$of.${precision##*[-=]}.pytorch" 150 env LD_LIBRARY_PATH="$given_libraries" \
            python3 bench/peers/pytorch.py "$@" $precision --ways $ways
    done
}

find_peer() {
    peer=$(LD_LIBRARY_PATH=$given_libraries python3 -c 'import torch; print(torch.__version__)' 2> /dev/null)
    [ -n "$peer" ] || echo "    no PyTorch, so libnin is timed alone"
}

# the first round without what takes longest, compiling
first_round() {
    find_peer
    measure 1 mnist "eager channels_last graphed"
}

speed() {
    find_peer
    for round in $(seq "${ROUNDS:-3}"); do
        measure "$round" mnist "eager channels_last compiled graphed"
        measure "$round" cifar10 "eager channels_last compiled graphed"
    done
}

quick() {
    part quick 300 examples/mnist_nin --device cuda --recipe quick --seed 1
}

# goes on where a run was cut off
reference() {
    checkpoint=$out/reference.safetensors
    set -- --device cuda --recipe reference --checkpoint "$checkpoint" --curve "$out/reference.csv"
    [ ! -f "$checkpoint" ] || set -- "$@" --resume "$checkpoint"
    part reference 470 examples/mnist_nin "$@"
}

stand_in() {
    part stand_in.blas_lt 200 make CUDA=1 check-cuda-lt
    part stand_in.cuda 400 make CUDA=1 check-stand-in
    part stand_in.suites 400 make CUDA=1 check-cuda
}

paper() {
    part paper 470 make -j"$(nproc)" CUDA=1 cuda-report
}

# ---- all of them ---------------------------------------------------------------------------------

sources=$(find Makefile include src tests bench examples -type f '(' -name '*.*' -o -name Makefile ')' ! -name '*.pyc' \
    -exec cksum {} + | LC_ALL=C sort | cksum)
if [ "$sources" != "$(cat "$out/sources" 2> /dev/null)" ]; then
    rm -rf "$out"
    mkdir -p "$out"
    echo "$sources" > "$out/sources"
fi

end=$(($(now) + ${LIMIT:-1000000}))
all_passed=1
for stage in $stages; do
    case $stage in
    machine | build) rm -f "$out/$stage.state" ;; # this may be another one
    stand_in | paper) ;;
    *)
        if [ -z "$gpu" ]; then
            put_state "$stage" 0 "no GPU"
            echo "$stage: no GPU"
            all_passed=0
            continue
        fi
        has_passed "$stage" || rm -f "$out/$stage.state"
        ;;
    esac
    start_of_stage=$(now)
    deadline=$((start_of_stage + 470))
    [ "$deadline" -lt "$end" ] || deadline=$end
    failed=0
    "$stage"
    if [ $failed = 0 ]; then
        echo "$stage: passed in $(($(now) - start_of_stage)) s"
    else
        echo "$stage: NOT passed in $(($(now) - start_of_stage)) s"
        all_passed=0
        [ "$stage" != build ] || break
    fi
done
report
[ $all_passed = 1 ]
