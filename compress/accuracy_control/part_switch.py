"""The same switches over all parts of a model that writes: what a layer does to the logits, wherever it stands, and to the text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Self

import numpy as np

from compress.accuracy_control.layer_switch import LayerSwitch
from compress.generation.assembly import Assembly, PartCalibration
from targets.base import Arrays
from targets.generation import Generation
from targets.generation.session import GenerationSession

ENCODER, DECODER = "encoder", "decoder"


class PartSwitch:
    """A model's parts in ONNX Runtime; a layer is called "part/layer".

    Args:
        quantized: parts with Q/DQ nodes, or of dynamic INT8.
        original: the float parts that were quantized.
        generation: what the metric reads: text, or the logits of given tokens.
        threads: of the runtime.
    """

    def __init__(self, quantized: Assembly, original: Assembly, generation: Generation, threads: int = 1) -> None:
        self._switches = {
            name: LayerSwitch(part.proto(), original.parts[name].proto(), threads)
            for name, part in quantized.parts.items()
        }
        self._decoder, self._generation = original.decoder.inputs, generation
        self.operators = {
            in_part(part, layer): operator
            for part, switch in self._switches.items()
            for layer, operator in switch.operators.items()
        }
        self.layers = tuple(self.operators)

    def outputs(self, batches: Iterable[Arrays], quantized: Collection[str]) -> list[np.ndarray]:
        """The decoder's logits on each of `readings`, shape (batch, tokens, vocabulary), with only these layers in 8 bits.

        What the encoder gives goes through the decoder, so that a layer of either counts by what it does to the logits.
        """
        mine = layers_by_part(quantized)
        found = []
        for batch in batches:
            given = arrays_by_part(batch)
            if ENCODER in self._switches:
                given[DECODER] |= self._switches[ENCODER].run(given[ENCODER], mine.get(ENCODER, ()))
            logits = self._switches[DECODER].run(given[DECODER], mine.get(DECODER, ()))["logits"]
            found.append(logits.astype(np.float32))
        return found

    def answers(self, inputs: Arrays, quantized: Collection[str]) -> np.ndarray:
        """What the metric reads of a batch of prompts, with only these layers in 8 bits."""
        mine = layers_by_part(quantized)
        sessions = {name: _Switched(switch, mine.get(name, ())) for name, switch in self._switches.items()}
        [answer] = GenerationSession(sessions, self._decoder, self._generation).run(inputs).values()
        return answer


def readings(model: Assembly, prompts: Iterable[Arrays]) -> Iterable[Arrays]:
    """What all parts read together of each calibration prompt, by "part/input"; see PartCalibration."""
    parts = [PartCalibration(model, name, prompts) for name in model.parts]
    for given in zip(*parts, strict=True):
        yield {
            in_part(name, tensor): array
            for name, inputs in zip(model.parts, given, strict=True)
            for tensor, array in inputs.items()
        }


def in_part(part: str, name: str) -> str:
    """A layer or tensor of a part; of a model that is one graph (no part's name) its own name."""
    return f"{part}/{name}" if part else name


def layers_by_part(names: Collection[str]) -> dict[str, set[str]]:
    """Layers by part; a layer's own name may hold slashes."""
    found: dict[str, set[str]] = {}
    for name in names:
        part, _, layer = name.partition("/")
        found.setdefault(part, set()).add(layer)
    return found


def arrays_by_part(batch: Arrays) -> dict[str, Arrays]:
    """Arrays of `readings` by part."""
    found: dict[str, Arrays] = {}
    for name, array in batch.items():
        part, _, tensor = name.partition("/")
        found.setdefault(part, {})[tensor] = array
    return found


class _Switched:
    """A part with only these layers in 8 bits, as a session."""

    def __init__(self, switch: LayerSwitch, quantized: Collection[str]) -> None:
        self._switch, self._quantized = switch, quantized

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._switch.run(inputs, self._quantized)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
