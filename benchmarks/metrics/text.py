"""Metrics of generated text: BLEU and chrF as sacrebleu counts them, and ROUGE.

The model's first output is token ids that the engine generated; the target is the number of each sample's reference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np

from benchmarks.metrics.checks import check_shapes
from export.errors import EnvironmentFailure, InputError

Decode = Callable[[Sequence[int]], str]
"""A row of token ids to text, without padding and special tokens: the workload's tokenizer."""


class Judge(Protocol):
    """What compares generated texts with references."""

    @property
    def name(self) -> str: ...

    @property
    def references(self) -> tuple[str, ...]: ...

    @property
    def decode(self) -> Decode: ...


ORDERS = 4
"""BLEU counts n-grams of one to four words."""


@dataclass(frozen=True)
class BLEU:
    """Corpus BLEU from 0 to 100, one reference a sample, with sacrebleu's defaults: tokens of 13a, case, smoothing `exp`.

    Args:
        references: all texts that a target may name.

    Source: Papineni et al. 2002, doi:10.3115/1073083.1073135; Post 2018, arXiv:1804.08771.
    """

    references: tuple[str, ...] = field(repr=False)
    decode: Decode = field(repr=False)
    name: str = "bleu"
    higher_is_better: bool = True
    classifies: bool = False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (words, the reference's words, then n-grams found right and n-grams of each order) from token ids."""
        bleu, rows = _sacrebleu(self.name).BLEU(), []
        for text, reference in texts(self, outputs, target):
            found = bleu.corpus_score([text], [[reference]])
            rows.append([found.sys_len, found.ref_len, *found.counts, *found.totals])
        return np.array(rows, np.float64)

    def value(self, statistics: np.ndarray) -> float:
        words, wanted, *counts = statistics.sum(axis=0).astype(int).tolist()
        right, total = counts[:ORDERS], counts[ORDERS:]
        found = _sacrebleu(self.name).BLEU.compute_bleu(right, total, words, wanted, smooth_method="exp")
        return float(found.score)


@dataclass(frozen=True)
class ChrF:
    """Corpus chrF2 from 0 to 100, one reference a sample, with sacrebleu's defaults: up to 6 characters, spaces left out.

    Args:
        references: all texts that a target may name.

    Source: Popovic 2015, doi:10.18653/v1/W15-3049; Post 2018, arXiv:1804.08771.
    """

    references: tuple[str, ...] = field(repr=False)
    decode: Decode = field(repr=False)
    name: str = "chrf"
    higher_is_better: bool = True
    classifies: bool = False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (n-grams, the reference's n-grams, n-grams of both, order by order) from token ids."""
        return np.array([_chrf_counts(text, reference) for text, reference in texts(self, outputs, target)], np.float64)

    def value(self, statistics: np.ndarray) -> float:
        return _chrf_of(statistics.sum(axis=0).astype(int).tolist())


@dataclass(frozen=True)
class ROUGE:
    """Mean over the samples of ROUGE's F-measure, from 0 to 1: of n-grams ("1", "2"), or of the longest common subsequence.

    Words are runs of a-z and 0-9 in lower case, without stemming, as the package rouge-score splits them: it is of no use
    for other alphabets.

    Args:
        references: all texts that a target may name.
        kind: "L" does not look at sentences; rouge-score's rougeL, not rougeLsum.

    Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries", aclanthology.org/W04-1013.
    """

    references: tuple[str, ...] = field(repr=False)
    decode: Decode = field(repr=False)
    kind: Literal["1", "2", "L"] = "L"
    higher_is_better: bool = True
    classifies: bool = False

    @property
    def name(self) -> str:
        return f"rouge{self.kind}"

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (F-measure,) from token ids."""
        measures = [
            _rouge(_words(text), _words(reference), self.kind) for text, reference in texts(self, outputs, target)
        ]
        return np.array(measures, np.float64).reshape(-1, 1)

    def value(self, statistics: np.ndarray) -> float:
        return float(np.mean(statistics[:, 0]))


def sacrebleu_installed() -> bool:
    return find_spec("sacrebleu") is not None


def texts(metric: Judge, outputs: np.ndarray, target: np.ndarray) -> Iterator[tuple[str, str]]:
    """Each sample's generated text and its reference.

    Args:
        outputs: token ids, shape (batch, tokens); the accuracy run gives them as float32, which holds them exactly.
        target: numbers of references, shape (batch,).

    Raises:
        InputError: if the shapes are others, or a target names no reference.
    """
    fit = outputs.ndim == 2 and target.shape == outputs.shape[:1]
    expected = "generated token ids (batch, tokens) and a target (batch,), the number of each sample's reference"
    check_shapes(metric.name, fit, expected, outputs, target)
    for ids, number in zip(np.rint(outputs).astype(np.int64), target.astype(np.int64), strict=True):
        if not 0 <= number < len(metric.references):
            raise InputError(
                f"{metric.name}: a target is the number of a reference, from 0 on, and the metric holds "
                f"{len(metric.references)} references; found {number}"
            )
        yield metric.decode(ids.tolist()), metric.references[number]


def _sacrebleu(metric: str) -> Any:
    """sacrebleu's metrics, imported where they are used.

    Raises:
        EnvironmentFailure: if it is not installed; says how to install it.
    """
    if not sacrebleu_installed():
        raise EnvironmentFailure(f"{metric}: sacrebleu is not installed; pip install 'edge-compress[nlp]'")
    from sacrebleu import metrics

    return metrics


def _chrf_counts(text: str, reference: str) -> list[int]:
    """What sacrebleu's chrF adds up. It has no public way to it: this and `_chrf_of` are all that use its inside."""
    [counts] = _sacrebleu("chrf").CHRF()._extract_corpus_statistics([text], [[reference]])
    return list(counts)


def _chrf_of(counts: list[int]) -> float:
    return float(_sacrebleu("chrf").CHRF()._compute_f_score(counts))


def _words(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


def _rouge(text: list[str], reference: list[str], kind: Literal["1", "2", "L"]) -> float:
    """F-measure: twice what both have over what each of them has, which is 2 P R / (P + R)."""
    if kind == "L":
        both, either = longest_common_subsequence(text, reference), len(text) + len(reference)
    else:
        found, wanted = (_n_grams(words, int(kind)) for words in (text, reference))
        both, either = (found & wanted).total(), found.total() + wanted.total()
    return 2.0 * both / max(either, 1)


def _n_grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Its length, a column of the usual table at a time: bit i is 0 where the table steps up from row i to i + 1.

    A table of 100 x 100 words takes milliseconds in Python, its 100 columns as integers microseconds.

    Source: Hyyro 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(one)) - 1
    column = whole
    for word in other:
        matching = column & places.get(word, 0)
        column = ((column + matching) | (column - matching)) & whole
    return len(one) - column.bit_count()
