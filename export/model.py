"""OnnxModel: the torch-free value that quantizers and targets receive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import onnx

Axis = Union[int, str]
"""An extent of a shape: a fixed size, or the name of a dynamic axis."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of a model's input or output; dynamic axes are named strings."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with each named axis replaced by its size.

        Raises:
            KeyError: if `sizes` lacks a dynamic axis of this tensor.
        """
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.shape)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TensorSpec:
        return cls(value["name"], value["dtype"], tuple(value["shape"]))


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file whose inputs, outputs and opset have been read once.

    The file has no external data and no value_info: shapes are inferred again by whoever needs them.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def proto(self) -> onnx.ModelProto:
        import onnx

        return onnx.load(self.path)

    @classmethod
    def read(cls, path: Path) -> OnnxModel:
        """Read the interface of an ONNX file.

        Raises:
            UnsupportedError: if an input or output has no tensor type or an unnamed dynamic axis.
        """
        import onnx

        model = onnx.load(path, load_external_data=False)
        initializers = {tensor.name for tensor in model.graph.initializer}
        opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        return cls(
            path,
            tuple(_spec(value) for value in model.graph.input if value.name not in initializers),
            tuple(_spec(value) for value in model.graph.output),
            opset,
        )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    from export.errors import UnsupportedError

    tensor = value.type.tensor_type
    if not tensor.elem_type:
        raise UnsupportedError(
            f"ONNX value '{value.name}' is not a tensor; only tensor inputs and outputs are supported"
        )
    shape: list[Axis] = []
    for position, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(dim.dim_value)
        elif dim.dim_param:
            shape.append(dim.dim_param)
        else:
            raise UnsupportedError(
                f"ONNX value '{value.name}': axis {position} has neither a size nor a name; export it with a named dynamic axis"
            )
    return TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), tuple(shape))
