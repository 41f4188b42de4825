"""Does a model write on this machine what it wrote where it was packed: its tokens, and the logits that it chose them by?

Two machines sum in different orders, and of two tokens that are as likely to the last digits either may be written; all that
follows is then another text. So an answer is held to the golden one twice. The golden tokens are given to the model one by
one, and the logits that it chooses from must be the golden ones within the tolerance. Where the text it writes by itself is
another, those logits must bear it out: with each off by the tolerance at most, two tokens change places only where they lie
within twice the tolerance.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.device.golden import Sample, Selftest
from targets.generation import Generation
from targets.generation.sampling import Pick
from targets.generation.session import GenerationSession

if TYPE_CHECKING:
    from targets.base import Arrays, Session

LIKELIEST = 8
"""Tokens of a place whose logits are kept; the sum over all of the others' is held in `log_sum`."""


def answer(
    session: GenerationSession, prompt: Mapping[str, np.ndarray], generation: Generation
) -> tuple[Arrays, np.ndarray]:
    """What is kept of an answer to a single prompt, and all its logits, float64 (length, vocabulary).

    Returns:
        `tokens`, int64 (1, new_tokens), and of each up to the end token, with 0 behind it: `likeliest`, int32 (1, new_tokens,
        k), the tokens with the highest logits; `logits`, float32 of the same shape; `log_sum`, float32 (1, new_tokens), the
        logarithm of the sum of all exponentials. Then the logits.
    """
    tokens = np.array(session.run(prompt)["tokens"])
    length = _length(tokens[0], generation)
    every = session.steps(prompt, tokens[:, :length])[0]
    likeliest = np.argsort(-every, axis=1, kind="stable")[:, :LIKELIEST]
    kept = {
        "likeliest": likeliest.astype(np.int32),
        "logits": np.take_along_axis(every, likeliest, 1).astype(np.float32),
        "log_sum": _log_sum(every).astype(np.float32),
    }
    behind = generation.new_tokens - length
    padded = {name: np.pad(array, [(0, behind), *[(0, 0)] * (array.ndim - 1)]) for name, array in kept.items()}
    return {"tokens": tokens, **{name: array[None] for name, array in padded.items()}}, every


def judged(
    session: Session, samples: Sequence[Sample], tolerance: float, generation: Generation, load_s: float = 0.0
) -> Selftest:
    """Let the session answer golden prompts, one after the other; its times are of whole answers."""
    assert isinstance(session, GenerationSession), "an engine that generates is opened as one"
    taken, findings = list[float](), list[str]()
    worst, unlike = (0.0, 0), 0
    for index, (prompt, expected) in enumerate(samples):
        start = time.perf_counter()
        found = np.array(session.run(prompt)["tokens"])
        taken.append(time.perf_counter() - start)
        golden = expected["tokens"]
        every = session.steps(prompt, golden[:, : _length(golden[0], generation)])[0]
        worst = max(worst, (_difference(every, expected), -index))
        if found.shape == golden.shape and np.array_equal(found, golden):
            continue
        unlike += 1
        if not findings and (reason := _unexplained(session, prompt, golden, found, every, tolerance, generation)):
            findings.append(f"the answer to golden input {index} is another: {reason}")
    if worst[0] > tolerance:
        told = f"differ by {worst[0]:.3g}" if np.isfinite(worst[0]) else "are NaN, infinite or of other tokens"
        findings.insert(0, f"the logits of the answer {told} at golden input {-worst[1]}, {tolerance:.3g} is allowed")
    share = worst[0] / tolerance if tolerance else float(worst[0] > 0) and float("inf")
    following = float(np.median(taken[1:])) if len(taken) > 1 else taken[0]
    return Selftest(len(samples), load_s, taken[0], following, tuple(findings), share, unlike)


def _length(tokens: np.ndarray, generation: Generation) -> int:
    """Tokens of an answer, the end token among them."""
    ends = np.flatnonzero(tokens == generation.end)
    return int(ends[0]) + 1 if generation.stops and len(ends) else len(tokens)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(axis=1)
    with np.errstate(all="ignore"):  # an infinity is found by who compares
        return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


def _difference(every: np.ndarray, expected: Arrays) -> float:
    """The largest of the kept logits, and of the sums: no token may have become likelier unnoticed."""
    length, words = every.shape
    likeliest = expected["likeliest"][0, :length].astype(np.int64)
    if likeliest.size and not 0 <= likeliest.min() <= likeliest.max() < words:
        return float("inf")
    apart = [
        np.take_along_axis(every, likeliest, 1) - expected["logits"][0, :length],
        _log_sum(every) - expected["log_sum"][0, :length],
    ]
    return max(float(np.nan_to_num(np.abs(each), nan=np.inf).max(initial=0.0)) for each in apart)


def _unexplained(
    session: GenerationSession,
    prompt: Mapping[str, np.ndarray],
    golden: np.ndarray,
    found: np.ndarray,
    every: np.ndarray,
    tolerance: float,
    generation: Generation,
) -> str | None:
    """Why another answer cannot come of logits that are within the tolerance; None if it can.

    Args:
        golden, found: tokens, shape (1, new_tokens).
        every: logits of each golden token's place, those before it given.
    """
    if found.shape != golden.shape:
        return f"it has shape {list(found.shape)} instead of {list(golden.shape)}"
    if generation.beams > 1:
        written = session.steps(prompt, found[:, : _length(found[0], generation)])[0]
        gap = _score(every, golden[0], generation) - _score(written, found[0], generation)
        longest = max(len(every), len(written))
        allowed = 4 * tolerance * longest ** (1.0 - generation.length_penalty)
        return None if gap <= allowed else f"by its own logits it is worse by {gap:.3g}, {allowed:.3g} is allowed"
    place = int(np.flatnonzero(found[0] != golden[0])[0])
    if place >= len(every) or not 0 <= found[0, place] < every.shape[1]:
        return f"token {place} is {found[0, place]}, where the answer has ended or no such token is"
    scores, of_all = (_scores(every, generation, top_k) for top_k in (generation.top_k, 0))
    lacks = scores.max(axis=1) - of_all[np.arange(len(every)), golden[0, : len(every)]]
    gap = max(float(lacks.max()), float(scores[place].max() - scores[place, found[0, place]]))
    allowed = 2 * tolerance / (generation.temperature or 1.0)
    if gap <= allowed:
        return None
    return (
        f"token {place} is {found[0, place]} instead of {golden[0, place]}, and by its own logits a choice is {gap:.3g} off, "
        f"{allowed:.3g} is allowed"
    )


def _scores(every: np.ndarray, generation: Generation, top_k: int) -> np.ndarray:
    """What each token of an answer is chosen by. A golden token may have left the likeliest k by a hair: it is rated all the same."""
    pick = Pick(generation.temperature, top_k, generation.seed)
    return np.concatenate([pick.scores(row[None]) for row in every])


def _score(logits: np.ndarray, tokens: np.ndarray, generation: Generation) -> float:
    """Log-probability of an answer over its length to the power of `length_penalty`, as the beams are weighed."""
    length = len(logits)
    chosen = logits[np.arange(length), tokens[:length]] - _log_sum(logits)
    return float(chosen.sum() / length**generation.length_penalty)
