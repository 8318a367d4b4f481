#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The public functions: every name that include/nin declares NIN_API or NIN_CHECKED, sorted.
# What nin/experimental.h declares leaves through the static library only.
set -eu
cd "$(dirname "$0")/.."

for header in include/nin/*.h; do
    [ "$header" = include/nin/experimental.h ] || cat "$header"
done |
    # comments (over lines, so lines become one), then preprocessor lines with what they continue
    tr '\n' '\001' | sed 's:/\*[^*]*\*\{1,\}\([^/*][^*]*\*\{1,\}\)*/: :g' | tr '\001' '\n' |
    sed -e ':more' -e '/\\$/{N;s/\\\n/ /;b more' -e '}' -e '/^[[:space:]]*#/d' |
    # one declaration a line
    tr '\n' ' ' | sed 's/[;{}]/\n/g' |
    sed -n 's/.*NIN_\(API\|CHECKED\)[^(]*[^A-Za-z0-9_(]\(nin_[a-z0-9_]*\)[[:space:]]*(.*/\2/p' |
    LC_ALL=C sort -u
