#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times training steps and forward passes of a preset in PyTorch, on the processor or on a GPU.

Three ways: eager, with channels_last, and compiled with channels_last; on a GPU a fourth, eager steps
of channels_last captured as a CUDA graph. The line is JSON, medians
in milliseconds; bf16 is autocast, tf32 there is on a GPU only. The loss is that of the first batch without dropout, which every
peer shares. Needs torch and numpy; compiling needs a C++ compiler, null stands where it fails.
"""
import json
import sys

import torch
from torch import nn
import torch.nn.functional as F

import nets

WAYS = {"cpu": ["eager", "channels_last", "compiled"],
        "cuda": ["eager", "channels_last", "compiled", "graphed"]}


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
        self.device = args.device
        self.model = build(shape).to(self.device)
        self.images = torch.from_numpy(nets.images(shape, args.batch)).to(self.device)
        self.labels = (torch.arange(args.batch) % nets.CLASSES).to(self.device)
        if way != "eager":
            self.model = self.model.to(memory_format=torch.channels_last)
            self.images = self.images.to(memory_format=torch.channels_last)
        if way == "compiled":
            self.model = torch.compile(self.model, dynamic=False)
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.autocast = args.precision == "bf16"
        self.graph = None

    def wait(self):
        """For what a GPU has been told to do."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def forward(self):
        """The loss of the batch."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            scores = self.model(self.images)
        return F.nll_loss(scores.float(), self.labels)

    def start_step(self):
        """One training step, which a GPU may not have ended yet."""
        loss = self.forward()
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()

    def capture(self):
        """Makes the step a CUDA graph, after some steps on a stream of their own, as PyTorch asks."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.start_step()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.start_step()

    def step(self):
        """One training step."""
        if self.graph is None:
            self.start_step()
        else:
            self.graph.replay()
        self.wait()

    def infer(self):
        """One forward pass."""
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16,
                                                    enabled=self.autocast):
            self.model(self.images)
        self.wait()


def measure(args, way):
    """Both medians of one way, and the loss before the first step."""
    runner = Runner(args, way)
    runner.model.eval()
    with torch.no_grad():
        loss = runner.forward().item()
    runner.model.train()
    if way == "graphed":
        runner.capture()
    step = nets.median_ms(runner.step, args.steps)
    runner.model.eval()
    infer = nets.median_ms(runner.infer, args.steps)
    return loss, {"step_ms": round(step, 3), "infer_ms": round(infer, 3)}


def main():
    """All ways, one line."""
    parser = nets.parser(__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", choices=sorted(WAYS), default="cpu")
    parser.add_argument("--tf32", action="store_true", help="on a GPU, with fp32")
    parser.add_argument("--ways", nargs="+", choices=WAYS["cuda"], help="not all of them")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    result = {"peer": "pytorch", "version": torch.__version__, "preset": args.preset,
              "batch": args.batch, "threads": torch.get_num_threads(),
              "precision": "tf32" if args.tf32 else args.precision, "device": args.device}
    if args.device == "cuda":
        result["gpu"] = torch.cuda.get_device_name()
    for way in args.ways or WAYS[args.device]:
        try:
            result["loss"], result[way] = measure(args, way)
        except (RuntimeError, AttributeError) as error:     # no compiler, or no torch.compile
            print(f"pytorch: {way}: {error}", file=sys.stderr)
            result[way] = None
    print(json.dumps(result))


if __name__ == "__main__":
    main()
