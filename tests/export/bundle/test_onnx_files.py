"""The reader of ONNX files against the onnx package: its own description of the format, and models that it writes."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper

from export.bundle.onnx_files import _INSIDE, external_files
from export.errors import SecurityError

KINDS = {
    "ModelProto": "model",
    "TrainingInfoProto": "training",
    "FunctionProto": "function",
    "GraphProto": "graph",
    "NodeProto": "node",
    "AttributeProto": "attribute",
    "SparseTensorProto": "sparse",
    "TensorProto": "tensor",
    "StringStringEntryProto": "external",
}


def reaches_tensors(message: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    if message.name == "TensorProto" or message.name in seen:
        return message.name == "TensorProto"
    below = [field.message_type for field in message.fields if field.message_type is not None]
    return any(reaches_tensors(inside, seen | {message.name}) for inside in below)


def test_every_field_through_which_a_tensor_can_be_reached_is_followed() -> None:
    """From the descriptors of the installed onnx, so that a field of a later version fails here."""
    waiting, done = [ModelProto.DESCRIPTOR], set[str]()
    while waiting:
        message = waiting.pop()
        if message.name in done or message.name == "TensorProto":
            continue
        done.add(message.name)
        expected = {
            field.number: KINDS[field.message_type.name]
            for field in message.fields
            if field.message_type is not None and reaches_tensors(field.message_type)
        }
        assert _INSIDE[KINDS[message.name]] == expected, message.name
        waiting += [field.message_type for field in message.fields if field.number in expected]
    external = TensorProto.DESCRIPTOR.fields_by_name["external_data"]
    assert _INSIDE["tensor"] == {external.number: "external"}
    assert done | {"TensorProto", "StringStringEntryProto"} == set(KINDS)


def outside(location: str = "../secret") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(*nodes: NodeProto, tensors: tuple[TensorProto, ...] = ()) -> GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(tensors))


def constant() -> NodeProto:
    return helper.make_node("Constant", [], ["c"], value=outside())


def branch(inside: GraphProto) -> NodeProto:
    return helper.make_node("If", ["c"], ["y"], then_branch=inside, else_branch=graph())


def looped(depth: int) -> GraphProto:
    inside = graph(tensors=(outside(),))
    for _ in range(depth):
        inside = graph(helper.make_node("Loop", ["n", "c"], ["y"], body=inside))
    return inside


def in_function() -> ModelProto:
    model = helper.make_model(graph())
    model.functions.append(helper.make_function("d", "f", [], ["c"], [constant()], [helper.make_opsetid("", 17)]))
    return model


def in_function_default() -> ModelProto:
    function = helper.make_function("d", "f", [], ["c"], [], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("value", outside()))
    return helper.make_model(graph(), functions=[function])


def in_sparse(part: str) -> ModelProto:
    sparse = SparseTensorProto(dims=[8])
    getattr(sparse, part).CopyFrom(outside())
    made = graph()
    made.sparse_initializer.append(sparse)
    return helper.make_model(made)


def in_list(name: str, value: object) -> ModelProto:
    attribute = AttributeProto(name="v")
    getattr(attribute, name).append(value)
    node = helper.make_node("X", [], ["y"], domain="d")
    node.attribute.append(attribute)
    return helper.make_model(graph(node))


def in_training(part: str) -> ModelProto:
    model = helper.make_model(graph())
    getattr(model.training_info.add(), part).CopyFrom(graph(tensors=(outside(),)))
    return model


MODELS: dict[str, Callable[[], ModelProto]] = {
    "initializer": lambda: helper.make_model(graph(tensors=(outside(),))),
    "attribute of a node": lambda: helper.make_model(graph(constant())),
    "list of tensors": lambda: in_list("tensors", outside()),
    "list of graphs": lambda: in_list("graphs", graph(constant())),
    "If": lambda: helper.make_model(graph(branch(graph(tensors=(outside(),))))),
    "Loop in Loop": lambda: helper.make_model(looped(3)),
    "node of a function": in_function,
    "default of a function's attribute": in_function_default,
    "values of a sparse tensor": lambda: in_sparse("values"),
    "indices of a sparse tensor": lambda: in_sparse("indices"),
    "list of sparse tensors": lambda: in_list("sparse_tensors", SparseTensorProto(values=outside())),
    "initialisation for training": lambda: in_training("initialization"),
    "algorithm of training": lambda: in_training("algorithm"),
}


@pytest.mark.parametrize("place", MODELS)
def test_external_data_is_found_wherever_it_stands(place: str) -> None:
    assert external_files(MODELS[place]().SerializeToString()) == ["../secret"]


def test_a_model_without_external_data_names_no_file() -> None:
    inside = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    model = helper.make_model(graph(helper.make_node("Neg", ["x"], ["y"], name="location"), tensors=(inside,)))
    model.metadata_props.add(key="location", value="../secret")
    assert external_files(model.SerializeToString()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (helper.make_model(looped(25)).SerializeToString(), "nests its graphs too deep"),
        (b"<?xml version='1.0'?>", "is cut short|is no ONNX file"),
        (b"\x3a\x05ab", "is cut short"),
        (b"\x3a", "is cut short"),
        (b"\x80" * 20, "is no ONNX file"),
        (b"\x3b\x08\x01\x3c", "is no ONNX file"),
        (b"\x0d\x01", ""),
    ],
)
def test_what_is_no_onnx_file_or_nests_without_end(content: bytes, reason: str) -> None:
    if not reason:  # a number cut short at the very end holds no tensor
        assert external_files(content) == []
        return
    with pytest.raises(SecurityError, match=reason):
        external_files(content)


@pytest.mark.parametrize("bit", range(32, 35))
def test_a_field_number_that_readers_take_differently_is_refused(bit: int) -> None:
    """C++ protobuf, and ONNX Runtime with it, cuts the tag to 32 bits and finds the graph; the tag as written is another."""
    inside = graph(tensors=(outside(),)).SerializeToString()
    tag, raw = (7 << 3 | 2) | 1 << bit, b""
    for number in (tag, len(inside)):
        groups = [number >> shift & 127 for shift in range(0, max(1, number.bit_length()), 7)]
        raw += bytes([group | 128 for group in groups[:-1]] + groups[-1:])
    with pytest.raises(SecurityError, match="is no ONNX file"):
        external_files(onnx.ModelProto(ir_version=8).SerializeToString() + raw + inside)
