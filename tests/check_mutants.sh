#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Mistakes that the tests have to see. Each tests/mutants/NAME.sed makes one in a copy of one source
# file; its second line says "# FILE: what is wrong then". The copy is compiled as the file is and
# linked before the library, where it stands in for the archive's member. The parity suite then has
# to fail by an assertion: a crash, or a mutant that does not build, shows nothing.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset CK_RUN_CASE CK_INCLUDE_TAGS CK_EXCLUDE_TAGS
CK_RUN_SUITE=parity CK_FORK=yes CK_VERBOSITY=normal
CK_DEFAULT_TIMEOUT=${CK_DEFAULT_TIMEOUT:-120}
export CK_RUN_SUITE CK_FORK CK_VERBOSITY CK_DEFAULT_TIMEOUT

fail() { # sentence; shows what was said
    cat "$work/said" >&2
    echo "check-mutants: $1" >&2
    exit 1
}

build() { # script, source file
    sed -f "$1" "$2" > "$work/mutant.c"
    if cmp -s "$2" "$work/mutant.c"; then
        fail "$1 changes nothing in $2"
    fi
    # shellcheck disable=SC2086 # lists of words
    {
        $NIN_COMPILE -c -o "$work/mutant.o" "$work/mutant.c" > "$work/said" 2>&1 ||
            fail "$1: the mutant of $2 does not compile"
        $NIN_LINK -o "$work/mutant" $NIN_TEST_OBJECTS "$work/mutant.o" $NIN_TEST_LIBS \
            > "$work/said" 2>&1 || fail "$1: the mutant of $2 cannot be linked"
    }
}

run() { # program; sets tests, failures and errors (what is no assertion)
    "$1" > "$work/said" 2>&1 || true
    # shellcheck disable=SC2046 # three words: 95%: Checks: 20, Failures: 1, Errors: 0
    set -- $(awk '/^[0-9]+%: Checks: / { print $3 + 0, $5 + 0, $7 + 0 }' "$work/said")
    [ $# -eq 3 ] || fail "the test program did not get to its end"
    tests=$1 failures=$2 errors=$3
}

: > "$work/said"
run "$NIN_TEST_PROGRAM"
[ "$failures $errors" = "0 0" ] || fail "the suite fails without a mutant"

mutants=0
caught=0
for script in tests/mutants/*.sed; do
    header=$(sed -n '2s/^# //p' "$script")
    name=$(basename "$script" .sed)
    build "$script" "${header%%: *}"
    run "$work/mutant"
    verdict="NOT CAUGHT"
    if [ "$errors" -gt 0 ]; then
        verdict="CRASHED"
    elif [ "$failures" -gt 0 ]; then
        verdict="caught"
        caught=$((caught + 1))
    fi
    mutants=$((mutants + 1))
    printf '%-10s %-20s %2d of %d tests fail: %s\n' "$verdict" "$name" "$failures" "$tests" \
        "${header#*: }"
    if [ "$verdict" != caught ]; then
        cat "$work/said"
    fi
done

echo "check-mutants: $caught of $mutants caught"
[ "$caught" -eq "$mutants" ]
