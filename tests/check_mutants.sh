#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Mistakes that the tests have to see. Each tests/mutants/NAME.sed makes one in a copy of one source
# file, and says so in lines of comments:
#
#     # FILE: what is wrong then          the second line
#     # fails: TEST ...                   tests that see it, every one of them
#     # in: SUITE [CASE]                  where they are, if not in the parity suite
#     # through: SOURCE                   of a header: the source that includes it, as it is compiled for
#                                         every processor; the tests then run on that
#
# The copy is compiled as the file is and linked before the library, where it stands in for the
# archive's member. Then those tests have to fail by an assertion: a crash, or a mutant that does not
# build, shows nothing. Without the mutant nothing fails.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset CK_RUN_CASE CK_INCLUDE_TAGS CK_EXCLUDE_TAGS
CK_FORK=yes CK_VERBOSITY=normal
CK_DEFAULT_TIMEOUT=${CK_DEFAULT_TIMEOUT:-120}
export CK_FORK CK_VERBOSITY CK_DEFAULT_TIMEOUT

fail() { # sentence; shows what was said
    cat "$work/said" >&2
    echo "check-mutants: $1" >&2
    exit 1
}

build() { # script, source file
    through=$(header through "$1")
    mutant=$work/mutant.c
    [ -z "$through" ] || mutant=$work/quoted/${2#src/}
    mkdir -p "$(dirname "$mutant")"
    sed -f "$1" "$2" > "$mutant"
    if cmp -s "$2" "$mutant"; then
        fail "$1 changes nothing in $2"
    fi
    # shellcheck disable=SC2086 # lists of words
    {
        $NIN_COMPILE -iquote "$work/quoted" -c -o "$work/mutant.o" "${through:-$mutant}" \
            > "$work/said" 2>&1 ||
            fail "$1: the mutant of $2 does not compile"
        $NIN_LINK -o "$work/mutant" $NIN_TEST_OBJECTS "$work/mutant.o" $NIN_TEST_LIBS \
            > "$work/said" 2>&1 || fail "$1: the mutant of $2 cannot be linked"
    }
}

run() { # program, suite, case or nothing; sets tests, failures and errors (what is no assertion)
    env CK_RUN_SUITE="$2" ${3:+CK_RUN_CASE="$3"} ${through:+NIN_CPU_ISA=baseline} "$1" \
        > "$work/said" 2>&1 || true
    # shellcheck disable=SC2046 # three words: 95%: Checks: 20, Failures: 1, Errors: 0
    set -- $(awk '/^[0-9]+%: Checks: / { print $3 + 0, $5 + 0, $7 + 0 }' "$work/said")
    [ $# -eq 3 ] || fail "the test program did not get to its end"
    tests=$1 failures=$2 errors=$3
}

through=
sound="|"
check_sound() { # suite and case: that they pass without a mutant, once
    case $sound in *"|$1|"*) return ;; esac
    # shellcheck disable=SC2086 # two words
    run "$NIN_TEST_PROGRAM" $1
    [ "$failures $errors" = "0 0" ] || fail "$1: fails without a mutant"
    [ "$tests" -gt 0 ] || fail "$1: there is no such test"
    sound="$sound$1|"
}

blind() { # names of tests: those that have not failed; a failure is FILE:LINE:F:CASE:TEST:NUMBER: words
    for name in "$@"; do
        grep -q "^[^:]*:[0-9]*:F:[^:]*:$name:" "$work/said" || echo "$name"
    done
}

header() { # key, script: the words behind it
    sed -n "s/^# $1: //p" "$2"
}

: > "$work/said"
mutants=0
caught=0
for script in tests/mutants/*.sed; do
    rm -rf "$work/quoted"
    about=$(sed -n '2s/^# //p' "$script")
    where=$(header in "$script")
    where=${where:-parity}
    wanted=$(header fails "$script")
    [ -n "$wanted" ] || fail "$script names no test that fails"
    check_sound "$where"
    build "$script" "${about%%: *}"
    # shellcheck disable=SC2086 # lists of words
    {
        run "$work/mutant" $where
        missed=$(blind $wanted)
    }
    verdict="NOT CAUGHT"
    if [ "$errors" -gt 0 ]; then
        verdict="CRASHED"
    elif [ -z "$missed" ]; then
        verdict="caught"
        caught=$((caught + 1))
    fi
    mutants=$((mutants + 1))
    printf '%-10s %-20s %2d of %d tests fail: %s\n' "$verdict" "$(basename "$script" .sed)" \
        "$failures" "$tests" "${about#*: }"
    if [ "$verdict" != caught ]; then
        cat "$work/said"
        for name in $missed; do
            echo "$name should have failed"
        done
    fi
done

echo "check-mutants: $caught of $mutants caught"
[ "$caught" -eq "$mutants" ]
