#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs into a scratch folder, builds and runs a program that knows pkg-config only, shared and
# static, in C and C++, uninstalls and looks for what was left; tries folders that cannot be.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
programs=0

fail() {
    echo "check-install: $*" >&2
    exit 1
}

build_and_run() { # compiler, standard, source, pkg-config's name for the way, library folder
    # shellcheck disable=SC2086 # lists of words
    {
        flags=$($PKG_CONFIG --cflags nin)
        libs=$($PKG_CONFIG --libs nin)
        if [ "$4" = static ]; then
            libs=$($PKG_CONFIG --static --libs nin | sed 's/-lnin\>/-l:libnin.a/')
        fi
        $1 -std="$2" -Wall -Wextra -Wpedantic -Werror $flags -o "$work/program" "$3" ${NIN_FLAGS-} $libs ||
            fail "$3 as $2, $4, does not build with: $flags $libs"
    }
    if [ "$4" = static ] && readelf -d "$work/program" | grep -q 'NEEDED.*libnin'; then
        fail "$3 as $2 was to be linked statically"
    fi
    LD_LIBRARY_PATH=$5 "$work/program" > "$work/said" || {
        cat "$work/said"
        fail "$3 as $2, $4, fails"
    }
    programs=$((programs + 1))
}

try() { # destdir, prefix, library folder, header folder
    destdir=$1 libdir=$3
    places="PREFIX=$2 LIBDIR=$3 INCLUDEDIR=$4 pkgconfigdir=$3/pkgconfig"
    # shellcheck disable=SC2086 # a list of words
    $MAKE --silent install DESTDIR="$destdir" $places
    PKG_CONFIG_PATH=$destdir$libdir/pkgconfig
    PKG_CONFIG_SYSROOT_DIR=$destdir
    export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
    for way in shared static; do
        for standard in c99 c17; do
            build_and_run "$CC" $standard tests/outside/outside.c $way "$destdir$libdir"
        done
        build_and_run "$CXX" c++17 tests/outside/outside.cpp $way "$destdir$libdir"
    done
    unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR

    # a stranger's file beside ours has to survive
    touch "$destdir$libdir/theirs"
    # shellcheck disable=SC2086 # a list of words
    $MAKE --silent uninstall DESTDIR="$destdir" $places
    rm "$destdir$libdir/theirs" || fail "make uninstall removed a file that it did not install"
    left=$(find "$work/stage" "$work/prefix" ! -type d -o -name nin 2> /dev/null || true)
    [ -z "$left" ] || fail "make uninstall left $left"
}

try "$work/stage" /opt/of-nin /opt/of-nin/lib /opt/of-nin/include
try "$work/stage" /usr /usr/lib/somewhere /usr/include/nin-0
try "" "$work/prefix" "$work/prefix/lib" "$work/prefix/include"

# what is not there goes without a complaint
$MAKE --silent uninstall DESTDIR="$work/a place" PREFIX=/usr 2> "$work/said" || fail "make uninstall of nothing fails"
[ ! -s "$work/said" ] || fail "make uninstall of nothing says: $(cat "$work/said")"

# a folder that nin.pc could not name is refused before there is anything in it
for prefix in relative "$work/a b" "$work/a'b" "$work/a&b" "$work/a|b" "$work/a\\b"; do
    if $MAKE --silent install PREFIX="$prefix" 2> "$work/said"; then
        fail "make install takes PREFIX=$prefix"
    fi
    grep -q 'no path from the root\|nin.pc cannot hold' "$work/said" ||
        fail "make install PREFIX=$prefix says: $(cat "$work/said")"
    [ ! -e "$prefix" ] || fail "make install refuses PREFIX=$prefix, after it has begun"
done

echo "check-install: $programs programs built through pkg-config; nothing left after uninstall"
