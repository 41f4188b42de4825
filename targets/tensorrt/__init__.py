"""TensorRT: engines for NVIDIA GPUs, built by `tensorrt` beside a GPU or ahead of time by `tensorrt_rtx` without one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from export.bundle.manifest import Runtime
from export.errors import EnvironmentFailure, UnsupportedError
from export.model import OnnxModel, TensorSpec
from targets import cuda
from targets.base import FP32, Engine, Needs, Profile, Scheme
from targets.tensorrt.builder import AHEAD_OF_TIME, CAPABILITIES, BuildSettings
from targets.tensorrt.cache import cache_file
from targets.tensorrt.plan import PLAN, SOURCE, checked_plan, deserialised, foreign, make_plan, rebuild, rebuilt
from targets.tensorrt.profile import operators_by_precision
from targets.tensorrt.session import TensorRtSession

if TYPE_CHECKING:
    import numpy as np

INSTALL = "pip install 'edge-compress[tensorrt]'"
INSTALL_FULL = "pip install tensorrt-cu12 from NVIDIA's own package index (Jetson: it comes with JetPack)"

CACHED = "past"
"""The axis of a decoder's caches that is 0 long before its first call."""

Range = tuple[int, int, int]
"""Smallest, usual and largest extent of a dynamic axis."""

USUAL_AXES: Mapping[str, Range] = {"batch": (1, 1, 32)}
"""What an axis may be where the recipe does not name it."""


@dataclass(frozen=True)
class TensorRt:
    """Both providers take the same fields and the same models; both build strongly typed networks.

    Args:
        provider: `tensorrt` builds beside a GPU for that GPU, `tensorrt-rtx` ahead of time for `compute_capabilities`;
            `auto` takes the first where it is installed and has a GPU, else the second.
        compute_capabilities: of the GPUs that an engine of `tensorrt-rtx` is for; `tensorrt` builds for the one present.
        workspace_mb: GPU memory that a layer may use for scratch, in MiB.
        axes: for each dynamic axis by its name its smallest, usual and largest extent; `batch` keeps what it has by default
            where others alone are named. A decoder's batch is prompts times beams.
        other_axes: the same for the dynamic axes not named in `axes`; `past`, the tokens in a decoder's cache, begins with 0.
        cache: keep in the user's cache folder what one build or session saves the next: `tensorrt`'s timings of layers,
            the kernels that `tensorrt-rtx` compiles on the device.
    """

    name: ClassVar[str] = "tensorrt"

    provider: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    compute_capabilities: tuple[str, ...] = ("8.6", "8.9")
    workspace_mb: int = 1024
    axes: Mapping[str, Range] = field(default_factory=lambda: dict(USUAL_AXES))
    other_axes: Range = (1, 64, 128)
    cache: bool = True

    def __post_init__(self) -> None:
        wrong = [found for found in self.compute_capabilities if found not in CAPABILITIES]
        if wrong or not self.compute_capabilities:
            found = ", ".join(wrong) or "none"
            raise ValueError(f"compute_capabilities: found {found}, allowed: one or more of {', '.join(CAPABILITIES)}")
        if self.workspace_mb < 1:
            raise ValueError(f"workspace_mb: found {self.workspace_mb}, allowed: 1 or more")
        for where, extents in {f"axes.{name}": extents for name, extents in self.axes.items()}.items():
            _check_range(where, extents, least=0 if where == f"axes.{CACHED}" else 1)
        _check_range("other_axes", self.other_axes, least=1)

    @classmethod
    def runtime_module(cls) -> str:
        return _installed("auto") or "tensorrt"

    def unavailable(self) -> str | None:
        if _installed(self.provider):
            return None
        if self.provider == "auto":
            return f"neither tensorrt (with a GPU) nor tensorrt-rtx found; {INSTALL}"
        if self.provider == "tensorrt-rtx":
            return f"provider tensorrt-rtx is not installed; {INSTALL}"
        if not find_spec("tensorrt"):
            return f"provider tensorrt is not installed; {INSTALL_FULL}"
        return (
            f"provider tensorrt builds beside a GPU alone: {cuda.no_gpu()}; name provider: tensorrt-rtx to build ahead"
        )

    def cannot_run(self) -> str | None:
        return self.unavailable() or cuda.no_gpu()

    def schemes(self, model: OnnxModel | None = None) -> Sequence[Scheme]:
        """FP16 first: TensorRT-RTX lists INT8 for weight-only products alone; the full TensorRT runs it fast.

        ResNet-56 takes 2.5 MB in FP16 and BF16, 9.3 MB in INT8 with TensorRT-RTX 1.7. BF16 needs compute capability 8.0.
        """
        fp16 = Scheme("fp16", "fp16", why="half the bytes, on the tensor cores of every GPU since Turing")
        bf16 = Scheme("bf16", "bf16", why="half the bytes with FP32's range, for values that FP16 cannot hold")
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
        return (fp16, bf16, int8, FP32) if self._has_bf16() else (fp16, int8, FP32)

    def compile(self, model: OnnxModel, scheme: Scheme, out: Path) -> Engine:
        """Write model.engine and, to build it again elsewhere, the model.onnx it comes from."""
        start = time.perf_counter()
        trt = import_module(self._module())
        settings = BuildSettings(self._profile(model), self.workspace_mb, self.compute_capabilities)
        try:
            source = _typed(model, scheme)
            plan, recorded = make_plan(trt, source, settings, self.cache)
        except UnsupportedError as error:
            raise UnsupportedError(f"tensorrt, scheme '{scheme.name}': {error}") from error
        path = out / PLAN
        path.write_bytes(plan)
        (out / SOURCE).write_bytes(source)
        return Engine(
            target=self.name,
            scheme=scheme.name,
            path=path,
            files=(path,),
            inputs=model.inputs,
            outputs=model.outputs,
            build_s=time.perf_counter() - start,
            operators=operators_by_precision(recorded["layers"]),
            settings=recorded,
        )

    def rebuild(self, engine: Engine, out: Path) -> Engine:
        """The engine for the GPU here, in the existing folder `out`, from the model.onnx beside it; see plan.py."""
        return rebuild(engine, import_module(self._module_for(engine)), out)

    def needs(self, engine: Engine) -> Needs:
        """With the model.onnx that another GPU's engine is built from."""
        package, version = str(engine.settings["provider"]).replace("_", "-"), engine.settings["version"]
        capabilities = tuple(engine.settings["compute_capabilities"])
        runtime = Runtime(package, version, version, "any", capabilities)
        return Needs(runtime, (engine.path.with_name(SOURCE),))

    def load(self, engine: Engine, threads: int) -> TensorRtSession:
        """Open the engine on the first GPU; `threads` has no meaning there.

        One that was built for another GPU or version is built again first, once on a machine.
        """
        [session] = self._sessions(engine, 1)
        return session

    def load_concurrent(self, engine: Engine, threads: int) -> Sequence[TensorRtSession]:
        """Two contexts of one engine, each on a stream of its own: one copies while the other computes.

        The device's memory holds the buffers twice.
        """
        return self._sessions(engine, 2)

    def profile(self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int) -> Profile:
        """By TensorRT's own profiler."""
        reason = self.cannot_run()
        if reason:
            raise UnsupportedError(f"tensorrt: cannot profile {engine.path.name}: {reason}")
        with self.load(engine, threads) as session:
            return session.profile(import_module(self._module_for(engine)), inputs, runs)

    def _sessions(self, engine: Engine, count: int) -> list[TensorRtSession]:
        if reason := self.cannot_run():
            raise EnvironmentFailure(f"{engine.path.name}: {reason}")
        plan = checked_plan(engine)
        trt, capability = import_module(self._module_for(engine)), cuda.compute_capability()
        if foreign(engine.settings, trt.__name__, trt.__version__, capability):
            engine = rebuilt(engine, trt)
            plan = checked_plan(engine)
        kernels = None
        if engine.settings["cache"] and trt.__name__ == AHEAD_OF_TIME:
            kernels = cache_file("kernels", engine.settings["sha256"], capability, cuda.device_name())
        shared = deserialised(trt, plan, engine.path.name)
        return [TensorRtSession(trt, shared, engine, kernels) for _ in range(count)]

    def _profile(self, model: OnnxModel) -> dict[str, tuple[tuple[int, ...], ...]]:
        """For each input with a dynamic axis its smallest, usual and largest shape."""
        named = {CACHED: (0, *self.other_axes[1:]), **USUAL_AXES, **self.axes}
        ranges = {axis: named.get(axis, self.other_axes) for spec in model.inputs for axis in _dynamic_axes(spec)}
        sizes = [{axis: extents[position] for axis, extents in ranges.items()} for position in range(3)]
        return {spec.name: tuple(map(spec.concrete, sizes)) for spec in model.inputs if _dynamic_axes(spec)}

    def _has_bf16(self) -> bool:
        ahead = _installed(self.provider) != "tensorrt"
        capabilities = self.compute_capabilities if ahead else (cuda.compute_capability(),)
        return all(int(capability.partition(".")[0]) >= 8 for capability in capabilities)

    def _module(self) -> str:
        name = _installed(self.provider)
        if name is None:
            raise EnvironmentFailure(f"tensorrt: {self.unavailable()}")
        return name

    def _module_for(self, engine: Engine) -> str:
        """The module that built it, where it is installed; else the one there is, which builds it again."""
        recorded = str(engine.settings["provider"])
        return recorded if recorded in ("tensorrt", AHEAD_OF_TIME) and find_spec(recorded) else self._module()


def _dynamic_axes(spec: TensorSpec) -> list[str]:
    return [axis for axis in spec.shape if isinstance(axis, str)]


def _check_range(where: str, extents: Range, least: int) -> None:
    if len(extents) != 3 or not least <= extents[0] <= extents[1] <= extents[2] or extents[1] < 1:
        raise ValueError(f"{where}: found {list(extents)}, allowed: [smallest, usual, largest], rising, from {least}")


def _typed(model: OnnxModel, scheme: Scheme) -> bytes:
    """The model in the scheme's types: what an engine is built from, and what lies beside it."""
    from targets.tensorrt.precision import in_bf16, in_fp16
    from targets.tensorrt.rules import check_rules

    proto = model.proto()
    if scheme.precision in ("fp16", "bf16"):
        proto = in_fp16(proto) if scheme.precision == "fp16" else in_bf16(proto)
    check_rules(proto)
    return bytes(proto.SerializeToString())


def _installed(provider: str) -> str | None:
    """The module that a provider is here; None if it cannot build here."""
    full = provider != "tensorrt-rtx" and find_spec("tensorrt") is not None and cuda.no_gpu() is None
    if full:
        return "tensorrt"
    return AHEAD_OF_TIME if provider != "tensorrt" and find_spec(AHEAD_OF_TIME) else None
