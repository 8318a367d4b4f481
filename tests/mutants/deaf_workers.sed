# SPDX-License-Identifier: MIT
# src/cpu/workers.c: workers block the signals of faults and of the profiler too
# in: context contexts
# fails: workers_take_only_signals_of_their_own
s/sigdelset(&mask, own_signals\[i\]);/sigaddset(\&mask, own_signals[i]);/
