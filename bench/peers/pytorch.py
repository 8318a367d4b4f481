#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times training steps and forward passes of a preset in PyTorch, on the processor.

Three ways: eager, with channels_last, and compiled with channels_last. The line is JSON, medians
in milliseconds; bf16 is autocast. The loss is that of the first batch without dropout, which every
peer shares. Needs torch and numpy; compiling needs a C++ compiler, null stands where it fails.
"""
import json
import sys

import torch
from torch import nn
import torch.nn.functional as F

import nets

WAYS = ["eager", "channels_last", "compiled"]


def build(shape):
    """The preset with dropout, log-softmax at its end."""
    modules = []
    for layer, (weights, bias) in zip(shape.layers, nets.parameters(shape)):
        conv = nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, padding=layer.kernel // 2)
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(weights))
            conv.bias.copy_(torch.from_numpy(bias))
        modules += [conv, nn.ReLU(inplace=True)] if layer.relu else [conv]
        if layer.pooled:
            pool = nn.MaxPool2d(3, stride=2, padding=shape.pool_pad, ceil_mode=not shape.pool_pad)
            modules += [pool, nn.Dropout(0.5)]
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LogSoftmax(-1))


class Runner:
    """A net prepared in one of the ways, with its batch and its optimizer."""

    def __init__(self, args, way):
        shape = nets.NETS[args.preset]
        self.model = build(shape)
        self.images = torch.from_numpy(nets.images(shape, args.batch))
        self.labels = torch.arange(args.batch) % nets.CLASSES
        if way != "eager":
            self.model = self.model.to(memory_format=torch.channels_last)
            self.images = self.images.to(memory_format=torch.channels_last)
        if way == "compiled":
            self.model = torch.compile(self.model, dynamic=False)
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.autocast = args.precision == "bf16"

    def forward(self):
        """The loss of the batch."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            scores = self.model(self.images)
        return F.nll_loss(scores.float(), self.labels)

    def step(self):
        """One training step."""
        loss = self.forward()
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()

    def infer(self):
        """One forward pass."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            self.model(self.images)


def measure(args, way):
    """Both medians of one way, and the loss before the first step."""
    runner = Runner(args, way)
    runner.model.eval()
    with torch.no_grad():
        loss = runner.forward().item()
    runner.model.train()
    step = nets.median_ms(runner.step, args.steps)
    runner.model.eval()
    infer = nets.median_ms(runner.infer, args.steps)
    return loss, {"step_ms": round(step, 2), "infer_ms": round(infer, 2)}


def main():
    """All ways, one line."""
    parser = nets.parser(__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    result = {"peer": "pytorch", "version": torch.__version__, "preset": args.preset,
              "batch": args.batch, "threads": torch.get_num_threads(),
              "precision": args.precision}
    for way in WAYS:
        try:
            result["loss"], result[way] = measure(args, way)
        except (RuntimeError, AttributeError) as error:     # no compiler, or no torch.compile
            print(f"pytorch: {way}: {error}", file=sys.stderr)
            result[way] = None
    print(json.dumps(result))


if __name__ == "__main__":
    main()
