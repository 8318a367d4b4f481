#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What a GPU should need, on paper ('make cuda-report'): what each kernel takes of a multiprocessor, from the compiler;
# and for each node of a training step's graph FLOP and bytes, as the stand-in counts them (tests/cuda/traffic.cpp),
# with the time that they should take. Efficiencies are fixed, so that what a GPU then measures is held against something
# that nobody has fitted: 75 % of the peak in fp32, 50 % in TF32, 45 % in bf16, 85 % of the bandwidth, 1.5 us a node; and
# each node reads and writes memory, though a cache of 50 MB has much of what the one before wrote. A product of cuBLAS
# is one node here, of which a GPU may make two.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
running= # beside this
trap 'kill $running 2> /dev/null || :; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

BATCH=128
CUOBJDUMP=${CUOBJDUMP:-cuobjdump}

# Of names as C++ has them, what tells kernels from one another: the first field of each line.
short_names() {
    awk -F '\t' -v OFS='\t' '{
        gsub(/\(anonymous namespace\)::|\(cuda_layout\)/, "", $1)
        sub(/^void /, "", $1)
        sub(/\(.*/, "", $1)
        print
    }'
}

# ---- kernels -------------------------------------------------------------------------------------

# Everything that tools say about kernels of sm_90.
say_kernels() {
    for source in $(grep -l __global__ src/cuda/*.cu); do
        $NIN_PTX -o "$work/ptx" "$source"
        $NIN_PTXAS -v -arch=sm_90 -o "$work/cubin" "$work/ptx" 2>&1
        cat "$work/ptx"
        if command -v "$CUOBJDUMP" > "$work/disassembler"; then
            "$CUOBJDUMP" -sass "$work/cubin"
        fi
    done
}

# name, threads, registers, stack, spills, shared memory, and of instructions: FFMA, their share of the loop where it is
# largest, LDGSTS, to local memory, atomic on floats, HMMA
read_kernels() {
    awk -v OFS='\t' '
        function address(hex, value, i) {
            for (i = 1; i <= length(hex); i++) value = 16 * value + index("0123456789abcdef", substr(hex, i, 1)) - 1
            return value
        }
        /Compiling entry function/ { split($0, part, "\047"); name = part[2]; names[++count] = name }
        /bytes stack frame/ { stack[name] = $1; spills[name] = $5 + $9 }
        / Used .* registers/ {
            for (i = 3; i <= NF; i++) {
                if ($i ~ /^registers/) registers[name] = $(i - 1)
                if ($i ~ /^smem/) shared[name] = $(i - 2)
            }
        }
        /^\.entry|^\.visible \.entry/ { entry = $NF; sub(/\(.*/, "", entry) }
        /^\.maxntid/ { threads[entry] = $2 + 0 }
        /Function :/ { entry = $3; now = 0 }
        / FFMA[ .]/ { ffma[entry]++ }
        / HMMA[ .]/ { hmma[entry]++ }
        / LDGSTS[ .]/ { copies[entry]++ }
        / (LDL|STL)[ .]/ { local[entry]++ }
        / (ATOM|ATOMG|ATOMS|RED|REDG)\.[^ ]*F(16|32|64)/ { atomics[entry]++ }
        /^ +\/\*[0-9a-f]+\*\// {
            before[now] = ffma[entry]
            if (match($0, / BRA 0x[0-9a-f]+/)) {
                first = address(substr($0, RSTART + 7, RLENGTH - 7)) / 16
                if (first < now) {
                    share = (ffma[entry] - before[first]) / (now + 1 - first)
                    if (share > loop[entry]) loop[entry] = share
                }
            }
            now++
        }
        END {
            for (i = 1; i <= count; i++) {
                n = names[i]
                print n, threads[n], registers[n], stack[n], spills[n], shared[n] + 0,
                      ffma[n] + 0, loop[n] + 0, copies[n] + 0, local[n] + 0, atomics[n] + 0,
                      hmma[n] + 0
            }
        }'
}

# An sm_90 has 64 warps, 32 blocks, 65536 registers, given to warps by 256, and 228 KiB of shared memory, of which
# each block takes one more. A product that does not copy while it multiplies, or whose loop does something else, is
# slow without being wrong: threads with 64 sums and more are to multiply in three of five instructions, others in three
# of ten.
print_kernels() {
    awk -F '\t' -v disassembled="$1" '
        function least(a, b) { return a < b ? a : b }
        function judge(what, names) {
            printf "%s: %s\n", what, names == "" ? "none" : names
            if (names != "") bad = 1
        }
        BEGIN {
            printf "%7s %9s %5s %6s %6s %9s %5s %5s %5s %6s %5s  kernel\n", "threads", "registers", "stack", "spills",
                   "shared", "occupancy", "FFMA", "loop", "HMMA", "LDGSTS", "local"
        }
        {
            warps = $2 / 32
            blocks = least(32, int(64 / warps))
            blocks = least(blocks, int(65536 / (warps * 256 * int(($3 * 32 + 255) / 256))))
            blocks = least(blocks, int(228 * 1024 / (1024 + 128 * int(($6 + 127) / 128))))
            printf "%7d %9d %5d %6d %6d %8d%% ", $2, $3, $4, $5, $6, 100 * blocks * warps / 64
            if (disassembled) printf "%5d %4d%% %5d %6d %5d", $7, 100 * $8, $12, $9, $10
            else printf "%5s %5s %5s %6s %5s", "-", "-", "-", "-", "-"
            printf "  %s\n", $1
            if ($4 + $5 + $10 > 0) spilling = spilling " " $1
            if ($11 > 0) atomic = atomic " " $1
        }
        $1 ~ /^multiply_(rows|parts)</ {
            products++
            split($1, parameter, /[<,]/)
            share = parameter[3] * parameter[4] < 64 ? 0.3 : 0.6
            if ($9 == 0 || ($12 == 0 && $8 < share)) slow = slow " " $1
        }
        END {
            print ""
            judge("spills, stack or local memory", spilling)
            if (products == 0) slow = "there are no products at all"
            if (disassembled) {
                judge("products without LDGSTS, or with neither HMMA nor many FFMA in their loop", slow)
                judge("atomics on floats", atomic)
            } else print "no cuobjdump (CUOBJDUMP names it), so that nobody has looked at instructions"
            exit bad || NR == 0
        }'
}

report_kernels() {
    echo "== Kernels, sm_90"
    echo
    if [ -z "$NIN_PTX" ]; then
        echo "no nvcc, so nobody knows"
        return
    fi
    say_kernels > "$work/said"
    read_kernels < "$work/said" | c++filt | short_names | LC_ALL=C sort |
        print_kernels "$(test -s "$work/disassembler" && echo 1 || echo 0)"
}

# ---- nodes ---------------------------------------------------------------------------------------

# The second step of an epoch is the first that is a graph.
count() { # preset precision algorithm
    NIN_MODULE_DIR=$NIN_COUNTED OPENBLAS_NUM_THREADS=1 exec "$NIN_EPOCH" --device cuda --preset "$1" --precision "$2" \
        --algorithm "$3" --batch $BATCH --steps 2 > "$work/$1.$2.$3"
}

report_step() { # preset precision algorithm target
    nodes=$work/$1.$2.$3
    awk -F '\t' '$1 ~ /^kernel/ { print $2 }' "$nodes" | LC_ALL=C sort -u > "$work/places"
    addr2line -f -C -e "$NIN_COUNTED/libnin_cuda.so" < "$work/places" | awk 'NR % 2 == 1' | short_names |
        paste "$work/places" - > "$work/names"
    echo
    echo "== A training step of $1, batch $BATCH, $2, algorithm $3, on an H100"
    echo
    awk -F '\t' -v target="$4" '
        function most(a, b) { return a > b ? a : b }
        BEGIN {
            peak["fp32"] = peak["kernel"] = 0.75 * 66.9e6 # FLOP a us
            peak["tf32"] = peak["kernel in tf32"] = 0.5 * 494.7e6
            peak["bf16"] = peak["kernel in bf16"] = 0.45 * 989.4e6
            peak["copy"] = 1
            h100 = 0.85 * 3.35e6 # bytes a us
            h200 = 0.85 * 4.8e6
            printf "%4s %7s %6s %8s %8s %8s %6s  %s\n", "node", "us", "bound", "MFLOP", "MB read", "written", "blocks", "what"
        }
        NR == FNR { name[$1] = $2; next }
        {
            count++
            what = $1 ~ /^kernel/ ? name[$2] : $1 == "copy" ? "copy" : "cuBLAS, " $1 ": " $2
            sums = $5 / peak[$1]
            bytes = $6 + $7
            us = most(sums, bytes / h100) + 1.5
            printf "%4d %7.1f %6s %8.1f %8.2f %8.2f %6s  %s\n", count, us, (sums > bytes / h100 ? "FLOP" : "bytes"),
                   $5 / 1e6, $6 / 1e6, $7 / 1e6, $1 ~ /^kernel/ ? $3 : "", what
            all += us; on_h200 += most(sums, bytes / h200) + 1.5
            if ($5 > 0 && $6 == 0) lost = 1
            flop += $5; all_read += $6; written += $7; all_sums += sums
        }
        END {
            if (count == 0 || lost) {
                print "there is no graph, or a product whose operands nobody has seen coming"
                exit 1
            }
            printf "%4s %7.1f %6s %8.1f %8.2f %8.2f\n\n", "all", all, "", flop / 1e6, all_read / 1e6, written / 1e6
            printf "prediction: %.2f ms%s; %.2f on an H200, whose memory is faster; FLOP alone %.2f\n", all / 1e3,
                   target == "" ? "" : " (at most " target " is wanted)", on_h200 / 1e3, all_sums / 1e3
            printf "nodes: %d (at most 75 are wanted)\n", count
        }' "$work/names" "$nodes"
}

(count cifar10 fp32 auto) &
running=$!
good=1
report_kernels || good=0
(count mnist fp32 auto)
(count mnist tf32 auto)
(count mnist tf32 direct)
report_step mnist fp32 auto 0.95
report_step mnist tf32 auto 0.80
report_step mnist tf32 direct ''
wait $running
running=
report_step cifar10 fp32 auto ''
if (count mnist bf16 auto) 2> "$work/why"; then
    (count mnist bf16 direct)
    report_step mnist bf16 auto 0.45
    report_step mnist bf16 direct ''
else
    echo
    echo "mnist in bf16 (at most 0.45 ms is wanted): $(cat "$work/why")"
fi
[ $good = 1 ] || echo "cuda-report: kernels are not as they should be" >&2
[ $good = 1 ]
