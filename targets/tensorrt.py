"""TensorRT: engines for NVIDIA GPUs, built by `tensorrt` beside a GPU or ahead of time by `tensorrt_rtx` without one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from export.errors import EnvironmentFailure, InputError, SecurityError, UnsupportedError
from export.model import OnnxModel, TensorSpec
from targets import cuda
from targets.base import FP32, Arrays, Engine, Profile, Scheme
from targets.tensorrt_builder import build_plan, in_fp16
from targets.tensorrt_profile import collecting_profiler, read_layers

INSTALL = "pip install 'edge-compress[tensorrt]'"
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX 1.7 builds for without a GPU."""

Range = tuple[int, int, int]
"""Smallest, usual and largest extent of a dynamic axis."""


@dataclass(frozen=True)
class TensorRt:
    """Both providers take the same fields and the same models; both build strongly typed networks.

    Args:
        compute_capabilities: of the GPUs that an engine of `tensorrt_rtx` is for; `tensorrt` builds for the one present.
        workspace_mb: GPU memory that a layer may use for scratch, in MiB.
        axes: for each dynamic axis by its name its smallest, usual and largest extent.
        other_axes: the same for the dynamic axes not named in `axes`.
    """

    name: ClassVar[str] = "tensorrt"

    compute_capabilities: tuple[str, ...] = ("8.6", "8.9")
    workspace_mb: int = 1024
    axes: Mapping[str, Range] = field(default_factory=lambda: {"batch": (1, 1, 32)})
    other_axes: Range = (1, 64, 128)

    def __post_init__(self) -> None:
        wrong = [found for found in self.compute_capabilities if found not in CAPABILITIES]
        if wrong or not self.compute_capabilities:
            found = ", ".join(wrong) or "none"
            raise ValueError(f"compute_capabilities: found {found}, allowed: one or more of {', '.join(CAPABILITIES)}")
        if self.workspace_mb < 1:
            raise ValueError(f"workspace_mb: found {self.workspace_mb}, allowed: 1 or more")
        for where, extents in {f"axes.{name}": extents for name, extents in self.axes.items()}.items():
            _check_range(where, extents)
        _check_range("other_axes", self.other_axes)

    @classmethod
    def runtime_module(cls) -> str:
        return _provider_name() or "tensorrt"

    def unavailable(self) -> str | None:
        return None if _provider_name() else f"neither tensorrt (with a GPU) nor tensorrt-rtx found; {INSTALL}"

    def cannot_run(self) -> str | None:
        return self.unavailable() or cuda.no_gpu()

    def schemes(self, model: OnnxModel | None = None) -> Sequence[Scheme]:
        """FP16 first: TensorRT-RTX lists INT8 for weight-only products alone; the full TensorRT runs it fast.

        ResNet-56 takes 2.2 MB in FP16 and 9.3 MB in INT8 with TensorRT-RTX 1.7.
        """
        fp16 = Scheme("fp16", "fp16", why="half the bytes, on the tensor cores of every GPU since Turing")
        int8 = Scheme(
            "int8",
            "int8",
            quantizer="onnxruntime",
            activations="int8",
            symmetric_activations=True,
            quantize_bias=False,
            ranges="mse",
            bias_correction=True,
            why="signed and symmetric, bias in float: the only Q/DQ form that TensorRT's parser takes",
        )
        return (fp16, int8, FP32)

    def compile(self, model: OnnxModel, scheme: Scheme, out: Path) -> Engine:
        """Write model.engine and, to build it again elsewhere, the model.onnx it comes from."""
        import onnx

        start = time.perf_counter()
        trt = import_module(self._provider())
        proto = in_fp16(model.proto()) if scheme.precision == "fp16" else model.proto()
        try:
            plan = build_plan(trt, proto, self._profile(model), self.workspace_mb, self.compute_capabilities)
        except UnsupportedError as error:
            raise UnsupportedError(f"tensorrt, scheme '{scheme.name}': {error}") from error
        path, source = out / "model.engine", out / "model.onnx"
        path.write_bytes(plan)
        onnx.save(proto, source)
        built_for = list(self.compute_capabilities) if trt.__name__ == "tensorrt_rtx" else [cuda.compute_capability()]
        return Engine(
            target=self.name,
            scheme=scheme.name,
            path=path,
            files=(path,),
            inputs=model.inputs,
            outputs=model.outputs,
            build_s=time.perf_counter() - start,
            settings={
                "provider": trt.__name__,
                "version": trt.__version__,
                "compute_capabilities": built_for,
                "sha256": hashlib.sha256(plan).hexdigest(),
            },
        )

    def load(self, engine: Engine, threads: int) -> TensorRtSession:
        """Open the engine on the first GPU; `threads` has no meaning there."""
        return TensorRtSession(self._open(engine), engine)

    def load_concurrent(self, engine: Engine, threads: int) -> Sequence[TensorRtSession]:
        """Two contexts of one engine, each on a stream of its own: one copies while the other computes.

        Written from NVIDIA's documentation, not yet run on a GPU. The device's memory holds the buffers twice.
        """
        shared = self._open(engine)
        return [TensorRtSession(shared, engine) for _ in range(2)]

    def profile(self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int) -> Profile:
        """By TensorRT's own profiler; written from NVIDIA's documentation, not yet run on a GPU."""
        reason = self.cannot_run()
        if reason:
            raise UnsupportedError(f"tensorrt: cannot profile {engine.path.name}: {reason}")
        with self.load(engine, threads) as session:
            return session.profile(import_module(self._provider()), inputs, runs)

    def _open(self, engine: Engine) -> Any:
        """The deserialised engine."""
        reason = self.cannot_run()
        if reason:
            raise EnvironmentFailure(f"{engine.path.name}: {reason}")
        trt = import_module(self._provider())
        plan = engine.path.read_bytes()
        refuse_foreign(engine, plan, trt.__name__, trt.__version__, cuda.compute_capability())
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        deserialised = runtime.deserialize_cuda_engine(plan)
        if deserialised is None:
            raise EnvironmentFailure(
                f"{engine.path.name}: {trt.__name__} cannot load it; build it again on this machine"
            )
        return deserialised

    def _profile(self, model: OnnxModel) -> dict[str, tuple[tuple[int, ...], ...]]:
        """For each input with a dynamic axis its smallest, usual and largest shape."""
        ranges = {axis: self.axes.get(axis, self.other_axes) for spec in model.inputs for axis in _dynamic_axes(spec)}
        sizes = [{axis: extents[position] for axis, extents in ranges.items()} for position in range(3)]
        return {spec.name: tuple(map(spec.concrete, sizes)) for spec in model.inputs if _dynamic_axes(spec)}

    def _provider(self) -> str:
        name = _provider_name()
        if name is None:
            raise EnvironmentFailure(f"tensorrt: {self.unavailable()}")
        return name


class TensorRtSession:
    """One execution context on one stream; device buffers stay between runs and grow when a shape does."""

    def __init__(self, deserialised: Any, engine: Engine) -> None:
        self._stream = cuda.Stream()
        self._engine = deserialised
        self._context = self._engine.create_execution_context()
        self._inputs, self._outputs = engine.inputs, engine.outputs
        self._buffers = {spec.name: cuda.Buffer() for spec in (*self._inputs, *self._outputs)}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self._stream.use()
        held = {spec.name: np.ascontiguousarray(inputs[spec.name], spec.dtype) for spec in self._inputs}
        for name, array in held.items():
            if not self._context.set_input_shape(name, array.shape):
                raise InputError(f"tensorrt: input '{name}': found shape {array.shape}, outside the engine's profile")
            self._stream.upload(array, self._bind(name, array.nbytes))
        results = {spec.name: np.empty(self._shape(spec), spec.dtype) for spec in self._outputs}
        for name, array in results.items():
            self._bind(name, array.nbytes)
        if not self._context.execute_async_v3(self._stream.handle):
            raise EnvironmentFailure("tensorrt: the GPU refused to run the engine; see nvidia-smi")
        for name, array in results.items():
            self._stream.download(self._buffers[name].of(array.nbytes), array)
        self._stream.wait()
        return results

    def profile(self, trt: Any, inputs: Mapping[str, np.ndarray], runs: int) -> Profile:
        """The call includes the copies to and from the device, the layers do not."""
        taken = []
        for _ in range(max(2, runs // 10) + runs):
            start = time.perf_counter()
            self.run(inputs)
            taken.append(time.perf_counter() - start)
        profiler = collecting_profiler(trt)
        self._context.profiler = profiler
        for _ in range(runs):
            self.run(inputs)
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        layers = read_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON), profiler.times_ms)
        return Profile(layers, median(taken[-runs:]))

    def _bind(self, name: str, size_bytes: int) -> int:
        address = self._buffers[name].of(size_bytes)
        self._context.set_tensor_address(name, address)
        return address

    def _shape(self, spec: TensorSpec) -> tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(spec.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._context, self._engine
        for buffer in self._buffers.values():
            buffer.close()
        self._stream.close()


def refuse_foreign(engine: Engine, plan: bytes, provider: str, version: str, capability: str) -> None:
    """A plan is machine code: it is deserialised only where it was built for, and only unchanged.

    Raises:
        SecurityError: if the bytes are not those that were recorded, or were built by another version or for other GPUs.
    """
    settings = engine.settings
    if hashlib.sha256(plan).hexdigest() != settings["sha256"]:
        raise SecurityError(
            f"{engine.path.name}: its sha256 is not the recorded one; build it again from its model.onnx"
        )
    if (settings["provider"], settings["version"]) != (provider, version):
        raise SecurityError(
            f"{engine.path.name}: built by {settings['provider']} {settings['version']}, found {provider} {version}; "
            "build it again from its model.onnx"
        )
    if capability not in settings["compute_capabilities"]:
        raise SecurityError(
            f"{engine.path.name}: built for compute capability {', '.join(settings['compute_capabilities'])}, "
            f"this GPU has {capability}; build it again from its model.onnx"
        )


def _dynamic_axes(spec: TensorSpec) -> list[str]:
    return [axis for axis in spec.shape if isinstance(axis, str)]


def _check_range(where: str, extents: Range) -> None:
    if len(extents) != 3 or not 1 <= extents[0] <= extents[1] <= extents[2]:
        raise ValueError(f"{where}: found {list(extents)}, allowed: [smallest, usual, largest], rising, from 1")


def _provider_name() -> str | None:
    if find_spec("tensorrt") and cuda.no_gpu() is None:
        return "tensorrt"
    return "tensorrt_rtx" if find_spec("tensorrt_rtx") else None
