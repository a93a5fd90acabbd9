"""The little of ONNX that tests write: tiny graphs of numbers, without the `onnx` package. Field numbers are those of onnx.proto."""


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def num(field, n):
    return varint(field << 3) + varint(n)


def sub(field, *parts):
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def node(op, inputs, output, *attributes):
    return sub(1, *[sub(1, name) for name in inputs], sub(2, output), sub(4, op), *attributes)


def attribute(name, value):
    return sub(5, sub(1, name), num(3, value), num(20, 2))


def tensor(name, array):
    """Of 32-bit floats."""
    return sub(5, *[num(1, n) for n in array.shape], num(2, 1), sub(8, name), sub(9, array.tobytes()))


def value(field, name, shape):
    """An input (field 11) or an output (12) of the graph: 32-bit floats, any number of items of this shape."""
    dims = [sub(1, sub(2, "n"))] + [sub(1, num(1, n)) for n in shape]
    return sub(field, sub(1, name), sub(2, sub(1, num(1, 1), sub(2, *dims))))
