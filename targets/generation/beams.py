"""Beam search: several answers to a prompt followed side by side, the best one given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from targets.generation import Generation

NEVER = -1e9
"""Log-probability of what must not be chosen."""
BLOCK = 32
"""Logits of which the largest is looked at first."""


class Beams:
    """The state of a search over a batch of prompts, without the model: logits go in, what to decode next comes out.

    A beam that takes the end token is finished, and weighed by its log-probability over its length to the power of
    `length_penalty`. A prompt is done when it has `beams` finished answers and no open one can beat the worst of them
    at its present length (what transformers does with `early_stopping=False`), or when `new_tokens` are written.

    Source: Wu et al. 2016, arXiv:1609.08144, section 7 (with the plain power of the length).
    """

    def __init__(self, prompts: int, generation: Generation) -> None:
        self._generation, self._prompts = generation, prompts
        width = generation.beams
        self._tokens = np.full((prompts, width, generation.new_tokens), generation.padding, dtype=np.int64)
        self._scores = np.full((prompts, width), NEVER)
        self._scores[:, 0] = 0.0  # the beams of a prompt begin as one
        self._finished: list[list[tuple[float, np.ndarray]]] = [[] for _ in range(prompts)]
        self._done = np.zeros(prompts, dtype=bool)
        self._length = 0
        self._room = np.empty((0, 0), dtype=np.float32)

    @property
    def done(self) -> bool:
        """Whether no prompt needs another step."""
        return bool(self._done.all()) or self._length == self._generation.new_tokens

    @property
    def last(self) -> np.ndarray:
        """The token that each beam ends with, shape (prompts * beams,)."""
        return self._tokens[:, :, self._length - 1].reshape(-1)

    def advance(self, logits: np.ndarray) -> np.ndarray:
        """Take one step.

        Args:
            logits: of the next token, shape (prompts * beams, vocabulary).

        Returns:
            For each beam the row of `logits` that it goes on from, shape (prompts * beams,).
        """
        width, vocabulary = self._generation.beams, logits.shape[1]
        rows = np.zeros((self._prompts, width), dtype=np.int64)
        for prompt in range(self._prompts):
            places, scores = self._candidates(prompt, logits[prompt * width : (prompt + 1) * width])
            rows[prompt] = self._take(prompt, places, scores, vocabulary)
            rows[prompt] += prompt * width
        self._length += 1
        for prompt in range(self._prompts):
            self._done[prompt] |= self._settled(prompt)
        return rows.reshape(-1)

    def best(self) -> np.ndarray:
        """The best answer to each prompt, shape (prompts, new_tokens); the end token stands in it, then padding."""
        for prompt in np.flatnonzero(~self._done).tolist():
            for beam, score in enumerate(self._scores[prompt]):
                self._finish(prompt, float(score), self._tokens[prompt, beam], self._length)
        return np.stack([max(found, key=lambda answer: answer[0])[1] for found in self._finished])

    def _candidates(self, prompt: int, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Twice as many tokens as beams, the best first, of equal ones the first: even if every beam ends, as many go on.

        Returns:
            Where each stands in the flattened logits of the prompt's beams, and the log-probability of the answer with it.
        """
        count, vocabulary = 2 * self._generation.beams, logits.shape[1]
        places = _largest(logits, count)
        beams = places // vocabulary
        largest, sums = self._normalisers(logits)
        found = logits.reshape(-1)[places].astype(np.float64) - largest[beams] - sums[beams]
        scores = self._scores[prompt, beams] + found
        best = np.argsort(-scores, kind="stable")[:count]
        return places[best], scores[best]

    def _normalisers(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest logit of each row, and the logarithm of the sum of exp(logit - largest), softmax's, both float64.

        The room for it is kept: new memory in every step took longer than the sums.
        """
        if self._room.shape != logits.shape:
            self._room = np.empty(logits.shape, dtype=np.float32)
        largest = logits.max(axis=1)
        np.subtract(logits, largest[:, None], out=self._room)
        np.exp(self._room, out=self._room)
        return largest.astype(np.float64), np.log(self._room.sum(axis=1, dtype=np.float64))

    def _take(self, prompt: int, places: np.ndarray, scores: np.ndarray, vocabulary: int) -> list[int]:
        """Give a prompt its next beams; those that end are kept apart. Returns the beams that they go on from."""
        generation, before = self._generation, self._tokens[prompt].copy()
        sources: list[int] = []
        for rank, (place, score) in enumerate(zip(places.tolist(), scores.tolist())):
            beam, token = divmod(place, vocabulary)
            if generation.stops and token == generation.end:
                if rank < generation.beams and not self._done[prompt]:
                    answer = before[beam].copy()
                    answer[self._length] = token
                    self._finish(prompt, score, answer, self._length + 1)
                continue
            self._tokens[prompt, len(sources)] = before[beam]
            self._tokens[prompt, len(sources), self._length] = token
            self._scores[prompt, len(sources)] = score
            sources.append(beam)
            if len(sources) == generation.beams:
                break
        return sources

    def _finish(self, prompt: int, score: float, answer: np.ndarray, length: int) -> None:
        found = self._finished[prompt]
        found.append((score / length**self._generation.length_penalty, answer))
        found.sort(key=lambda each: -each[0])
        del found[self._generation.beams :]

    def _settled(self, prompt: int) -> bool:
        found = self._finished[prompt]
        if len(found) < self._generation.beams:
            return False
        reachable = float(self._scores[prompt].max()) / self._length**self._generation.length_penalty
        return bool(found[-1][0] >= reachable)


def _largest(logits: np.ndarray, count: int) -> np.ndarray:
    """Places, in the flattened logits and in ascending order, of the `count` largest of each row and of some more.

    A row is cut into sets of BLOCK: that many sets have a largest logit of their own, so none below the least of these is among
    the wanted. To sort all took half the time of an answer.
    """
    sets = logits.shape[1] // BLOCK
    if sets < count:
        return np.arange(logits.size)
    largest = logits[:, : sets * BLOCK].reshape(len(logits), BLOCK, sets).max(axis=1)
    least = np.partition(largest, sets - count, axis=1)[:, sets - count, None]
    # NaN, of an engine that overflows, is not below anything: such a row is taken whole.
    return np.flatnonzero(~(logits < least))
