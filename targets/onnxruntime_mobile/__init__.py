"""ONNX Runtime on phones and boards: an .ort file, what runs it in the least space, and which accelerators could."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from export.bundle.manifest import Runtime
from export.errors import InputError, UnsupportedError
from export.model import OnnxModel, TensorSpec
from targets.base import (
    FP32,
    Engine,
    Interface,
    Needs,
    Profile,
    Scheme,
    axis_name,
    median_call_s,
    on_request,
    without_profiler,
)
from targets.graph import has_attention, has_convolution
from targets.isa import architecture, instruction_sets
from targets.onnxruntime_mobile.profile import (
    Constants,
    constant_shapes,
    idle_s,
    kernel_precision,
    layer_times,
)
from targets.onnxruntime_mobile.session import (
    PROVIDERS,
    OnnxRuntimeSession,
    level,
    open_engine,
    ort_file,
    reason,
    runtime_errors,
)

INSTALL = "pip install edge-compress"
OLDEST = "1.19"
"""The oldest version that an artifact was tested with."""

Family = Literal["amd64", "arm64"]
Platform = Literal["host", "amd64", "arm64"]
Level = Literal["all", "extended", "basic", "none"]

_STATIC = Scheme("int8", "int8", "onnxruntime", ranges="mse", bias_correction=True)
"""ResNet-20 changes 0.76 % of its predictions; 1.21 % with minima and maxima and without correction."""

_WEIGHTS = (
    Scheme("int8-weights", "int8", "onnxruntime", mode="weights", why="MatMulNBits: a quarter of the bytes"),
    Scheme(
        "int4-weights", "int4", "onnxruntime", mode="weights", weight_bits=4, why="MatMulNBits: an eighth of the bytes"
    ),
)


@dataclass(frozen=True)
class OnnxRuntimeMobile:
    """The CPU provider on an .ort file, whose graph is optimised when it is compiled, for one processor family.

    Args:
        platform: the family of the device. "host" is this machine's, so that what is measured is what ships.
            amd64 bakes in ONNX Runtime's blocked convolution layout (NCHWc): without it the .ort of ResNet-56 takes
            4.9 ms in FP32 instead of 3.2, for an .ort is not optimised again when it is loaded.
        also_for: other families that get an .ort of the same numbers, model.<family>.ort: its accuracy is the one
            measured here, its speed is not. INT8 that suits another family best is a recipe of its own with its `platform`.
        optimisation: how far the graph is optimised when it is compiled; "basic" leaves operators that NNAPI and CoreML know.
        spinning: threads wait for work in a loop: quicker with several of them, and it drains a battery.
        arena: memory is kept from one inference to the next instead of being given back.
    """

    name: ClassVar[str] = "onnxruntime_mobile"

    platform: Platform = "host"
    also_for: tuple[Family, ...] = ()
    optimisation: Level = "all"
    spinning: bool = False
    arena: bool = True

    def __post_init__(self) -> None:
        if self.platform not in get_args(Platform):
            raise ValueError(f"platform: found '{self.platform}', allowed: {', '.join(get_args(Platform))}")
        wrong = [family for family in self.also_for if family not in get_args(Family)]
        if wrong or len(set(self.also_for)) < len(self.also_for):
            found = ", ".join(wrong or self.also_for)
            raise ValueError(f"also_for: found {found}, allowed: each of {', '.join(get_args(Family))} once")
        if self.optimisation not in get_args(Level):
            raise ValueError(f"optimisation: found '{self.optimisation}', allowed: {', '.join(get_args(Level))}")

    @property
    def family(self) -> str:
        return architecture() if self.platform == "host" else self.platform

    @classmethod
    def runtime_module(cls) -> str:
        return "onnxruntime"

    def unavailable(self) -> str | None:
        return None if find_spec("onnxruntime") else f"onnxruntime not installed; {INSTALL}"

    def cannot_run(self) -> str | None:
        if self.family != architecture():
            return f"compiled for {self.family}, this machine is {architecture()}: its times would mean nothing here"
        return self.unavailable()

    def schemes(self, model: OnnxModel | None = None) -> Sequence[Scheme]:
        """Dynamic INT8 for what lives on matrix products, static for convolutions; all of them without a model.

        Measured with ONNX Runtime 1.31 at batch 1, one thread, over FP32: MiniLM 1.6x dynamic, 1.5x static, 0.8x
        NNCF (Zen 3); ResNet-56 1.7x static, whoever quantizes. Decoders try weights alone as well: a token of a GPT-2 of 4 x 256
        takes 0.39 of FP32's time in INT8, 0.35 in INT4 (Zen 4).
        """
        from targets.generation.cached_attention import keeps_cache

        graph = model.proto().graph if model else None
        attention, convolution = (has_attention(graph), has_convolution(graph)) if graph else (True, True)
        offered = [self._dynamic()] if attention or not convolution else []
        offered.append(self._static())
        if graph is None:
            offered += self._on_request()
        elif model is not None and keeps_cache(model):
            offered += _WEIGHTS
        return (*offered, FP32)

    def _on_request(self) -> list[Scheme]:
        """What a recipe may name: slower to make or to run than the others on most networks."""
        others = [*on_request(self._static()), *_WEIGHTS]
        return [*([self._nncf()] if find_spec("nncf") else []), *others]

    def _dynamic(self) -> Scheme:
        why = "INT8 matrix products with ranges taken at run time: nothing to calibrate, and it follows outliers"
        return Scheme("int8-dynamic", "int8", "onnxruntime", mode="dynamic", reduce_range=self._saturates(), why=why)

    def _static(self) -> Scheme:
        if self.family == "arm64":
            # Zero point 0 would halve the range of what a ReLU leaves and keep the ReLU as a float operator: ResNet-56
            # then changes 2.88 % of its predictions instead of 0.60 %, with 65 float operators instead of 10.
            why = "signed by signed INT8, which ARM's dot products take"
            return replace(_STATIC, activations="int8", why=why)
        why = "unsigned by signed INT8: signed activations are slower than FP32 on x86"
        return replace(_STATIC, reduce_range=self._saturates(), why=why)

    def _nncf(self) -> Scheme:
        why = "INT8 where NNCF places it"
        return replace(_STATIC, name="int8-nncf", quantizer="nncf", reduce_range=self._saturates(), why=why)

    def _saturates(self) -> bool:
        """Without VNNI, x86 adds pairs of u8 x s8 products in 16 bits; weights in 7 bits keep that from overflowing."""
        return self.family == "amd64" and "vnni" not in instruction_sets()

    def compile(self, model: OnnxModel, scheme: Scheme, out: Path) -> Engine:
        """Write model.ort, one more for each of `also_for`, what a minimal build needs, and model.onnx (for other tools).

        `files` holds model.ort alone: a device stores one of them and nothing else.
        """
        from targets.onnxruntime_mobile.build import minimal_build
        from targets.onnxruntime_mobile.usability import usability

        start = time.perf_counter()
        path, plain = out / "model.ort", out / "model.onnx"
        others = {family: f"model.{family}.ort" for family in self.also_for if family != self.family}
        plain.write_bytes(model.path.read_bytes())
        _optimise(model, path, self.family, self.optimisation, save_as="ORT")
        build_s = time.perf_counter() - start
        for family, name in others.items():
            _optimise(model, out / name, family, self.optimisation, save_as="ORT")
        models = [path, *(out / name for name in others.values())]
        return Engine(
            target=self.name,
            scheme=scheme.name,
            path=path,
            files=(path,),
            inputs=model.inputs,
            outputs=model.outputs,
            build_s=build_s,
            operators=_operators_by_precision(model, out / "optimised.onnx", self.family, self.optimisation),
            settings={
                "platform": self.family,
                "also_for": others,
                "also_for_sha256": {family: _sha256(out / name) for family, name in others.items()},
                "optimisation": self.optimisation,
                "spinning": self.spinning,
                "arena": self.arena,
            },
            facts={
                "accelerators": usability(model.path),
                "minimal_build": minimal_build(models, [self.family, *others], out),
            },
        )

    def needs(self, engine: Engine) -> Needs:
        return Needs(Runtime("onnxruntime", OLDEST, "", engine.settings.get("platform", "any")))

    def load(self, engine: Engine, threads: int) -> OnnxRuntimeSession:
        return OnnxRuntimeSession(open_engine(engine, threads))

    def load_concurrent(self, engine: Engine, threads: int) -> Sequence[OnnxRuntimeSession]:
        """One model for all, whose `run` may be called from several threads: each works on one core."""
        shared = open_engine(engine, threads=1)
        return [OnnxRuntimeSession(shared) for _ in range(threads)]

    def profile(self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int) -> Profile:
        call_s = median_call_s(self.load(engine, threads), inputs, runs)
        with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
            session = open_engine(engine, threads, profile=Path(scratch) / "profile")
            layers = layer_times(session, inputs, runs, _constants(engine, Path(scratch) / "optimised.onnx"))
        return Profile(without_profiler(layers, call_s, idle_s(layers)), call_s)


def interface(path: Path) -> Interface:
    """Inputs and outputs of an .ort file.

    Raises:
        InputError: if ONNX Runtime cannot read the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
    except runtime_errors() as error:
        raise InputError(f"{path.name}: ONNX Runtime cannot read it: {reason(error)}") from error
    inputs, outputs = (tuple(map(_spec, tensors)) for tensors in (session.get_inputs(), session.get_outputs()))
    return inputs, outputs


def _spec(tensor: Any) -> TensorSpec:
    """Types read "tensor(int64)"; an axis is a number, a name or None."""
    kind = re.sub(r"tensor\((\w+)\)", r"\1", tensor.type)
    axes = tuple(axis_name(tensor.name, axis) if extent is None else extent for axis, extent in enumerate(tensor.shape))
    return TensorSpec(tensor.name, {"float": "float32", "double": "float64"}.get(kind, kind), axes)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _optimise(model: OnnxModel, path: Path, family: str, optimisation: str, save_as: Literal["ORT", "ONNX"]) -> None:
    """Save the graph as ONNX Runtime runs it on a processor family.

    With "all" the same options as `python -m onnxruntime.tools.convert_onnx_models_to_ort --optimization_style Fixed`.

    Raises:
        UnsupportedError: if the runtime lacks an operator, or a kernel for the types it is used with.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level(optimisation)
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", save_as)
    options.add_session_config_entry("session.qdqisint8allowed", "1" if family == "arm64" else "0")
    skipped = None if family == "amd64" else ["NchwcTransformer"]
    try:
        onnxruntime.InferenceSession(str(model.path), options, providers=PROVIDERS, disabled_optimizers=skipped)
    except runtime_errors() as error:
        path.unlink(missing_ok=True)
        raise UnsupportedError(f"onnxruntime_mobile: {_explained(error, model)}") from error


def _constants(engine: Engine, scratch: Path) -> Constants:
    """Of the graph that the .ort file holds, made again from the model.onnx beside it; empty if we did not compile it."""
    source, family = engine.path.with_name("model.onnx"), engine.settings.get("platform")
    if family is None or not source.is_file():
        return {}
    if ort_file(engine) != engine.path:
        family = architecture()
    _optimise(OnnxModel.read(source), scratch, family, engine.settings.get("optimisation", "all"), save_as="ONNX")
    return constant_shapes(scratch)


def _operators_by_precision(model: OnnxModel, scratch: Path, family: str, optimisation: str) -> dict[str, int]:
    """Operators of the optimised graph: those that take or make 8-bit tensors, and the rest."""
    import onnx

    _optimise(model, scratch, family, optimisation, save_as="ONNX")
    try:
        graph = onnx.load(scratch).graph
    finally:
        scratch.unlink()
    counts = Counter(kernel_precision(node.op_type) for node in graph.node)
    return dict(sorted(counts.items()))


def _explained(error: Exception, model: OnnxModel) -> str:
    """The refused operator with its node where ONNX Runtime's message names an operator of the model."""
    message = reason(error)
    for node in model.proto().graph.node:
        if re.search(rf"\b{re.escape(node.op_type)}\b", message):
            return f"operator {node.op_type} (node '{node.name}') is refused: {message}; replace it, or leave the target out"
    return f"{message}; export the model without this operator, or leave the target out"
