"""OpenVINO: an IR (model.xml, model.bin) from ONNX, run in true FP32, half precision or INT8 on a CPU, GPU or NPU."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from export.bundle.manifest import Runtime
from export.errors import UnsupportedError
from export.model import OnnxModel, TensorSpec
from targets.base import FP32, Engine, Needs, Profile, Scheme, median_call_s, on_request, without_profiler
from targets.graph import has_attention
from targets.isa import instruction_sets
from targets.openvino.interface import partial_extent, with_known
from targets.openvino.profile import layer_times, median_behind_s, operators_by_precision
from targets.openvino.session import OpenVinoSession, first_line, missing_device, open_engine, properties

INSTALL = "pip install 'edge-compress[openvino]'"
OLDEST = "2025.3"
"""The oldest version that an artifact was tested with."""

Hint = Literal["latency", "throughput"]

_DEVICE = re.compile(r"(CPU|NPU|GPU(\.\d+)?|AUTO(:(CPU|NPU|GPU(\.\d+)?)(,(CPU|NPU|GPU(\.\d+)?))*)?)")
_HINTS = {"fp16": "f16", "bf16": "bf16"}


@dataclass(frozen=True)
class OpenVino:
    """One IR serves every device; what differs is what it is compiled with when it is loaded.

    Args:
        device: CPU, GPU (GPU.1 is the second one), NPU, AUTO, or AUTO:GPU,CPU to say which AUTO may choose from. GPU and NPU
            are written from OpenVINO's documentation; no such device was at hand.
        hint: what `load` tunes for. Throughput under several requests is measured in throughput mode either way.
        streams: inferences that the device works on at once; 0: one for latency, for throughput what OpenVINO finds best.
        cache: keep the compiled model on the machine that loads it. On Zen 3, one thread, 2026.4, ResNet-50 then loads in 154 ms
            instead of 698 in INT8, in 85 instead of 158 in FP32, where packing the weights is most of it and is not kept.
        shapes: extents of the model's dynamic axes by name ({batch: 1, length: 64}); those left out stay dynamic.
    """

    name: ClassVar[str] = "openvino"

    device: str = "CPU"
    hint: Hint = "latency"
    streams: int = 0
    cache: bool = False
    shapes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise ValueError(f"device: found '{self.device}', allowed: CPU, GPU, GPU.1, NPU, AUTO, or AUTO:GPU,CPU")
        if self.hint not in get_args(Hint):
            raise ValueError(f"hint: found '{self.hint}', allowed: {', '.join(get_args(Hint))}")
        if self.streams < 0:
            raise ValueError(f"streams: found {self.streams}, allowed: 1 or more, or 0 for what the hint asks for")
        for axis, extent in self.shapes.items():
            if extent < 1:
                raise ValueError(f"shapes.{axis}: found {extent}, allowed: 1 or more; leave it out to keep it dynamic")

    @classmethod
    def runtime_module(cls) -> str:
        return "openvino"

    def unavailable(self) -> str | None:
        missing = [package for package in ("openvino", "nncf") if find_spec(package) is None]
        return f"{' and '.join(missing)} not installed; {INSTALL}" if missing else None

    def cannot_run(self) -> str | None:
        return missing_device(self.device) if find_spec("openvino") else f"openvino not installed; {INSTALL}"

    def schemes(self, model: OnnxModel | None = None) -> Sequence[Scheme]:
        """INT8 first, whatever the model; who places its nodes depends on the network.

        Measured with OpenVINO 2026.4, batch 1, one thread: ResNet-56 is 1.8x (Zen 3) and 2.3x (Zen 5) as fast as
        FP32. MiniLM is 2.8x on Zen 5, but 0.85x on Zen 3: without VNNI oneDNN's INT8 products lose to FP32.
        Decoders try weights alone as well: a token of a GPT-2 of 4 x 256 takes 0.38 of FP32's time in INT8, 0.35 in INT4 (Zen 4).
        ResNet-20 takes as long with ONNX Runtime's placement as with NNCF's (ratio 0.99-1.01), and comes closer to the float
        model: 0.7 % of its predictions change, 1.5 % with NNCF's defaults.
        """
        graph = model.proto().graph if model else None
        attention = graph is not None and has_attention(graph)
        saturates = not self.device.startswith(("GPU", "NPU")) and "vnni" not in instruction_sets()
        nncf = Scheme(
            "int8" if attention else "int8-nncf",
            "int8",
            quantizer="nncf",
            reduce_range=saturates,
            ranges="mse",
            bias_correction=not attention,
            why="INT8 products where NNCF places them; weights in 7 bits where no VNNI keeps sums from saturating",
        )
        int8 = Scheme(
            "int8",
            "int8",
            quantizer="onnxruntime",
            reduce_range=saturates,
            ranges="mse",
            bias_correction=True,
            why="INT8 with ranges of least squared error and corrected biases; 7-bit weights where sums would saturate",
        )
        offered = [nncf] if attention else [int8, nncf]
        if model is None:
            offered += [*on_request(int8), *_SMALLER]
        elif attention and _reads_cache(model):
            offered += [scheme for scheme in _SMALLER if scheme.quantizer != "none"]
        return (*offered, *self._half_precision(), FP32)

    def _half_precision(self) -> tuple[Scheme, ...]:
        """Arithmetic in 16 bits where the device has it. An NPU has no other, so its FP32 is that."""
        fp16 = Scheme("fp16", "fp16", why="this device multiplies FP16 natively: half the bytes, no calibration")
        bf16 = Scheme("bf16", "bf16", why="this CPU multiplies BF16 natively: half the bytes, no calibration")
        if self.device == "CPU":
            features = instruction_sets()
            return tuple(scheme for scheme in (bf16, fp16) if scheme.name in features)
        return (fp16,) if self.device.startswith("GPU") else ()

    def compile(self, model: OnnxModel, scheme: Scheme, out: Path) -> Engine:
        """Write model.xml and model.bin; weights keep the precision that `model` gives them, but for "fp16-weights".

        Where the device is not here the CPU stands in to see that OpenVINO takes the model; operators are then not told.

        Raises:
            UnsupportedError: if OpenVINO refuses the model, or the device takes fixed shapes only.
        """
        import openvino

        from targets.generation.cached_attention import PRESENT, keeps_cache
        from targets.openvino.decoder import keep_cache_inside
        from targets.openvino.max_pools import fill_registers
        from targets.openvino.small_products import multiply_in_float

        start = time.perf_counter()
        inside = self.device != "NPU" and keeps_cache(model)
        settings = self._settings(scheme, inside)
        inputs = self._inputs_inside(model) if inside else self._with_shapes(model)
        here = missing_device(self.device) is None
        checked = settings if here else {**settings, "device": "CPU"}
        core = openvino.Core()
        try:
            network = core.read_model(model.path)
            if inside:
                keep_cache_inside(network, model)
            elif self.shapes:
                network.reshape(
                    {spec.name: openvino.PartialShape([partial_extent(axis) for axis in spec.shape]) for spec in inputs}
                )
            if scheme.precision == "int8" and scheme.mode != "weights" and self._has_short_registers():
                fill_registers(network)
                if "vnni" not in instruction_sets():
                    multiply_in_float(network)
            compiled = core.compile_model(
                network, checked["device"], properties({**checked, "cache": False}, threads=1)
            )
        except RuntimeError as error:
            raise UnsupportedError(f"openvino, scheme '{scheme.name}': {_reason(error, model)}") from error
        halved = scheme.mode == "weights" and scheme.precision == "fp16"
        openvino.save_model(network, out / "model.xml", compress_to_fp16=halved)
        return Engine(
            target=self.name,
            scheme=scheme.name,
            path=out / "model.xml",
            files=(out / "model.xml", out / "model.bin"),
            inputs=inputs,
            outputs=tuple(
                with_known(spec, network.output(spec.name))
                for spec in model.outputs
                if not (inside and spec.name.startswith(PRESENT))
            ),
            build_s=time.perf_counter() - start,
            operators=operators_by_precision(compiled) if here else {},
            settings=settings,
        )

    def _has_short_registers(self) -> bool:
        """Of 32 bytes, that cannot be read in part: AVX2's."""
        features = instruction_sets()
        return self.device == "CPU" and "avx2" in features and "avx512f" not in features

    def _settings(self, scheme: Scheme, inside: bool) -> dict[str, Any]:
        """What `load` needs, plain JSON; nothing in it names a place of this machine.

        Args:
            inside: the engine keeps a cache, which OpenVINO would hold in 8 bits on its own account.
        """
        executed = "f32" if scheme.mode == "weights" else _HINTS.get(scheme.precision, "f32")
        return {
            **({"cache_precision": executed} if inside else {}),
            "device": self.device,
            "precision_hint": "f16" if self.device == "NPU" else executed,
            "hint": self.hint,
            "streams": self.streams,
            "cache": self.cache,
        }

    def _inputs_inside(self, model: OnnxModel) -> tuple[TensorSpec, ...]:
        from targets.openvino.decoder import inputs_inside

        axes = {axis for spec in model.inputs for axis in spec.shape}
        if fixed := [axis for axis in self.shapes if axis in axes]:
            raise UnsupportedError(
                f"openvino: shapes fixes {', '.join(fixed)} of a decoder, whose lengths change from call to call; leave it out"
            )
        return inputs_inside(model.inputs)

    def _with_shapes(self, model: OnnxModel) -> tuple[TensorSpec, ...]:
        """The model's inputs with the axes in `shapes` fixed; names that this model does not have mean nothing here."""
        left = {axis for spec in model.inputs for axis in spec.shape if isinstance(axis, str)} - set(self.shapes)
        if left and self.device == "NPU":
            raise UnsupportedError(
                f"openvino: an NPU takes fixed shapes only; add to shapes: {', '.join(sorted(left))}"
            )
        return tuple(
            replace(
                spec, shape=tuple(self.shapes.get(axis, axis) if isinstance(axis, str) else axis for axis in spec.shape)
            )
            for spec in model.inputs
        )

    def needs(self, engine: Engine) -> Needs:
        return Needs(Runtime("openvino", OLDEST, built_with=""))

    def load(self, engine: Engine, threads: int) -> OpenVinoSession:
        compiled = open_engine(engine, properties(engine.settings, threads))
        return OpenVinoSession(compiled, engine)

    def load_concurrent(self, engine: Engine, threads: int) -> Sequence[OpenVinoSession]:
        """As many infer requests as the throughput hint asks for; OpenVINO shares the threads out among its streams."""
        compiled = open_engine(engine, properties(engine.settings, threads, concurrent=True))
        requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        return [OpenVinoSession(compiled, engine) for _ in range(requests)]

    def profile(self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int) -> Profile:
        """Of the CPU; its counters are what `layer_times` can read."""
        return self._profile(engine, inputs, threads, runs, None)

    def profile_behind(
        self, past: int, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int
    ) -> Profile:
        """As `targets.generation.decoder.StatefulTarget` has it."""
        return self._profile(engine, inputs, threads, runs, past)

    def _profile(
        self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int, past: int | None
    ) -> Profile:
        device = engine.settings.get("device", "CPU")
        if device != "CPU":
            raise UnsupportedError(f"openvino: layers are timed on the CPU only, this engine is for {device}")
        session = self.load(engine, threads)
        call_s = median_call_s(session, inputs, runs) if past is None else median_behind_s(session, inputs, runs, past)
        profiled = {**properties({**engine.settings, "cache": False}, threads), "PERF_COUNT": True}
        layers = layer_times(lambda: open_engine(engine, profiled), inputs, runs, past)
        return Profile(without_profiler(layers, call_s), call_s)


def _reads_cache(model: OnnxModel) -> bool:
    """A decoder reads all its weights for each token it writes: what shrinks them makes it faster."""
    from targets.generation.cached_attention import keeps_cache

    return keeps_cache(model)


_SMALLER = (
    Scheme("fp16-weights", "fp16", mode="weights", why="only what is stored shrinks: half, and FP32 arithmetic"),
    Scheme("int8-weights", "int8", "nncf", mode="weights", why="only what is stored shrinks: a quarter"),
    Scheme("int4-weights", "int4", "nncf", mode="weights", weight_bits=4, why="only what is stored shrinks: an eighth"),
)


def _reason(error: RuntimeError, model: OnnxModel) -> str:
    """The operators without a conversion, with a node of each; else what OpenVINO says of the first that it cannot convert, or
    the first telling line of its message."""
    failed = re.search(r"^-- (\w+)-\d+ with a message:\n(.+?)(?:\n\n|\Z)", str(error), re.DOTALL | re.MULTILINE)
    if failed:
        why = failed[2].strip().splitlines()[-1].rstrip(".")
        return f"{failed[1]} cannot be converted: {why}; replace it in the model, or leave the target out"
    unknown = re.search(r"operations:\s*(.+)", str(error))
    if not unknown:
        return f"{first_line(error)}; export the model without this operator, or leave the target out"
    operators = {re.sub(r"-\d+$", "", name.strip()).rpartition(".")[2] for name in unknown[1].split(",")}
    nodes = [f"{node.op_type} (node '{node.name}')" for node in model.proto().graph.node if node.op_type in operators]
    return f"no conversion for operator {', '.join(nodes or sorted(operators))}; replace it, or leave the target out"
