"""CPU time of the first token of an answer and of each further one, of any engines of a run that writes.

    python -m benchmarks.studies.tokens runs/gpt/artifacts/openvino/fp32 runs/gpt/artifacts/onnxruntime_mobile/int8

All engines are loaded into this process and take turns in random order, on the same prompts of random tokens, each of which comes
once. What is told is the least of all rounds: CPU time does not count what other processes take of the core, but the caches that
they empty, and the least is of a round in which they emptied few.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.serve import pin
from export.errors import CompressError, InputError, SecurityError, UnsupportedError
from targets import REGISTRY, Arrays, Engine, target_class
from targets.generation.session import GenerationSession

ENGINE = "engine.json"
PROMPT, TOKENS, ROUNDS = 128, 64, 12
UNMEASURED = 2
"""Rounds at first, in which runtimes make what they keep for these shapes."""


@dataclass(frozen=True)
class TokenTimes:
    """CPU seconds of every round of one engine.

    Args:
        first_s: of answers of one token: the prompt is read, and the first token written.
        whole_s: of answers of `tokens` tokens, 2 or more.
    """

    first_s: Sequence[float]
    whole_s: Sequence[float]
    tokens: int

    @property
    def first(self) -> float:
        """The least, in seconds."""
        return min(self.first_s)

    @property
    def further(self) -> float:
        """Seconds of each token after the first: what the least whole answer takes more than the least first token."""
        return (min(self.whole_s) - self.first) / (self.tokens - 1)


@dataclass(frozen=True)
class Writer:
    """An engine that writes, loaded once, as two sessions: one stops after the first token."""

    first: GenerationSession
    whole: GenerationSession


def read_writer(folder: Path) -> Engine:
    """The engine of an artifact's folder.

    Raises:
        InputError: if there is none, or it does not write.
        SecurityError: if it is for a target that is not installed: its name could be any code's.
        UnsupportedError: if it cannot run here.
    """
    if not (folder / ENGINE).is_file():
        raise InputError(f"{folder}: has no {ENGINE}; name the folder of an artifact: RUN/artifacts/TARGET/SCHEME")
    engine = Engine.from_json(json.loads((folder / ENGINE).read_text()), folder)
    if engine.target not in (known := REGISTRY.names()):
        raise SecurityError(f"{folder / ENGINE}: is for target {engine.target!a}; known: {', '.join(known)}")
    if engine.generation is None:
        raise InputError(f"{folder}: answers in one call and writes no tokens; measure its file with compress bench")
    if reason := target_class(engine.target)().cannot_run():
        raise UnsupportedError(f"{folder}: {engine.target} cannot run here: {reason}")
    return engine


def open_writer(engine: Engine, tokens: int, threads: int) -> Writer:
    """Its parts, loaded; answers are written past the end token, so that all engines do the same work."""
    assert engine.generation is not None, "read_writer gives only engines that write"
    target = target_class(engine.target)()
    sessions = {name: target.load(part, threads) for name, part in engine.parts.items()}
    inputs = engine.parts["decoder"].inputs
    first, whole = (replace(engine.generation, mode="write", stops=False, new_tokens=new) for new in (1, tokens))
    return Writer(GenerationSession(sessions, inputs, first), GenerationSession(sessions, inputs, whole))


def time_tokens(
    writers: Mapping[str, Writer],
    prompts: Sequence[Arrays],
    tokens: int,
    clock: Callable[[], float] = time.process_time,
    seed: int = 0,
) -> dict[str, TokenTimes]:
    """Every writer on every prompt, in an order drawn anew for each; the first UNMEASURED prompts do not count."""
    generator = np.random.default_rng(seed)
    first: dict[str, list[float]] = {name: [] for name in writers}
    whole: dict[str, list[float]] = {name: [] for name in writers}
    for prompt in prompts:
        for name in generator.permutation(sorted(writers)).tolist():
            for session, taken in ((writers[name].first, first[name]), (writers[name].whole, whole[name])):
                start = clock()
                session.run(prompt)
                taken.append(clock() - start)
    return {name: TokenTimes(first[name][UNMEASURED:], whole[name][UNMEASURED:], tokens) for name in writers}


def random_prompts(engines: Iterable[Engine], count: int, length: int, seed: int = 0) -> list[Arrays]:
    """Prompts of one sample each, of tokens that all engines know; nothing is padded. A decoder alone reads no mask."""
    logits = [spec for engine in engines for spec in engine.parts["decoder"].outputs if spec.name == "logits"]
    words = min(spec.shape[-1] for spec in logits if isinstance(spec.shape[-1], int))
    generator = np.random.default_rng(seed)
    ids = [generator.integers(0, words, size=(1, length)) for _ in range(count)]
    return [{"input_ids": each, "attention_mask": np.ones_like(each)} for each in ids]


def names_of(folders: Sequence[Path]) -> list[str]:
    """target/scheme of each folder; the whole path where two are alike."""
    names = ["/".join(folder.parts[-2:]) for folder in folders]
    return [str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names, strict=True)]


def table(found: Mapping[str, TokenTimes]) -> str:
    """A line for each engine: milliseconds, and further tokens relative to the first engine's."""
    title, against = "CPU time, least of all rounds", next(iter(found.values())).further
    width = max(map(len, (title, *found)))
    lines = [f"{title:{width}} {'first token':>14} {'each further':>14} {'of the first':>13}"]
    lines += [
        f"{name:{width}} {1e3 * each.first:11.2f} ms {1e3 * each.further:11.3f} ms {each.further / against:13.2f}"
        for name, each in found.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.tokens", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN/artifacts/TARGET/SCHEME")
    parser.add_argument("--prompt", type=int, default=PROMPT, help="tokens of each prompt")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each answer, 2 or more")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    if min(asked.prompt, asked.tokens - 1, asked.rounds, asked.threads) < 1:
        parser.error("--prompt, --rounds and --threads must be 1 or more, --tokens 2 or more")
    try:
        engines = {
            name: read_writer(folder) for name, folder in zip(names_of(asked.folders), asked.folders, strict=True)
        }
        prompts = random_prompts(engines.values(), UNMEASURED + asked.rounds, asked.prompt)
        pin(asked.threads)
        writers = {name: open_writer(engine, asked.tokens, asked.threads) for name, engine in engines.items()}
        print(table(time_tokens(writers, prompts, asked.tokens)))
    except CompressError as error:
        print(f"tokens: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
