"""The fp32 graph in; out the same, but it takes a picture as it lies in memory, as the int8 graph does.

Takes    the model that `lite_to_onnx.py` builds.
Gives    the same network, behind what makes its input of bytes:
             input `picture`      uint8 [N, 224, 224, 3], RGB, row by row
             output `embedding`   float32 [N, 1280]
             output `logits`      float32 [N, 1000]
Same     numbers: (byte - 127) / 128 is exact. A quarter of the bytes is copied for a picture, and cores make no floats of it.

usage: bytes_in.py FP32.onnx OUT.onnx
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def main(source, target):
    model = onnx.load(source)
    graph = model.graph
    constants = {"mean": np.float32(127), "scale": np.float32(1 / 128)}
    before = [
        helper.make_node("Transpose", ["picture"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["numbers"], "numbers", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["numbers", "mean"], ["centred"], "centred"),
        helper.make_node("Mul", ["centred", "scale"], ["input"], "input"),
    ]
    described = helper.make_graph(
        [*before, *graph.node],
        f"{graph.name}_bytes",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["N", 224, 224, 3])],
        graph.output,
        [*graph.initializer, *(numpy_helper.from_array(number, name) for name, number in constants.items())],
    )
    bytes_in = helper.make_model(described, opset_imports=model.opset_import, producer_name="bytes_in")
    bytes_in.ir_version = model.ir_version
    onnx.checker.check_model(bytes_in, full_check=True)
    onnx.save(bytes_in, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
