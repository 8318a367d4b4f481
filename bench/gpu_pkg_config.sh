#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A pkg-config for bench/gpu.sh, where the system has none and .gpu/ holds the packages.
for last; do :; done
case $* in
*--libs-only-L* | *--cflags* | *--exists*) ;;
*--libs*) [ "$last" != check ] || echo "-lcheck -lsubunit -lrt -lm -lpthread" ;;
esac
