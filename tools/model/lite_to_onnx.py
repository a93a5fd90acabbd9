"""EfficientNet-Lite0: state dict in, ONNX out, with numpy and onnx alone.

Takes    the published weights (a torch stream). Gives one graph:
             input `input`        float32 [N, 3, 224, 224], RGB, (byte - 127) / 128
             output `embedding`   float32 [N, 1280], the pooled features
             output `logits`      float32 [N, 1000]
Same     bytes on every run: the order of nodes is the order of the network, and nothing else goes in.

The network is the one of https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite: ReLU6, no
squeeze-and-excitation, padding as TensorFlow's SAME. Batch normalisation (epsilon 1e-3) is folded into the convolutions
in float64.

usage: lite_to_onnx.py WEIGHTS.pth OUT.onnx
"""

import math
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import pth_reader

EPSILON = 1e-3
SIZE = 224
OPSET = 13
IR_VERSION = 8

#         repeats, kernel, stride, expansion, channels in, channels out
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


def blocks():
    """Every block as (stride, expansion, channels in, channels out); only the first of a stage strides and widens."""
    for repeats, _, stride, expansion, wide_in, wide_out in STAGES:
        yield stride, expansion, wide_in, wide_out
        for _ in range(repeats - 1):
            yield 1, expansion, wide_out, wide_out


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.constants, self.used = weights, [], [], set()

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def take(self, key):
        self.used.add(key)
        return self.weights[key]

    def convolve(self, x, conv, norm, name, size, stride=1, groups=1, relu=True):
        """Adds convolution, folded normalisation and ReLU6; gives the output's name and its size in pixels."""
        weight = self.take(f"{conv}.weight")
        gamma, beta, mean, variance = (
            self.take(f"{norm}.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        self.take(f"{norm}.num_batches_tracked")
        scale = gamma / np.sqrt(variance + EPSILON)
        folded = weight.astype(np.float64) * scale[:, None, None, None]
        bias = beta - mean * scale

        kernel = weight.shape[-1]
        size_out = math.ceil(size / stride)
        padding = max((size_out - 1) * stride + kernel - size, 0)
        before, after = padding // 2, padding - padding // 2  # TensorFlow's SAME: the odd pixel comes last
        inputs = [
            x,
            self.constant(f"{name}_w", folded.astype(np.float32)),
            self.constant(f"{name}_b", bias.astype(np.float32)),
        ]
        self.nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [name],
                name,
                kernel_shape=[kernel, kernel],
                strides=[stride, stride],
                pads=[before, before, after, after],
                group=groups,
            )
        )
        if not relu:
            return name, size_out
        self.nodes.append(helper.make_node("Clip", [name, "zero", "six"], [f"{name}_relu6"], f"{name}_relu6"))
        return f"{name}_relu6", size_out


def build(weights):
    graph = Graph(weights)
    graph.constant("zero", np.float32(0))
    graph.constant("six", np.float32(6))
    x, size = graph.convolve("input", "_conv_stem", "_bn0", "stem", SIZE, stride=2)
    for i, (stride, expansion, wide_in, wide_out) in enumerate(blocks()):
        source, block, wide = x, f"_blocks.{i}.", wide_in * expansion
        if expansion != 1:
            x, size = graph.convolve(x, f"{block}_expand_conv", f"{block}_bn0", f"b{i}_expand", size)
        x, size = graph.convolve(x, f"{block}_depthwise_conv", f"{block}_bn1", f"b{i}_dw", size, stride, wide)
        x, size = graph.convolve(x, f"{block}_project_conv", f"{block}_bn2", f"b{i}_project", size, relu=False)
        if stride == 1 and wide_in == wide_out:
            graph.nodes.append(helper.make_node("Add", [x, source], [f"b{i}_add"], f"b{i}_add"))
            x = f"b{i}_add"
    x, size = graph.convolve(x, "_conv_head", "_bn1", "head", size)
    head = ["embedding", graph.constant("fc_w", graph.take("_fc.weight")), graph.constant("fc_b", graph.take("_fc.bias"))]
    graph.nodes += [
        helper.make_node("GlobalAveragePool", [x], ["gap"], "gap"),
        helper.make_node("Flatten", ["gap"], ["embedding"], "embedding", axis=1),
        helper.make_node("Gemm", head, ["logits"], "logits", transB=1),
    ]
    if graph.used != set(weights):
        raise ValueError(f"weights of another network: {sorted(graph.used ^ set(weights))[:5]}")
    return model_of(graph)


def model_of(graph):
    described = helper.make_graph(
        graph.nodes,
        "efficientnet_lite0",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 1280]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000]),
        ],
        graph.constants,
    )
    model = helper.make_model(described, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="lite_to_onnx")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    _, source, target = sys.argv
    onnx.save(build(pth_reader.load(source)), target)
