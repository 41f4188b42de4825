"""Word and character error rates: the metrics of recognised speech and of text that is read in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from benchmarks.metrics.text import Decode, texts


@dataclass(frozen=True)
class ErrorRate:
    """Insertions, deletions and substitutions that lead to the reference, over its words or characters; 0 is best, 1 no limit.

    Of all samples together, as jiwer counts. Words are what white space parts; characters count with the single spaces
    between words. Case and punctuation count as they stand.

    Args:
        references: all texts that a target may name.
        of: "words" (WER) or "characters" (CER).

    Source: Levenshtein 1966, "Binary codes capable of correcting deletions, insertions, and reversals".
    """

    references: tuple[str, ...] = field(repr=False)
    decode: Decode = field(repr=False)
    of: Literal["words", "characters"] = "words"
    higher_is_better: bool = False
    classifies: bool = False

    @property
    def name(self) -> str:
        return "wer" if self.of == "words" else "cer"

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (edits, length of the reference) from token ids."""
        pairs = [(self._pieces(text), self._pieces(reference)) for text, reference in texts(self, outputs, target)]
        rows = [(edit_distance(text, reference), len(reference)) for text, reference in pairs]
        return np.array(rows, np.float64).reshape(-1, 2)

    def value(self, statistics: np.ndarray) -> float:
        edits, length = statistics.sum(axis=0)
        return float(edits / max(length, 1.0))

    def _pieces(self, text: str) -> Sequence[str]:
        words = text.split()
        return words if self.of == "words" else " ".join(words)


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Insertions, deletions and substitutions from one to the other, a column of the usual table at a time.

    Bit i of `rises` and of `falls` says whether the column steps up or down by one from row i to row i + 1.

    Source: Myers 1999, doi:10.1145/316542.316550, in the form of Hyyro 2001, "Explaining and extending the bit-parallel
    approximate string matching algorithm of Myers".
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for place, piece in enumerate(one):
        places[piece] = places.get(piece, 0) | 1 << place
    whole, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    rises, falls, distance = whole, 0, len(one)
    for piece in other:
        equal = places.get(piece, 0)
        straight = (((equal & rises) + rises) ^ rises) | equal | falls
        further, nearer = (falls | ~(straight | rises)) & whole, rises & straight
        distance += bool(further & last) - bool(nearer & last)
        further, nearer = further << 1 | 1, nearer << 1
        rises, falls = (nearer | ~(equal | falls | further)) & whole, further & (equal | falls) & whole
    return distance
