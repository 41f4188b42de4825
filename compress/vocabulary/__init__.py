"""The vocabulary step: tables of tokens keep a row for the tokens that the data use, and may become products of two factors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from compress.evaluate import evaluate
from compress.model_size import measure_size
from compress.prune.calibration import validation_of
from compress.step import StepContext, StepResult
from compress.vocabulary.tables import SMALLEST, TokenTable, token_counts, token_tables
from compress.vocabulary.trimmed import TrimmedEmbedding, trimmed
from compress.workload import Workload
from export.errors import InputError, UnsupportedError

__all__ = ["TrimmedEmbedding", "Vocabulary"]

PLAN_FILE = "vocabulary.json"
MUCH_SHARED = 0.02
"""Above this share of validation tokens without a row of their own the report warns."""


@dataclass(frozen=True)
class Vocabulary:
    """Drop the rows of embeddings whose tokens training data do not have. Token ids stay as they are: a table in the model
    leads from each to its row, and all tokens without one read one row, the mean of theirs."""

    kind: ClassVar[str] = "vocabulary"

    minimum_count: int = 1
    """A token that stands at least so often in one pass over the training batches keeps its row; 0 keeps all."""
    keep: tuple[int, ...] = ()
    """Ids that keep their row, however often they come."""
    rank: int | None = None
    """Width of the rows that are left, with a linear layer behind them that brings them to the old one; null leaves it."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of module paths that stay as they are."""

    def __post_init__(self) -> None:
        if self.minimum_count < 0:
            raise ValueError(f"minimum_count must be 0 or more, found {self.minimum_count}")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be 1 or more, found {self.rank}")
        if self.minimum_count == 0 and self.rank is None:
            raise ValueError(
                "minimum_count: 0 keeps every token, and without a rank nothing is left to do; give either"
            )
        if any(token < 0 for token in self.keep):
            raise ValueError(f"keep: a token's id is 0 or more, found {min(self.keep)}")

    def apply(self, model: nn.Module, context: StepContext) -> StepResult:
        """Trim `model` in place; keep the shapes of its new tables in the stage's folder.

        Raises:
            InputError: `exclude` names no module, `keep` an id that no table has, or `rank` is no less than a table's width.
            UnsupportedError: nothing becomes smaller.
        """
        workload = context.workload
        before, metric = measure_size(model, workload.example_inputs), _metric(model, workload)
        tables, left_alone = self._tables(model, workload)
        changes = [change for table in tables if (change := self._trim(model, table, workload)) is not None]
        left_alone |= {
            table.path: _ALL_COME for table in tables if table.path not in {each["name"] for each in changes}
        }
        if not changes:
            raise UnsupportedError(f"vocabulary: nothing becomes smaller. {_told(left_alone)}")
        shapes = {path: module.shape for path, module in model.named_modules() if isinstance(module, TrimmedEmbedding)}
        (context.folder / PLAN_FILE).write_text(json.dumps({"version": 1, "embeddings": shapes}, indent=1))
        after = measure_size(model, workload.example_inputs)
        facts = {
            "parameters": {"before": before.parameters, "after": after.parameters},
            "validation": {"before": metric, "after": _metric(model, workload)},
            "embeddings": changes,
            "left_alone": [{"where": path, "reason": reason} for path, reason in left_alone.items()],
        }
        return StepResult(model, facts, tuple(_warnings(changes)))

    def restore(self, model: nn.Module, folder: Path) -> nn.Module:
        """Put the tables in place that the file in `folder` describes; their weights are loaded after.

        Raises:
            InputError: the file is unreadable or made for another model.
        """
        modules = dict(model.named_modules())
        for path, new in _read_tables(folder / PLAN_FILE).items():
            if not isinstance(modules.get(path), (nn.Embedding, TrimmedEmbedding)):
                raise InputError(f"{PLAN_FILE}: the model has no embedding {path!r}; run the vocabulary step again")
            _replace(model, path, new)
        return model

    def _tables(self, model: nn.Module, workload: Workload) -> tuple[list[TokenTable], dict[str, str]]:
        paths = [path for path, _ in model.named_modules()]
        for pattern in self.exclude:
            if not any(fnmatchcase(path, pattern) for path in paths):
                raise InputError(f"vocabulary.exclude: {pattern!r} fits no module of {type(model).__name__}")
        tables, left_alone = token_tables(model, workload.example_inputs)
        excluded = {table.path for table in tables if any(fnmatchcase(table.path, pattern) for pattern in self.exclude)}
        left = dict(left_alone) | dict.fromkeys(sorted(excluded), "the recipe excludes it")
        return [table for table in tables if table.path not in excluded], left

    def _trim(self, model: nn.Module, table: TokenTable, workload: Workload) -> dict[str, Any] | None:
        """Replace one table; what the report tells of it, or None where it would not become smaller."""
        whole = model.get_submodule(table.path)
        assert isinstance(whole, nn.Embedding) and workload.validation is not None
        self._refuse_misfit(table, whole)
        counts = token_counts(workload.train, table, whole.num_embeddings)
        keep = counts >= self.minimum_count
        keep[list(self.keep)] = True
        if whole.padding_idx is not None:
            keep[whole.padding_idx] = True
        if self.rank is None and int(keep.sum()) + 1 >= whole.num_embeddings:
            return None
        new = trimmed(whole, counts, keep, self.rank)
        _replace(model, table.path, new)
        there = token_counts(workload.validation, table, whole.num_embeddings)
        return {
            "name": table.path,
            "reads": table.reads,
            "rows_before": whole.num_embeddings,
            "rows_after": new.embedding.num_embeddings,
            "width": whole.embedding_dim,
            "rank": self.rank,
            "validation_tokens_that_share_a_row": float(there[~keep].sum() / there.sum()),
        }

    def _refuse_misfit(self, table: TokenTable, whole: nn.Embedding) -> None:
        if self.rank is not None and self.rank >= whole.embedding_dim:
            raise InputError(
                f"vocabulary.rank: {self.rank} is no less than the width of {table.path}, {whole.embedding_dim}; give a lower "
                "one, or exclude it"
            )
        beyond = [token for token in self.keep if token >= whole.num_embeddings]
        if beyond:
            raise InputError(
                f"vocabulary.keep: {table.path} has the ids 0 to {whole.num_embeddings - 1}, found {beyond[0]}"
            )


_ALL_COME = "training data have every token of it"


def _read_tables(file: Path) -> dict[str, TrimmedEmbedding]:
    try:
        document = json.loads(file.read_text())
        if document["version"] != 1:
            raise ValueError(f"version {document['version']}, known: 1")
        return {path: TrimmedEmbedding(**shape) for path, shape in document["embeddings"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{PLAN_FILE}: not what the vocabulary step wrote ({error}); run the vocabulary step again"
        ) from error


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


def _metric(model: nn.Module, workload: Workload) -> float:
    return workload.metric.value(evaluate(model, validation_of(workload), workload.metric))


def _told(left_alone: Mapping[str, str]) -> str:
    if not left_alone:
        return f"The model has no embedding of {SMALLEST} rows or more"
    return "; ".join(f"{path}: {reason}" for path, reason in left_alone.items())


def _warnings(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"vocabulary: {100 * share:.1f} % of the validation data's tokens have no row of their own in {each['name']}; "
        "a lower minimum_count keeps more"
        for each in changes
        if (share := each["validation_tokens_that_share_a_row"]) > MUCH_SHARED
    ]
