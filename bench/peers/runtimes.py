#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times forward passes of a preset in ONNX Runtime and in OpenVINO.

A line of JSON for each, medians in milliseconds at a batch of 1, of 8 and of --batch; bf16 is a
hint to OpenVINO only. The loss is that of the first batch, which every peer shares. Needs onnx and
numpy; of the two runtimes, one that is not installed is passed over.
"""
import importlib.util
import json
import os

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

import nets


# ---- the net as ONNX -----------------------------------------------------------------------------

def pool(shape, source, target):
    """The node of a max pooling."""
    return helper.make_node("MaxPool", [source], [target], kernel_shape=[3, 3], strides=[2, 2],
                            pads=[shape.pool_pad] * 4, ceil_mode=int(not shape.pool_pad))


def nodes_of(shape):
    """All nodes, from "images" to "scores", which is where nin_plan_forward ends."""
    last = "images"
    for layer in shape.layers:
        name = layer.name
        yield helper.make_node("Conv", [last, f"{name}.weight", f"{name}.bias"], [name],
                               kernel_shape=[layer.kernel] * 2, pads=[layer.kernel // 2] * 4)
        last = name
        if layer.relu:
            yield helper.make_node("Relu", [last], [f"{name}.relu"])
            last = f"{name}.relu"
        if layer.pooled:
            yield pool(shape, last, f"{name}.pool")
            last = f"{name}.pool"
    yield helper.make_node("GlobalAveragePool", [last], ["average"])
    yield helper.make_node("Flatten", ["average"], ["scores"])


def export(shape, batch):
    """The model for one batch size, as bytes."""
    weights = []
    for layer, (weight, bias) in zip(shape.layers, nets.parameters(shape)):
        weights.append(numpy_helper.from_array(weight, f"{layer.name}.weight"))
        weights.append(numpy_helper.from_array(bias, f"{layer.name}.bias"))
    source = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, [batch, shape.channels, shape.size, shape.size])
    target = helper.make_tensor_value_info(
        "scores", TensorProto.FLOAT, [batch, nets.CLASSES])
    graph = helper.make_graph(list(nodes_of(shape)), "nin", [source], [target], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


# ---- runtimes ------------------------------------------------------------------------------------

class OnnxRuntime:
    """ONNX Runtime's own provider for processors."""
    name, module, precisions = "onnxruntime", "onnxruntime", ["fp32"]

    def __init__(self, args):
        import onnxruntime
        self.library, self.version = onnxruntime, onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = args.threads
        self.options.inter_op_num_threads = 1

    def prepare(self, model, images):
        """A function without arguments that returns the scores."""
        session = self.library.InferenceSession(model, self.options,
                                                providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"images": images})[0]


class OpenVino:
    """OpenVINO's plugin for processors, one stream on all threads."""
    name, module, precisions = "openvino", "openvino", ["fp32", "bf16"]

    def __init__(self, args):
        import openvino
        self.library, self.version = openvino, openvino.__version__
        self.core = openvino.Core()
        self.config = {"INFERENCE_NUM_THREADS": args.threads, "NUM_STREAMS": 1,
                       "PERFORMANCE_HINT": "LATENCY",
                       "INFERENCE_PRECISION_HINT": "f32" if args.precision == "fp32" else "bf16"}

    def prepare(self, model, images):
        """A function without arguments that returns the scores."""
        compiled = self.core.compile_model(self.core.read_model(model), "CPU", self.config)
        request = compiled.create_infer_request()
        source = self.library.Tensor(images, shared_memory=True)

        def run():
            request.infer([source])     # holds on to it and its array
            return request.get_output_tensor().data
        return run


def measure(runtime, args):
    """The result of one runtime."""
    shape = nets.NETS[args.preset]
    result = {"peer": runtime.name, "version": runtime.version, "preset": args.preset,
              "batch": args.batch, "threads": args.threads, "precision": args.precision}
    for key, batch, repetitions in [("batch1_ms", 1, 400), ("batch8_ms", 8, 100),
                                    ("infer_ms", args.batch, args.steps)]:
        run = runtime.prepare(export(shape, batch), nets.images(shape, batch))
        right = run()[np.arange(batch), np.arange(batch) % nets.CLASSES]
        result["loss"] = round(float(-np.log(right).mean()), 7)     # the last one's stays
        result[key] = round(nets.median_ms(run, repetitions, warm_up=10), 3)
    return result


def main():
    """Those that are installed."""
    parser = nets.parser(__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    for runtime in (OnnxRuntime, OpenVino):
        if args.precision in runtime.precisions and importlib.util.find_spec(runtime.module):
            print(json.dumps(measure(runtime(args), args)), flush=True)


if __name__ == "__main__":
    main()
