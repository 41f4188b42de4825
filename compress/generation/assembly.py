"""A model that writes as ONNX: its parts, and what each of them is given while an answer is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.run_directory import sha256_of
from export.model import OnnxModel, TensorSpec
from targets.base import FP32, Arrays, Engine, Session
from targets.generation import Generation
from targets.generation.cached_attention import PAST
from targets.generation.decoder import WANTED
from targets.generation.session import GenerationSession

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

CALIBRATION_TOKENS = 24
"""Of the answer that each calibration prompt of an encoder-decoder is given, at most; a sentence of usual length."""


@dataclass(frozen=True)
class Assembly:
    """The parts of a model by name, and how they are called; what ships in the place of one ONNX model."""

    parts: Mapping[str, OnnxModel]
    generation: Generation

    @property
    def decoder(self) -> OnnxModel:
        return self.parts["decoder"]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a prompt consists of: the first part's inputs without its caches, and without what the loop adds."""
        first = self.parts.get("encoder", self.decoder)
        return tuple(spec for spec in first.inputs if not spec.name.startswith(PAST) and spec.name != WANTED)


Shipped = OnnxModel | Assembly
"""What is quantized, compiled and shipped: one model that is called once, or the parts of one that writes."""


def digest_of_files(model: Shipped) -> str | dict[str, str]:
    """sha256 of the file, or of each part's."""
    if isinstance(model, OnnxModel):
        return sha256_of(model.path)
    return {name: sha256_of(part.path) for name, part in model.parts.items()}


def main_part(model: Shipped) -> OnnxModel:
    """The model itself, or its decoder: where most of the time of an answer goes."""
    return model if isinstance(model, OnnxModel) else model.decoder


def joined(target: str, scheme: str, parts: Mapping[str, Engine], model: Assembly) -> Engine:
    """The engine of all parts together."""
    decoder = parts["decoder"]
    operators: dict[str, int] = {}
    for part in parts.values():
        for precision, count in part.operators.items():
            operators[precision] = operators.get(precision, 0) + count
    return Engine(
        target=target,
        scheme=scheme,
        path=decoder.path,
        files=tuple(file for part in parts.values() for file in part.files),
        inputs=model.inputs,
        outputs=(model.generation.output(decoder.outputs),),
        build_s=sum(part.build_s for part in parts.values()),
        operators=operators,
        settings=decoder.settings,
        facts=decoder.facts,
        parts=dict(parts),
        generation=model.generation,
    )


@dataclass(frozen=True)
class PartCalibration:
    """What one part reads while the float model goes over the calibration prompts; made anew at each pass.

    A decoder-only model reads the first half of each prompt, then the second half with the cache of the first. The decoder of
    an encoder-decoder reads the answer that the float model writes, at once, after its first token.
    """

    model: Assembly
    part: str
    prompts: Iterable[Arrays]

    def __iter__(self) -> Iterator[Arrays]:
        if self.part == "encoder":
            names = [spec.name for spec in self.model.inputs]
            yield from ({name: prompt[name] for name in names} for prompt in self.prompts)
            return
        recorder = {name: _Recorder(open_part(part.path)) for name, part in self.model.parts.items()}
        read = _read_answer if "encoder" in self.model.parts else _read_halves
        for prompt in self.prompts:
            read(recorder, self.model, prompt)
            yield recorder["decoder"].last


class _Recorder:
    """A session that remembers what it was given last."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.last: Arrays = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self.last = dict(inputs)
        return self._session.run(inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)


def _read_halves(recorders: Mapping[str, _Recorder], model: Assembly, prompt: Arrays) -> None:
    """The decoder is given the second half of `input_ids` with the cache of the first."""
    session = GenerationSession(recorders, model.decoder.inputs, replace(model.generation, mode="score"))
    half = max(1, prompt["input_ids"].shape[1] // 2)
    session.go_on({"input_ids": prompt["input_ids"][:, :half]}, prompt["input_ids"][:, half:])


def _read_answer(recorders: Mapping[str, _Recorder], model: Assembly, prompt: Arrays) -> None:
    """The decoder is given the answer that it writes greedily, with the cache of the start token."""
    tokens = min(CALIBRATION_TOKENS, model.generation.new_tokens)
    generation = replace(model.generation, beams=1, temperature=0.0, new_tokens=tokens)
    session = GenerationSession(recorders, model.decoder.inputs, generation)
    answer = session.run(prompt)["tokens"]
    length = int((answer != generation.padding).sum(axis=1).max())
    session.go_on(prompt, answer[:, : max(1, length)])


def open_part(path: Path) -> Session:
    """The ONNX model of a part on ONNX Runtime, without what it does to layouts.

    With all optimisations ONNX Runtime 1.31.1 crashes (segmentation fault) as it opens the FP16 decoder of a GPT; without its
    FuseFp16InitializerToFp32NodeTransformer, or without its NchwcTransformer, it does not. microsoft/onnxruntime#32405 has a crash
    of the former.
    """
    from targets.onnxruntime_mobile.session import OnnxRuntimeSession, open_engine

    model, settings = OnnxModel.read(path), {"optimisation": "extended"}
    engine = Engine(
        "onnxruntime_mobile", FP32.name, path, (path,), model.inputs, model.outputs, build_s=0.0, settings=settings
    )
    return OnnxRuntimeSession(open_engine(engine, threads=1))
