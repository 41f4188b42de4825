"""The metric of named entities: spans of tokens with a type, read from BIO tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.metrics.checks import check_shapes, token_labels
from export.errors import InputError

OUTSIDE = "O"


@dataclass(frozen=True)
class EntityF1:
    """F1 of whole entities, all types together (micro): one is right where its type and both its borders are.

    Tokens whose label is IGNORED are left out before the tags are read, of the predictions too, so that sub-words after the
    first do not part an entity.

    Args:
        labels: the tag of each class, "O", "B-TYPE" or "I-TYPE", in the order of the logits.

    Raises:
        InputError: if a label is none of these.

    Source: Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050 (conlleval), as seqeval computes it by default.
    """

    labels: tuple[str, ...] = field(repr=False)
    name: str = "entity_f1"
    higher_is_better: bool = True
    classifies: bool = False

    def __post_init__(self) -> None:
        for label in self.labels:
            if not re.fullmatch(r"O|[BI]-.+", label):
                raise InputError(f"{self.name}: labels must be BIO tags ('O', 'B-TYPE', 'I-TYPE'), found '{label}'")

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (entities found right, predicted, actual) from logits (batch, length, tags) and tags (batch, length)."""
        tags, counted = token_labels(self.name, outputs, target)
        tagged = f"logits (batch, length, {len(self.labels)}), one for each of the metric's labels"
        check_shapes(self.name, outputs.shape[2] == len(self.labels), tagged, outputs, target)
        predicted, rows = outputs.argmax(axis=2), np.empty((len(outputs), 3))
        for row, guess, truth, which in zip(rows, predicted, tags, counted, strict=True):
            found, actual = self._entities(guess[which]), self._entities(truth[which])
            row[:] = len(found & actual), len(found), len(actual)
        return rows

    def value(self, statistics: np.ndarray) -> float:
        right, predicted, actual = statistics.sum(axis=0)
        return float(2.0 * right / max(predicted + actual, 1.0))

    def _entities(self, tags: np.ndarray) -> set[tuple[str, int, int]]:
        return entities(self.labels[tag] for tag in tags.tolist())


def entities(tags: Iterable[str]) -> set[tuple[str, int, int]]:
    """The type, first and last place of each entity.

    An entity goes on with an I- of its own type, and ends before anything else. Any other B- or I- opens one: conlleval is
    lenient and does not ask for the B-.
    """
    found: set[tuple[str, int, int]] = set()
    opened, before = 0, OUTSIDE
    for place, tag in enumerate((*tags, OUTSIDE)):
        if not (tag[0] == "I" and tag[2:] == before[2:]):
            if before != OUTSIDE:
                found.add((before[2:], opened, place - 1))
            opened = place
        before = tag
    return found
