# SPDX-License-Identifier: MIT
# src/cpu/lanes.c: what the last of several lanes has summed is lost
# fails: ten_steps_of_training
/int32_t nodes = lanes->count, node = lane;/a\
    if (lane > 0 && lane == lanes->count - 1)\
        memset(buffer, 0, lanes->floats * sizeof *buffer);
