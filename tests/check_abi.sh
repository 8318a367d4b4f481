#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Exported by libnin.so = declared in include/nin = the committed list, and libnin.a defines no
# name outside nin_.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

committed=tests/abi/nin.symbols
sh tests/api_names.sh > "$work/declared"
nm -D --defined-only "$NIN_LIB/libnin.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    LC_ALL=C sort -u > "$work/exported"

failed=0
same() { # file, file, sentence
    diff -u "$1" "$2" > "$work/diff" && return
    echo "check-abi: $3" >&2
    sed -n '3,$s/^\([-+]\)\(.*\)/    \1 \2/p' "$work/diff" >&2
    failed=1
}
[ -s "$work/declared" ] || { echo "check-abi: no function is declared in include/nin" >&2; exit 1; }
same "$work/declared" "$work/exported" "declared (-) and exported (+) differ"
same "$committed" "$work/declared" \
    "$committed (-) and the headers (+) differ; 'make abi-list' writes it anew"

if nm -g --defined-only "$NIN_LIB/libnin.a" | awk 'NF == 3 && $3 !~ /^nin_/ { print "    " $3 }' |
    LC_ALL=C sort -u | grep -v '^    __\(asan\|odr_asan\|ubsan\)' > "$work/foreign"; then
    echo "check-abi: libnin.a defines names that do not begin with nin_:" >&2
    cat "$work/foreign" >&2
    failed=1
fi

case ${NIN_FLAGS-} in
*-fsanitize*) ;; # a sanitizer's build keeps its asserts
*)
    if nm -D --undefined-only "$NIN_LIB/libnin.so" | awk '{ sub(/@.*/, "", $2); print "    " $2 }' |
        grep -wE '__assert_fail|abort|_?exit|quick_exit|v?f?printf|puts|putchar|perror' > "$work/loud"; then
        echo "check-abi: libnin.so never prints, exits or aborts, but calls:" >&2
        cat "$work/loud" >&2
        failed=1
    fi
    ;;
esac

[ $failed -eq 0 ] && echo "check-abi: $(wc -l < "$work/exported") functions, as declared and listed"
exit $failed
