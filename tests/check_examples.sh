#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Each numbered lesson runs to its end in an empty folder, says something, and complains about nothing.
set -eu

here=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
count=0
for lesson in examples/[0-9][0-9]_*.c; do
    program=$here/${lesson%.c}
    (cd "$scratch" && "$program" > out 2> err) || { cat "$scratch/err" >&2; echo "$lesson failed" >&2; exit 1; }
    [ -s "$scratch/out" ] || { echo "$lesson printed nothing" >&2; exit 1; }
    [ ! -s "$scratch/err" ] || { cat "$scratch/err" >&2; echo "$lesson complained" >&2; exit 1; }
    count=$((count + 1))
done
[ "$count" -gt 0 ]
echo "check-examples: $count lessons run"
