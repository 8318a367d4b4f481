#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the suites that compare numbers once for each instruction set that is not the one that a context
# picks by itself, without the tests that go through all sets: NIN_TEST_PROGRAM is the test program.
set -eu

output=$(mktemp)
trap 'rm -f "$output"' EXIT
sets=baseline
! grep -qw avx2 /proc/cpuinfo || sets="$sets avx2"
! grep -qw avx512vl /proc/cpuinfo || sets="$sets avx512"
! grep -qw avx512_bf16 /proc/cpuinfo || sets="$sets avx512_bf16"
! grep -qw amx_bf16 /proc/cpuinfo || sets="$sets amx"

for name in ${sets% *}; do # all but the last
    for suite in ops gradients kernels bf16 parity determinism; do
        NIN_CPU_ISA=$name CK_EXCLUDE_TAGS="slow sets" CK_RUN_SUITE=$suite "$NIN_TEST_PROGRAM" > "$output" || {
            cat "$output" >&2
            echo "check-instructions: $suite fails with $name" >&2
            exit 1
        }
        echo "$suite with $name: $(tail -n 1 "$output")"
    done
done
echo "check-instructions: this machine has $sets"
