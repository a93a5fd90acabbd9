"""Measures the range of every activation of the fp32 model on photos: the table that `quantize.py` applies.

A maintainer's script, run again only when the model changes; `make setup` applies the table that is kept.

Takes    the fp32 model and photos: DIR/labels.csv names them in its column `file`, relative to it. Every third is taken
         until there are 100. Needs numpy, onnx and protobuf as in `requirements.txt`, onnxruntime 1.31.1 and Pillow.
Gives    a table `tensor,min,max` with a header that says how it came about.

usage: calibrate.py FP32.onnx DIR OUT.csv
"""

import csv
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from PIL import Image, ImageOps

PHOTOS, STEP, SIZE = 100, 3, 224
HEADER = f"""\
# Smallest and largest value of each activation of EfficientNet-Lite0 (fp32) on photos; quantize.py applies them.
# Made by calibrate.py with ONNX Runtime {onnxruntime.__version__} and Pillow {Image.__version__} on {{photos}} photos: every third of the clothing photos, CC0,
# https://github.com/alexeygrigorev/clothing-dataset-small at commit 11961516512414bf9f6c150a832cfd21b54a6b54.
"""


def main(source, photos, target):
    model = onnx.load(source)
    wanted = activations(model.graph)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name != "embedding")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with (Path(photos) / "labels.csv").open(newline="") as f:
        files = [row["file"] for row in csv.DictReader(f)][::STEP][:PHOTOS]
    lowest, highest = np.full(len(wanted), np.inf), np.full(len(wanted), -np.inf)
    for file in files:
        values = session.run(wanted, {"input": prepared(Path(photos) / file)})
        lowest = np.minimum(lowest, [v.min() for v in values])
        highest = np.maximum(highest, [v.max() for v in values])
    with open(target, "w") as out:
        out.write(HEADER.format(photos=len(files)))
        out.write("tensor,min,max\n")
        out.writelines(f"{n},{low:.6g},{high:.6g}\n" for n, low, high in zip(wanted, lowest, highest, strict=True))


def activations(graph):
    """Outputs of the nodes that become bytes; of a convolution before a ReLU6 only what comes after it."""
    clipped = {n.input[0] for n in graph.node if n.op_type == "Clip"}
    kinds = ("Conv", "Clip", "Add", "Flatten")
    return [n.output[0] for n in graph.node if n.op_type in kinds and n.output[0] not in clipped]


def prepared(path):
    """As `Manifest::prepare`: the centre square of int(shorter side x 224 / 256), bicubic to 224, (byte - 127) / 128."""
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    side = int(min(picture.size) * 224 / 256)
    left, top = (-(-(length - side) // 2) for length in picture.size)
    square = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    values = (np.asarray(square, np.float32) - 127) / 128
    return values.transpose(2, 0, 1)[None]


if __name__ == "__main__":
    main(*sys.argv[1:])
