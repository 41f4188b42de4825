"""From the bytes of an ONNX model to a serialised TensorRT engine, with either provider's Python module.

Runs on Python 3.9 without the onnx package: a device builds again what was built for another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from export.errors import UnsupportedError

AHEAD_OF_TIME = "tensorrt_rtx"
"""The module that builds without a GPU."""

CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX 1.7 builds for without a GPU."""


@dataclass(frozen=True)
class BuildSettings:
    """All that a build needs besides the model, which is strongly typed: its own types are the engine's.

    Args:
        profile: for each input with dynamic axes its smallest, usual and largest shape.
        workspace_mb: scratch memory of a layer, in MiB.
        compute_capabilities: of the GPUs it is for; `tensorrt` takes the one present, whatever they are.
    """

    profile: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    workspace_mb: int = 1024
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """`timings` is what the next build need not time again; empty where the provider times nothing."""

    plan: bytes
    timings: bytes


def build_plan(trt: Any, model: bytes, settings: BuildSettings, timings: bytes = b"") -> Built:
    """Parse and build.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        timings: of an earlier build. TensorRT-RTX chooses kernels on the device and has no use for them.

    Raises:
        UnsupportedError: if the parser refuses (naming operator and node) or the builder does.
    """
    logger = _collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise UnsupportedError(_refusal(parser))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # kinds and precisions of layers for the inspector
    if settings.profile:
        config.add_optimization_profile(_optimization_profile(builder, settings))
    if trt.__name__ == AHEAD_OF_TIME:
        _build_for(trt, config, settings.compute_capabilities)
    else:
        _time_with(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UnsupportedError(f"the engine cannot be built: {(logger.errors or ['no reason given'])[0]}")
    timed = b"" if trt.__name__ == AHEAD_OF_TIME else bytes(config.get_timing_cache().serialize())
    return Built(bytes(plan), timed)


def _build_for(trt: Any, config: Any, compute_capabilities: tuple[str, ...]) -> None:
    """A GPU that TensorRT-RTX has no name for can be built for where it is."""
    config.num_compute_capabilities = len(compute_capabilities)
    for index, capability in enumerate(compute_capabilities):
        name = "SM" + capability.replace(".", "") if capability in CAPABILITIES else "CURRENT"
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)


def _time_with(config: Any, timings: bytes) -> None:
    """Timings of another GPU or version are refused by TensorRT; the build then starts with none."""
    known = config.create_timing_cache(timings) or config.create_timing_cache(b"")
    if not config.set_timing_cache(known, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _optimization_profile(builder: Any, settings: BuildSettings) -> Any:
    made = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in settings.profile.items():
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
