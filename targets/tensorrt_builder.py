"""From an ONNX model to a serialised TensorRT engine, with either provider's Python module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from export.errors import UnsupportedError

if TYPE_CHECKING:
    import onnx

Profile = Mapping[str, tuple[tuple[int, ...], ...]]
"""For each input with dynamic axes its smallest, usual and largest shape."""


def in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """FP16 inside, inputs and outputs as they were: in a strongly typed network the model says the precision."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)  # type: ignore[no-any-return]


def build_plan(
    trt: Any, model: onnx.ModelProto, profile: Profile, workspace_mb: int, compute_capabilities: Sequence[str]
) -> bytes:
    """Parse and build.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`; the latter builds for `compute_capabilities` without a GPU.
        workspace_mb: scratch memory of a layer, in MiB.

    Raises:
        UnsupportedError: if the parser refuses (naming operator and node) or the builder does.
    """
    logger = _collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise UnsupportedError(_refusal(parser))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    if profile:
        config.add_optimization_profile(_optimization_profile(builder, profile))
    if trt.__name__ == "tensorrt_rtx":
        config.num_compute_capabilities = len(compute_capabilities)
        for index, capability in enumerate(compute_capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + capability.replace(".", "")), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UnsupportedError(f"the engine cannot be built: {(logger.errors or ['no reason given'])[0]}")
    return bytes(plan)


def _optimization_profile(builder: Any, profile: Profile) -> Any:
    made = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in profile.items():
        made.set_shape(name, smallest, usual, largest)
    return made


def _strongly_typed(trt: Any) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _refusal(parser: Any) -> str:
    """The parser's first error: operator and node, and the last line of its description."""
    error = parser.get_error(0)
    reason = str(error.desc()).strip().splitlines()[0]
    operator, node = error.node_operator(), error.node_name()
    return f"operator {operator} (node '{node}') is refused: {reason}; replace it, or leave the target out"


def _collecting_logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps the errors, for the messages of UnsupportedError."""

    class CollectingLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return CollectingLogger()
