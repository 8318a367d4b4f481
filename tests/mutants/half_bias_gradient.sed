# SPDX-License-Identifier: MIT
# src/cpu/conv.c: the gradient of a bias is half of what it should be
s/put(\(.*\), db\[o\],/put(\1, 0.5f * db[o],/
