# SPDX-License-Identifier: MIT
# src/core/prepared.c: weights are prepared once, not after each update
# fails: ten_steps_of_training
s/bool stale = set->forms\[i\]->version != version;/bool stale = version > 0 \&\& set->forms[i]->version == 0;/
