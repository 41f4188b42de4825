"""Which other files an ONNX file names, read from its bytes: a device has no onnx package to ask.

Source: onnx/onnx.proto, message numbers as given there; protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from export.errors import SecurityError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5

_INSIDE = {
    "model": {7: "graph", 25: "function", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {},
}
"""Message -> field number -> the message in it, as far as tensors can be reached."""

_DEEPEST = 64


def external_files(model: bytes) -> list[str]:
    """The values of `location` of all external data, in any graph, function or attribute.

    Raises:
        SecurityError: if the bytes are not those of a protobuf message, or are nested too deep.
    """
    return list(_locations(memoryview(model), "model", 0))


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise SecurityError("an ONNX file nests its graphs too deep; nothing was loaded")
    entry = {}
    for number, value in _fields(message):
        inside = _INSIDE[kind].get(number)
        if inside is not None:
            yield from _locations(value, inside, depth + 1)
        elif kind == "external":
            entry[number] = bytes(value).decode("utf-8", errors="replace")
    if entry.get(1) == "location":
        yield entry.get(2, "")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of the fields that have a length; the others are passed over."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag >> 32:  # one parser cuts the bits off, another refuses them: what field it is depends on the reader
            raise SecurityError("a file that ends in .onnx is no ONNX file; nothing was loaded")
        kind = tag & 7
        if kind == _VARINT:
            _, place = _varint(message, place)
        elif kind in (_EIGHT, _FOUR):
            place += 8 if kind == _EIGHT else 4
        elif kind == _BYTES:
            length, place = _varint(message, place)
            if place + length > len(message):
                raise SecurityError("an ONNX file is cut short; nothing was loaded")
            yield tag >> 3, message[place : place + length]
            place += length
        else:
            raise SecurityError("a file that ends in .onnx is no ONNX file; nothing was loaded")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise SecurityError("an ONNX file is cut short; nothing was loaded")
        byte = message[place]
        value, place = value | (byte & 127) << shift, place + 1
        if byte < 128:
            return value, place
    raise SecurityError("a file that ends in .onnx is no ONNX file; nothing was loaded")
