#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What to run first where there is a GPU: one stage after another, each in a few minutes, with one JSON file that is
# written anew after every stage. A stage that is done is not done again, so a run that was cut off goes on.
#
#     bench/gpu.sh [stage...]      all stages by default: machine build tests sanitizer speed quick reference
#
# Needs nvcc, cuBLAS, a C compiler and make; what else a bare machine lacks 'make gpu-bundle' puts into .gpu/.
# All goes to runs/gpu; what is to be kept, gpu.json and all.log, also to $OUT if that is set.
set -u
cd "$(dirname "$0")/.."
out=runs/gpu
mkdir -p "$out"
bundle=$PWD/.gpu/root
stages=${*:-machine build tests sanitizer speed quick reference}

# the libraries that came along, beside those of the system
if [ -d "$bundle" ]; then
    libraries=$bundle/usr/lib/x86_64-linux-gnu
    blas=$libraries/openblas-pthread
    CPPFLAGS="-isystem $bundle/usr/include -isystem $bundle/usr/include/x86_64-linux-gnu/openblas-pthread"
    LDFLAGS="-L$libraries -L$blas -Wl,-rpath-link,$libraries"
    LD_LIBRARY_PATH=$blas:$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    PKG_CONFIG=$PWD/bench/gpu_pkg_config.sh
    export CPPFLAGS LDFLAGS LD_LIBRARY_PATH PKG_CONFIG
fi
export NIN_MODULE_DIR="$PWD/lib"
# where the system does not look for cuBLAS by itself
cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$cuda/lib64:$cuda/targets/x86_64-linux/lib"
export PATH="$cuda/bin:$PATH"

seconds() {
    date +%s
}

machine() {
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader && nvcc --version | tail -1
}

build() {
    make -j"$(nproc)" lib examples/mnist_nin test-program CUDA=1 bench/step bench/epoch bench/infer
}

# suites that know no device, and what is particular to one; in one process each, which opens the GPU once
tests() {
    CK_FORK=no CK_RUN_CASE=training make check-cuda CUDA=1 CUDA_MODULE="$NIN_MODULE_DIR" \
        CUDA_SUITES='cuda stretch' || return 1
    CK_EXCLUDE_TAGS= CK_FORK=no make check-cuda CUDA=1 CUDA_MODULE="$NIN_MODULE_DIR" \
        CUDA_SUITES='gradients ops parity trainer'
}

sanitizer() {
    program=$(make -s print-test-program CUDA=1)
    for tool in memcheck initcheck synccheck; do
        NIN_TEST_DEVICE=cuda CK_FORK=no CK_RUN_SUITE=cuda CK_RUN_CASE=training \
            timeout 200 compute-sanitizer --target-processes all --tool $tool --error-exitcode 9 "$program" || return 1
    done
}

# libnin's step beside PyTorch's, in turns: ROUNDS of them, of PRESETS
speed() {
    for round in $(seq "${ROUNDS:-3}"); do
        for preset in ${PRESETS:-mnist cifar10}; do
            bench/step --device cuda --preset $preset --steps 200 || return 1
            bench/step --device cuda --preset $preset --steps 200 --precision tf32 || return 1
            NIN_CUDA_EPILOGUE=0 bench/step --device cuda --preset $preset --steps 200 || return 1
            NIN_CUDA_GRAPH=0 bench/step --device cuda --preset $preset --steps 200 || return 1
            bench/epoch --device cuda --preset $preset --steps 400 || return 1
            bench/infer --device cuda --preset $preset --steps 50 || return 1
            for precision in "" ${PEERS-"--tf32" "--precision=bf16"}; do
                # shellcheck disable=SC2086 # an option and its value, or nothing
                python3 bench/peers/pytorch.py --device cuda --preset $preset --steps 100 $precision ||
                    echo '{"peer": "pytorch", "missing": true}'
            done
        done
        echo "round $round"
    done
}

quick() {
    examples/mnist_nin --device cuda --recipe quick --seed 1
}

# goes on where a run was cut off
reference() {
    checkpoint=$out/reference.safetensors
    set -- --device cuda --recipe reference --checkpoint "$checkpoint" --curve "$out/reference.csv"
    [ ! -f "$checkpoint" ] || set -- "$@" --resume "$checkpoint"
    examples/mnist_nin "$@"
}

# a JSON string of a file's last lines
quoted() {
    tail -n "$2" "$1" | tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/ /g' |
        awk '{ if (NR > 1) printf "\\n"; printf "%s", $0 }'
}

report() {
    {
        printf '{"commit": "%s"' "$(git rev-parse --short HEAD 2> /dev/null)"
        for log in "$out"/*.log; do
            [ -f "$log" ] || continue
            name=$(basename "$log" .log)
            printf ',\n "%s": {"passed": %s, "output": "%s"}' "$name" \
                "$([ -f "$out/$name.done" ] && echo true || echo false)" "$(quoted "$log" 60)"
        done
        printf '}\n'
    } > "$out/gpu.json.part"
    mv "$out/gpu.json.part" "$out/gpu.json"
    if [ -n "${OUT:-}" ]; then
        cp "$out/gpu.json" "$OUT/"
        [ ! -f "$out/reference.csv" ] || cp "$out/reference.csv" "$OUT/"
        tail -n +1 "$out"/*.log > "$OUT/all.log"
    fi
}

failed=0
for stage in $stages; do
    [ ! -f "$out/$stage.done" ] || continue
    start=$(seconds)
    if "$stage" > "$out/$stage.log" 2>&1; then
        touch "$out/$stage.done"
        said=passed
    else
        failed=1
        said=FAILED
    fi
    echo "$stage: $said in $(($(seconds) - start)) s"
    [ $said = passed ] || tail -n 20 "$out/$stage.log"
    report
done
exit $failed
