"""What engines are profiled on: arrays of the sizes that were measured, and each part of a model that writes as it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compress.measuring import PROMPT, TOKENS
from export.model import TensorSpec
from targets import Engine
from targets.generation import Generation
from targets.generation.decoder import ROWS, WANTED

EXTENT = 64
"""Of a dynamic axis that the recipe's benchmark.sizes does not name."""
SEED = 0


@dataclass(frozen=True)
class Call:
    """A part as it is called while an answer is written.

    Args:
        words: which call, for the reader.
        times: how often in an answer.
        past: tokens in the cache that a decoder keeps itself; None where there is none, or it is among the inputs.
    """

    part: str
    words: str
    inputs: Mapping[str, np.ndarray]
    times: int
    past: int | None = None


def calls_of(engine: Engine, batch_size: int, sizes: Mapping[str, int]) -> list[Call]:
    """As `calls_of_parts`, of a compiled model."""
    assert engine.generation is not None, "only a model that writes has parts"
    parts = {name: part.inputs for name, part in engine.parts.items()}
    return calls_of_parts(parts, engine.generation, batch_size, sizes)


def calls_of_parts(
    parts: Mapping[str, Sequence[TensorSpec]], generation: Generation, batch_size: int, sizes: Mapping[str, int]
) -> list[Call]:
    """The two kinds of calls that make an answer: what reads the prompt, and one step in the middle of the answer.

    Args:
        parts: the inputs of each.
        sizes: tokens of prompt and answer, as `Bench.sizes` has them.
    """
    prompt, tokens = sizes.get(PROMPT, EXTENT), sizes.get(TOKENS, generation.new_tokens)
    decoder, beams = parts["decoder"], generation.beams
    behind = "encoder" in parts
    past = tokens // 2 if behind else prompt + tokens // 2
    step = Call(
        "decoder",
        f"one step after {past} tokens" + (f", {beams} beams" if beams > 1 else ""),
        _of_decoder(decoder, batch_size * beams, 1, past, prompt),
        tokens if behind else tokens - 1,  # the first of a decoder by itself comes of its prompt
        past if _keeps_cache(decoder) else None,
    )
    if behind:
        axes = {axis: prompt for spec in parts["encoder"] for axis in spec.shape[1:] if isinstance(axis, str)}
        reads = profile_inputs(parts["encoder"], batch_size, axes)
        return [Call("encoder", f"a prompt of {prompt}" if axes else "a source", reads, 1), step]
    reads = _of_decoder(decoder, batch_size, prompt, 0, prompt)
    return [Call("decoder", f"a prompt of {prompt}", reads, 1, 0 if _keeps_cache(decoder) else None), step]


def profile_inputs(specs: Sequence[TensorSpec], batch_size: int, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Seeded normal floats; integers are 1, which every embedding table and mask takes.

    An input's first axis is the batch where it is named; another named axis that `sizes` lacks has EXTENT.
    """
    random = np.random.default_rng(SEED)
    arrays = {}
    for spec in specs:
        shape = [
            axis if isinstance(axis, int) else batch_size if position == 0 else sizes.get(axis, EXTENT)
            for position, axis in enumerate(spec.shape)
        ]
        floats = np.issubdtype(np.dtype(spec.dtype), np.floating)
        arrays[spec.name] = (random.normal(0, 1, shape) if floats else np.ones(shape)).astype(spec.dtype)
    return arrays


def _keeps_cache(decoder: Sequence[TensorSpec]) -> bool:
    return any(spec.name == ROWS for spec in decoder)


def _of_decoder(
    decoder: Sequence[TensorSpec], batch_size: int, length: int, past: int, prompt: int
) -> dict[str, np.ndarray]:
    """`length` new tokens behind a cache of `past`; what an encoder gave is `prompt` long, and nothing is padded."""
    sizes: dict[str, int] = {}
    for spec in decoder:
        known = {"input_ids": length, WANTED: 1}
        extent = past if spec.name.startswith("past_") else known.get(spec.name, prompt)
        sizes |= {axis: extent for axis in spec.shape[1:] if isinstance(axis, str) and axis not in sizes}
    arrays = profile_inputs(decoder, batch_size, sizes)
    if "padding" in arrays:
        arrays["padding"][:] = 0
    if ROWS in arrays:
        arrays[ROWS][:] = np.arange(batch_size)
    return arrays
