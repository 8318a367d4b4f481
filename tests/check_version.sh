#!/bin/sh
# SPDX-License-Identifier: MIT
#
# One version: VERSION = the macros of nin/version.h = what the library says = nin.pc = the
# library's file.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(cat VERSION)
failed=0

expect() { # what, value, wanted
    [ "$2" = "$3" ] && return
    echo "check-version: $1 says '$2', not '$3'" >&2
    failed=1
}

cat > "$work/version.c" << 'END'
#include <nin/nin.h>
#include <stdio.h>
int main(void)
{
    printf("%d.%d.%d %s %s %lu %lu\n", NIN_VERSION_MAJOR, NIN_VERSION_MINOR, NIN_VERSION_PATCH,
           NIN_VERSION_TEXT, nin_version_text(), (unsigned long)NIN_VERSION_NUMBER,
           (unsigned long)nin_version());
    return 0;
}
END
# shellcheck disable=SC2086 # a list of words
$CC -std=c99 -Iinclude -o "$work/version" "$work/version.c" ${NIN_FLAGS-} -L"$NIN_LIB" -lnin
number=$(echo "$version" | awk -F . '{ print $1 * 10000 + $2 * 100 + $3 }')
said=$(LD_LIBRARY_PATH=$NIN_LIB "$work/version")
expect "nin/version.h and the library" "$said" "$version $version $version $number $number"

$MAKE --silent install DESTDIR="$work/stage" PREFIX=/usr LIBDIR=/usr/lib \
    pkgconfigdir=/usr/lib/pkgconfig
expect "nin.pc" "$(sed -n 's/^Version: //p' "$work/stage/usr/lib/pkgconfig/nin.pc")" "$version"

soname=$(readelf -d "$NIN_LIB/libnin.so" | sed -n 's/.*(SONAME).*\[\(.*\)\].*/\1/p')
expect "the file behind $soname" "$(basename "$(readlink -f "$NIN_LIB/$soname")")" "libnin.so.$version"

[ $failed -eq 0 ] && echo "check-version: $version everywhere, $soname"
exit $failed
