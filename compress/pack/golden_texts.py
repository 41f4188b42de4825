"""The golden answers of a model that writes: tokens, and of each the logits that it was chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.device.written import answer
from compress.generation.assembly import open_part
from compress.pack.golden import FROM_ONNX, HERE, Answered
from export.bundle.writing import JUDGED
from export.errors import UnsupportedError
from targets import Engine, Target, load
from targets.generation import Generation
from targets.generation.session import GenerationSession


def written_answers(
    target: Target, engine: Engine, generation: Generation, prompts: Sequence[Mapping[str, np.ndarray]]
) -> Answered:
    """Let the engine answer the prompts, one by one; ONNX Runtime does, from the parts beside it, where it cannot run here.

    Raises:
        UnsupportedError: if neither can.
    """
    runs = target.cannot_run() is None
    session = load(target, engine, threads=1) if runs else _from_onnx(engine, generation)
    assert isinstance(session, GenerationSession), "an engine that generates is opened as one"
    with session:
        found = [answer(session, prompt, generation) for prompt in prompts]
    lowest, highest = min(logits.min() for _, logits in found), max(logits.max() for _, logits in found)
    return Answered(tuple(kept for kept, _ in found), HERE if runs else FROM_ONNX, {JUDGED: float(highest - lowest)})


def _from_onnx(engine: Engine, generation: Generation) -> GenerationSession:
    sources = {name: part.path.with_name("model.onnx") for name, part in engine.parts.items()}
    for name, source in sources.items():
        if not source.is_file():
            raise UnsupportedError(
                f"{engine.target}: the engine cannot run here, and no {source.name} lies beside its {name} to ask"
            )
    sessions = {name: open_part(source) for name, source in sources.items()}
    return GenerationSession(sessions, engine.parts["decoder"].inputs, generation)
