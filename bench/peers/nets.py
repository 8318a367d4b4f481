# SPDX-License-Identifier: MIT
"""What the Python peers and compare.py share: the nets of the presets, numbers that every peer
starts from, the options of bench/step, medians. Needs the standard library only; fill() numpy."""
import argparse
import statistics
import time
from typing import NamedTuple


class Layer(NamedTuple):
    """A convolution that keeps the size of its map, and whether pooling halves it then."""
    name: str
    inputs: int
    outputs: int
    kernel: int
    relu: bool
    pooled: bool


class Net(NamedTuple):
    """A preset: pool_pad pads both sides of a pooling; without it sizes are rounded up."""
    channels: int
    size: int
    pool_pad: int
    layers: list


NAMES = ["conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4", "conv3", "cccp5", "cccp6"]
CLASSES = 10


def net(channels, size, widths, kernels, pool_pad, last_relu):
    """A net from the outputs of its layers and the kernels of the first of each block."""
    layers, inputs = [], channels
    for i, (name, outputs) in enumerate(zip(NAMES, widths)):
        kernel = kernels[i // 3] if i % 3 == 0 else 1
        layers.append(Layer(name, inputs, outputs, kernel, last_relu or i < 8, i in (2, 5)))
        inputs = outputs
    return Net(channels, size, pool_pad, layers)


NETS = {
    "mnist": net(1, 28, [96, 64, 48, 128, 96, 48, 128, 96, CLASSES], [5, 5, 5], 1, False),
    "cifar10": net(3, 32, [192, 160, 96, 192, 192, 192, 192, 192, CLASSES], [5, 5, 3], 0, True),
}


def step_gflop(preset, batch):
    """What a training step takes by direct convolution, without the zeros of the padding: three
    products of every weight with every pixel it meets, in GFLOP."""
    shape, macs = NETS[preset], 0
    size = shape.size
    for layer in shape.layers:
        pad = layer.kernel // 2
        taps = layer.kernel * size - pad * (pad + 1)
        macs += layer.inputs * layer.outputs * taps * taps
        size = size // 2 if layer.pooled else size
    return 6e-9 * macs * batch


def fill(shape, tensor, bound):
    """Values in [-bound, bound] by hashing: the same bits in every peer."""
    import numpy as np
    h = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(2654435761)
    h += np.uint32((tensor * 40503 + 12345) % 2**32)
    h = (h ^ (h >> 16)) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> 15)) * np.uint32(0x846CA68B)
    u = (h ^ (h >> 16)).astype(np.float64) / 2.0**32
    return ((2.0 * u - 1.0) * bound).astype(np.float32).reshape(shape)


def parameters(shape):
    """Weights and bias of each layer, one pair after the other."""
    for i, layer in enumerate(shape.layers):
        weights = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        bound = (6.0 / (layer.inputs * layer.kernel**2)) ** 0.5
        yield fill(weights, 2 * i, bound), fill((layer.outputs,), 2 * i + 1, 0.1)


def images(shape, batch):
    """A batch; image i has label i % CLASSES."""
    return fill((batch, shape.channels, shape.size, shape.size), 893, 1.0)


def median_ms(function, repetitions, warm_up=3):
    """The median time of a call."""
    times = []
    for i in range(-warm_up, repetitions):
        start = time.perf_counter()
        function()
        if i >= 0:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def parser(description, **formatter):
    """The options of bench/step."""
    made = argparse.ArgumentParser(description=description, **formatter)
    made.add_argument("--preset", choices=sorted(NETS), default="mnist")
    made.add_argument("--batch", type=int, default=128)
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    return made
