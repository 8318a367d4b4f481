#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The lengths of functions and files, and the lines of each folder. Judges nothing: the tail needs
# a reason in review.
set -eu
cd "$(dirname "$0")/.."
command -v ctags > /dev/null || { echo "check-size: needs universal-ctags" >&2; exit 1; }

sources() { # folder
    find "$1" -maxdepth 1 -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) | LC_ALL=C sort
}

lengths() { # reads "lines name", one a line; prints one row of the table and the longest
    sort -n | awk -v what="$1" '
        { length_of[NR] = $1; name[NR] = $2 }
        END {
            if (NR == 0) exit
            printf "%-22s %6d %7d %9d %8d   %s\n", what, NR, length_of[int((NR + 1) / 2)],
                   length_of[int((NR * 9 + 9) / 10)], length_of[NR], name[NR]
        }'
}

functions() { # folder...
    for folder in "$@"; do
        sources "$folder"
    done | ctags -f - --c-kinds=f --fields=+ne -L - 2> /dev/null |
        awk -F '\t' '{
            from = to = 0
            for (i = 4; i <= NF; i++) {
                if ($i ~ /^line:/) from = substr($i, 6)
                if ($i ~ /^end:/) to = substr($i, 5)
            }
            if (to) print to - from + 1, $2 ":" $1
        }'
}

folders=$(find include src tests examples bench -type d 2> /dev/null | LC_ALL=C sort)

printf '%-22s %6s %7s %9s %8s\n' 'functions in' number median '9 of 10' longest
for folder in $folders; do
    functions "$folder" | lengths "$folder"
done
functions src/* | lengths 'all of src'
echo
echo 'longest functions of src'
functions src/* | sort -rn | head -n 10 | awk '{ printf "%6d   %s\n", $1, $2 }'
echo
printf '%-22s %6s %7s %9s %8s\n' 'files in' number median '9 of 10' longest
for folder in $folders; do
    sources "$folder" | xargs -r wc -l | awk '$2 != "total"' | lengths "$folder"
done
echo
printf '%-22s %6s %7s\n' 'lines in' all code
for folder in $folders; do
    files=$(sources "$folder")
    [ -n "$files" ] || continue
    # code: not empty, not only comment
    # shellcheck disable=SC2086 # a list of words
    cat $files | awk -v folder="$folder" '
        { all++; line = $0; gsub(/\/\*([^*]|\*[^\/])*\*\//, "", line) }
        inside { if (!sub(/.*\*\//, "", line)) next; inside = 0 }
        line ~ /\/\*/ { sub(/\/\*.*/, "", line); inside = 1 }
        line !~ /^[ \t]*$/ { code++ }
        END { printf "%-22s %6d %7d\n", folder, all, code }'
done
