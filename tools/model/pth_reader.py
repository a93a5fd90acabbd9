"""Reads a torch state dict in the stream format of torch before 1.6, with numpy alone.

Takes    a path. Gives an ordered dict of name -> array, contiguous.
Trust    only the globals named below are resolved and anything else is refused, so no code of the file runs.

The stream holds, in order: pickle of the magic number; pickle of the protocol, 1001; pickle of a dict about the system;
pickle of the state dict, in which a tensor is `_rebuild_tensor_v2(storage, offset, size, stride, ...)` and a storage is
the persistent id `('storage', type, key, device, elements, view)`; pickle of the storage keys in order of payload; then
for each key its element count as int64 and the raw elements, little endian.
"""

import collections
import pickle
import struct

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
ELEMENT_TYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if module == "torch" and name in ELEMENT_TYPES:
            return ELEMENT_TYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, size, stride, *_: (key, offset, tuple(size), tuple(stride))
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"refused {module}.{name}")

    def persistent_load(self, pid):
        _, element_type, key, _, count = pid[:5]
        self.storages[key] = (element_type, count)
        return key


def load(path):
    storages = {}

    def unpickle(file):
        return _Unpickler(file, storages).load()

    with open(path, "rb") as file:
        if unpickle(file) != MAGIC or unpickle(file) != PROTOCOL or not unpickle(file)["little_endian"]:
            raise ValueError(f"{path} is no little-endian torch stream")
        tensors = unpickle(file)
        payloads = {}
        for key in unpickle(file):
            element_type, expected = storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            if count != expected:
                raise ValueError(f"storage {key} holds {count} elements instead of {expected}")
            payloads[key] = np.frombuffer(file.read(count * np.dtype(element_type).itemsize), element_type, count)
    return collections.OrderedDict((name, _tensor(name, payloads, *t)) for name, t in tensors.items())


def _tensor(name, payloads, key, offset, size, stride):
    """Strides count: these files keep the order in memory that TensorFlow had (height, width, in, out)."""
    elements = payloads[key][offset:]
    last = sum((n - 1) * s for n, s in zip(size, stride))
    if last >= elements.size:
        raise ValueError(f"tensor {name} reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(elements, size, [s * elements.itemsize for s in stride]).copy()
