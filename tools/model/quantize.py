"""The fp32 graph and its calibration table in, the int8 graph out, with numpy and onnx alone.

Takes    the model that `lite_to_onnx.py` builds, and a table of the range of every activation (see `calibrate.py`).
Gives    the same network with 8-bit convolutions:
             input `input`        uint8 [N, 224, 224, 3], the RGB bytes as they lie in a picture
             output `embedding`   float32 [N, 1280]
             output `logits`      float32 [N, 1000]
Same     bytes on every machine: each number is rounded by itself (IEEE float64), nothing is summed up.

Written as QDQ: around every operation stand QuantizeLinear and DequantizeLinear, and the runtime fuses them. Weights are
int8 of at most 64 (ONNX Runtime's `reduce_range`), symmetric, with a scale for each output channel: CPUs without VNNI add
pairs of 8-bit products in 16 bits, which then never overflow, so every kernel gives the same numbers; activations are uint8 with one scale; biases int32. ReLU6 is what
the range of its output does anyway, so it is gone. The pooled mean stays in floating point: it costs nothing and is
what the vectors are.

usage: quantize.py FP32.onnx RANGES.csv OUT.onnx
"""

import csv
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8
#: 2 * 255 * 64 fits 16 bits.
WEIGHT_MAX = 64
#: Bytes are (byte - 127) / 128 to the fp32 graph; so this is exact, and the bytes themselves can go in.
INPUT_SCALE, INPUT_ZERO = np.float32(1 / 128), np.uint8(127)


class Quantizer:
    def __init__(self, graph, ranges):
        self.weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.ranges, self.nodes, self.constants = ranges, [], {}
        #: tensor of the fp32 graph -> its scale, and its name once it is an 8-bit tensor
        self.scales, self.bytes = {}, {}

    def constant(self, name, array):
        self.constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def add(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{output}_{kind}", **attributes))
        return output

    def grid(self, tensor):
        """Scale and zero point of an activation: its range, with 0 in it, on 0..255."""
        low, high = self.ranges[tensor]
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / 255)
        return scale, np.uint8(np.clip(np.rint(-low / np.float64(scale)), 0, 255))

    def quantized(self, source, tensor):
        """Brings `source` to bytes, known from now on as `tensor` of the fp32 graph."""
        scale, zero = self.grid(tensor)
        parameters = [self.constant(f"{tensor}_scale", scale), self.constant(f"{tensor}_zero", zero)]
        self.scales[tensor] = scale
        self.bytes[tensor] = self.add("QuantizeLinear", [source, *parameters], f"{tensor}_u8")

    def real(self, tensor, reader):
        """The bytes of `tensor` as numbers again; every reader has its own, or the runtime does not fuse them."""
        parameters = [f"{tensor}_scale", f"{tensor}_zero"]
        return self.add("DequantizeLinear", [self.bytes[tensor], *parameters], f"{tensor}_for_{reader}")

    def weight(self, name):
        """An int8 weight with one scale for each row of its first axis."""
        weight = self.weights[name].astype(np.float64)
        rows = weight.reshape(len(weight), -1)
        scale = (np.maximum(np.abs(rows).max(axis=1), 1e-12) / WEIGHT_MAX).astype(np.float32)
        bytes_ = rounded(rows / scale.astype(np.float64)[:, None])
        inputs = [
            self.constant(f"{name}_i8", bytes_.reshape(weight.shape)),
            self.constant(f"{name}_scale", scale),
            self.constant(f"{name}_zero", np.zeros(len(scale), np.int8)),
        ]
        return self.add("DequantizeLinear", inputs, f"{name}_real", axis=0), scale

    def bias(self, name, scale):
        """An int32 bias; its scale is given by what it is added to."""
        steps = np.rint(self.weights[name].astype(np.float64) / scale.astype(np.float64))
        inputs = [
            self.constant(f"{name}_i32", np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)),
            self.constant(f"{name}_scale", scale),
            self.constant(f"{name}_zero", np.zeros(len(scale), np.int32)),
        ]
        return self.add("DequantizeLinear", inputs, f"{name}_real", axis=0)

    def weighted(self, node, output):
        """A convolution or a matrix product on bytes; gives its output in numbers."""
        x, weight, bias = node.input
        weight, scale = self.weight(weight)
        inputs = [self.real(x, output), weight, self.bias(bias, self.scales[x] * scale)]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return self.add(node.op_type, inputs, f"{output}_real", **attributes)


def rounded(rows):
    """Whole numbers, each within one of what it stands for, whose sum over a row is nearest to the row's.

    Rounded to the nearest, the errors of a row add up, and as activations are mostly positive and alike the output moves
    by their sum: cosine to fp32 .9915 instead of .996. See SQuant, https://arxiv.org/abs/2202.07471.
    """
    whole = np.rint(rows)
    errors = np.rint((rows - whole) * 2**40).astype(np.int64)  # whole numbers, so their sum has no order
    for row, error in zip(whole, errors, strict=True):
        missing = int(np.rint(error.sum() / 2**40))
        nearest = np.argsort(-error * np.sign(missing), kind="stable")[: abs(missing)]
        row[nearest] += np.sign(missing)
    return np.clip(whole, -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)


def build(model, ranges):
    q = Quantizer(model.graph, ranges)
    q.constant("input_scale", INPUT_SCALE)
    q.constant("input_zero", INPUT_ZERO)
    q.scales["input"] = INPUT_SCALE
    q.bytes["input"] = q.add("Transpose", ["input"], "input_u8", perm=[0, 3, 1, 2])
    clips = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "Clip"}
    for node in model.graph.node:
        (output,) = node.output
        match node.op_type:
            case "Conv":
                tensor = clips.get(output, output)
                q.quantized(q.weighted(node, tensor), tensor)
            case "Clip":
                pass  # done by the range of its output
            case "Add":
                terms = [q.real(x, output) for x in node.input]
                q.quantized(q.add("Add", terms, f"{output}_real"), output)
            case "GlobalAveragePool":
                q.add("GlobalAveragePool", [q.real(node.input[0], output)], output)
            case "Flatten":
                q.quantized(q.add("Flatten", node.input, output, axis=1), output)
            case "Gemm":
                q.add("Identity", [q.weighted(node, output)], output)
            case other:
                raise ValueError(f"no rule for {other}")
    return model_of(q, model.graph.output)


def model_of(q, outputs):
    shape = ["N", 224, 224, 3]
    described = helper.make_graph(
        q.nodes,
        "efficientnet_lite0_int8",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, shape)],
        outputs,
        q.constants.values(),
    )
    model = helper.make_model(described, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="quantize")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def read_ranges(path):
    with open(path, newline="") as f:
        rows = csv.DictReader(line for line in f if not line.startswith("#"))
        return {row["tensor"]: (float(row["min"]), float(row["max"])) for row in rows}


if __name__ == "__main__":
    _, source, table, target = sys.argv
    onnx.save(build(onnx.load(source), read_ranges(table)), target)
