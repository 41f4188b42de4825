"""The next token from logits: the likeliest, or one drawn at a temperature among the likeliest."""

from __future__ import annotations

import numpy as np


class Pick:
    """Called with logits of shape (batch, vocabulary), gives a token for each row, int64 of shape (batch,).

    Args:
        temperature: 0 takes the likeliest; above, tokens are drawn from the softmax of logits / temperature.
        top_k: draw among the likeliest k; 0 among all.
        seed: of the draws, the same for every row of a batch: an answer does not depend on the prompts beside it.
    """

    def __init__(self, temperature: float, top_k: int, seed: int) -> None:
        self._temperature, self._top_k = temperature, top_k
        self._random = np.random.default_rng(seed)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(self.scores(logits).argmax(axis=1), dtype=np.int64)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """What the choice goes by: the largest of a row is taken. Above temperature 0 every call draws anew."""
        if self._temperature <= 0:
            return logits
        scaled = logits.astype(np.float64) / self._temperature
        if 0 < self._top_k < scaled.shape[1]:
            least = np.partition(scaled, -self._top_k, axis=1)[:, -self._top_k, None]
            scaled = np.where(scaled < least, -np.inf, scaled)
        # Gumbel's trick (Maddison et al. 2014, arXiv:1411.0030): the largest of logit + noise is a draw of the softmax.
        noise = self._random.gumbel(size=scaled.shape[1])
        return np.asarray(scaled + noise)
