"""Inputs and outputs as OpenVINO has them, and as this toolkit does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from export.errors import InputError, UnsupportedError
from export.model import TensorSpec
from targets.base import Interface, axis_name
from targets.openvino.session import first_line


def interface(path: Path) -> Interface:
    """Inputs and outputs of a model.xml that is called by itself; it does not keep the names of dynamic axes.

    Raises:
        InputError: if OpenVINO cannot read the file.
        UnsupportedError: if an input has no fixed number of axes, or calls would not be alike, for it keeps a cache.
    """
    import openvino

    from targets.openvino.decoder import growing_states

    try:
        network = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path.name}: OpenVINO cannot read it: {first_line(error)}") from error
    for port in network.inputs:
        if port.get_partial_shape().rank.is_dynamic:
            raise UnsupportedError(f"{path.name}: input '{port.get_any_name()}' has no fixed number of axes")
    if states := growing_states(network):
        told = f"{len(states)} states, from {states[0]} on" if states[1:] else f"1 state, {states[0]}"
        raise UnsupportedError(
            f"{path.name}: keeps a cache inside the runtime ({told}), which every call would make longer; "
            "bench the bundle of its run (compress pack RUN --target openvino, then compress bench BUNDLE), or time its artifact: "
            "python -m benchmarks.studies.tokens RUN/artifacts/openvino/SCHEME"
        )
    return tuple(map(_spec, network.inputs)), tuple(map(_spec, network.outputs))


def _spec(port: Any) -> TensorSpec:
    name, shape, kind = port.get_any_name(), port.get_partial_shape(), port.get_element_type().get_type_name()
    axes = () if shape.rank.is_dynamic else tuple(shape)
    return TensorSpec(
        name,
        _DTYPES.get(kind, kind),
        tuple(axis_name(name, place) if axis.is_dynamic else axis.get_length() for place, axis in enumerate(axes)),
    )


_DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool"} | {
    f"{kind[0]}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


def partial_extent(axis: int | str) -> int:
    """As OpenVINO takes it."""
    return -1 if isinstance(axis, str) else axis


def with_known(spec: TensorSpec, port: Any) -> TensorSpec:
    """An output with the extents that the network knows once its inputs are fixed."""
    known = port.get_partial_shape()
    if known.rank.is_dynamic:
        return spec
    pairs = zip(spec.shape, known, strict=True)
    return replace(spec, shape=tuple(name if axis.is_dynamic else axis.get_length() for name, axis in pairs))
