#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The headers are a product: each compiles alone, as every standard we promise, with every
# compiler that is there; every function they declare can be linked, from C and from C++; and
# they are the same file in every build.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
compiled=0

fail() {
    echo "check-headers: $*" >&2
    failed=1
}

compile() { # compiler, standard, file...
    compiler=$1 standard=$2
    shift 2
    compiled=$((compiled + 1))
    $compiler -std="$standard" -Wall -Wextra -Wpedantic -Werror -Iinclude "$@"
}

for header in include/nin/*.h; do
    name=${header#include/}
    # twice: the guard is part of it
    printf '#include <%s>\n#include <%s>\nextern int not_empty;\n' "$name" "$name" > "$work/one.c"
    cp "$work/one.c" "$work/one.cpp"
    for cc in "$CC" gcc clang; do
        command -v "${cc%% *}" > /dev/null || continue
        for standard in c99 c11 c17; do
            compile "$cc" $standard -fsyntax-only "$work/one.c" || fail "$name, $cc, $standard"
        done
    done
    for cxx in "$CXX" g++ clang++; do
        command -v "${cxx%% *}" > /dev/null || continue
        for standard in c++11 c++17; do
            compile "$cxx" $standard -fsyntax-only "$work/one.cpp" || fail "$name, $cxx, $standard"
        done
    done
done

{
    echo '#include <nin/nin.h>'
    echo 'typedef void (*function)(void);'
    echo 'extern function const every_function[];'
    echo 'function const every_function[] = {'
    sh tests/api_names.sh | sed 's/.*/    (function)&,/'
    echo '};'
    echo 'int main(void)'
    echo '{'
    echo '    unsigned i;'
    echo '    for (i = 0; i < sizeof(every_function) / sizeof(every_function[0]); i++)'
    echo '        if (!every_function[i])'
    echo '            return 1;'
    echo '    return 0;'
    echo '}'
} > "$work/every.c"
cp "$work/every.c" "$work/every.cpp"
link() { # compiler, standard, file
    # shellcheck disable=SC2086 # a list of words
    if ! compile "$1" "$2" "$3" -o "$work/every" ${NIN_FLAGS-} -L"$NIN_LIB" -lnin ||
        ! LD_LIBRARY_PATH=$NIN_LIB "$work/every"; then
        fail "linking every function as $2 with $1"
    fi
}
link "$CC" c99 "$work/every.c"
link "$CXX" c++11 "$work/every.cpp"

# Conditions may ask for the compiler, the language and the platform, and guard the file.
allowed='__cplusplus|__STDC_VERSION__|__STDC__|__GNUC__|__GNUC_MINOR__|__clang__|_MSC_VER|__has_attribute|_WIN32|__CYGWIN__|defined'
for header in include/nin/*.h; do
    guard=NIN_$(basename "$header" .h | tr 'a-z-' 'A-Z_')_H
    sed -n 's/^[[:space:]]*#[[:space:]]*\(ifndef\|ifdef\|if\|elif\)\>/\1/p' "$header" |
        sed -e 's:/\*.*::' -e 's/^[a-z]*//' | grep -o '[A-Za-z_][A-Za-z0-9_]*' |
        grep -v -E -x "($allowed|$guard)" > "$work/conditions" || continue
    fail "$header has a condition on $(tr '\n' ' ' < "$work/conditions")"
done

[ $failed -eq 0 ] && echo "check-headers: $compiled compilations without a warning"
exit $failed
