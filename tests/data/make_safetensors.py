#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes python.safetensors as Python's own library does: pip install safetensors numpy, then
python3 make_safetensors.py. The suite 'file' reads it into the network of the same names and shapes;
element i of each tensor is start + i / 8, exact in float32."""

import os

import numpy
from safetensors.numpy import save_file

SHAPES = [
    ("conv1.weight", (3, 2, 3, 3), 1.0),
    ("conv1.bias", (3,), -2.0),
    ("fc.weight", (4, 12), 100.0),  # a linear layer of PyTorch: units x inputs
    ("fc.bias", (4,), 0.5),
]


def tensor(shape, start):
    count = int(numpy.prod(shape))
    return (start + numpy.arange(count) / 8).astype(numpy.float32).reshape(shape)


tensors = {name: tensor(shape, start) for name, shape, start in SHAPES}
tensors["conv1.num_batches"] = numpy.array(7, dtype=numpy.int64)  # of no interest to us
tensors["half"] = numpy.zeros((5,), dtype=numpy.float16)
save_file(tensors, os.path.join(os.path.dirname(os.path.abspath(__file__)), "python.safetensors"),
          metadata={"format": "np"})
