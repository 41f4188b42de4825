"""What is timed of a model that writes: a whole answer, always of the same number of tokens, and its first token alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.latency import Pool, Protocol, measure
from export.bundle.manifest import Manifest
from export.progress import Track
from targets import Engine
from targets.generation import prompt_length
from targets.generation.session import writing

LENGTH, TOKENS = "length", "tokens"
"""Of a working point: the tokens of the prompt and of the answer; as in a run's report."""
MODEL = "model"


def whole_answers(
    engine: Engine, manifest: Manifest, prompt: Mapping[str, np.ndarray]
) -> tuple[Engine, dict[str, int]]:
    """The engine that writes as many tokens as the run timed, past the end token, and the working point."""
    tokens = int((manifest.postprocessing or {})["timed_tokens"])
    length = prompt_length(prompt)
    sizes = {**({} if length is None else {LENGTH: length}), TOKENS: tokens}
    return writing(engine, stops=False, new_tokens=tokens), sizes


def first_tokens(
    engine: Engine, inputs: Mapping[int, Pool], protocol: Protocol, sizes: Mapping[str, int], track: Track
) -> list[dict[str, Any]]:
    """Latency of the first token at each batch size, by the same protocol; plain values for JSON."""
    found = measure({MODEL: writing(engine, new_tokens=1)}, inputs, protocol, track=track)[MODEL]
    return [asdict(timings.latency({**sizes, TOKENS: 1})) for timings in found.timings.values()]


def answer_times(found: Mapping[str, Any]) -> Iterable[str]:
    """A line for each batch size of a device's report: what the answer's time is made of."""
    for whole, first in zip(found["latency"], found["first_token"]):
        tokens, further = whole["sizes"][TOKENS], whole["median_s"] - first["median_s"]
        prompt = f" to a prompt of {whole['sizes'][LENGTH]}" if LENGTH in whole["sizes"] else ""
        each = f", each further one {further / (tokens - 1) * 1e3:.3g} ms" if tokens > 1 else ""
        yield (
            f"batch {whole['batch_size']}: an answer of {tokens} tokens{prompt}: first token "
            f"{first['median_s'] * 1e3:.3g} ms{each}, {whole['batch_size'] * tokens / whole['median_s']:,.0f} tokens/s"
        )
