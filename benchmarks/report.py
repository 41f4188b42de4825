"""Report: everything one run found, as plain values. Drawn by benchmarks.render_*, compared by benchmarks.compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from export.errors import InputError
from export.files import write_whole

SCHEMA_VERSION = 1

Status = Literal["measured", "compiled", "failed", "unavailable"]
Role = Literal["reference", "stage", "tried", "chosen"]
Decision = Literal["accepted", "rejected", "inconclusive", "not run here", "failed"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """Seconds per call of one engine at one batch size, from interleaved blocks.

    Ratios are other over this: 2.0 means this engine takes half the other's time.
    """

    batch_size: int
    sizes: Mapping[str, int]
    threads: int
    median_s: float
    block_medians_s: tuple[float, ...]
    faster_than_torch: Interval | None = None
    faster_than_fp32: Interval | None = None


@dataclass(frozen=True)
class Score:
    """The metric through one engine on one set of samples, paired with the original in torch."""

    metric: str
    split: Literal["validation", "evaluation"]
    samples: int
    value: float
    difference: Interval | None = None
    """This minus the original, in the metric's own unit; the interval is a paired bootstrap."""
    changed: float | None = None
    """Share of samples whose predicted class is not the original's."""


@dataclass(frozen=True)
class Footprint:
    """Of one fresh process: seconds to load, seconds of the first inference, peak resident bytes."""

    load_s: float
    first_inference_s: float
    peak_bytes: int
    runtime_bytes: int
    """Resident bytes of the same process after importing its runtime, before loading the model."""


@dataclass(frozen=True)
class Row:
    """One engine: a model after some stage, compiled by one target with one scheme."""

    target: str
    stage: str
    scheme: str
    role: Role
    status: Status
    reason: str = ""
    size_bytes: int | None = None
    build_s: float | None = None
    validation: Score | None = None
    evaluation: Score | None = None
    latency: tuple[Latency, ...] = ()
    footprint: Footprint | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Path relative to the run's folder -> sha256."""


@dataclass(frozen=True)
class Stage:
    """The torch model after one step. `facts` are the step's own (epochs, channels removed, what was left alone)."""

    name: str
    step: str
    parameters: int
    macs: int
    size_bytes: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    """Export parity: tolerance, largest difference found, and where."""


@dataclass(frozen=True)
class Verdict:
    """What a target's chosen artifact is worth against the budget; `findings` are sentences, one a budget line."""

    target: str
    decision: Decision
    scheme: str
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """One run. `rows` begin with the original in torch; every target's rows follow in the order of the recipe."""

    name: str
    created: str
    toolkit_version: str
    recipe: Mapping[str, Any]
    seed: int
    command: str
    metric: str
    higher_is_better: bool
    budget: Mapping[str, Any]
    stages: tuple[Stage, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    hashes: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    duration_s: float = 0.0
    schema_version: int = SCHEMA_VERSION

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets in the order of their rows, without torch."""
        return tuple(dict.fromkeys(row.target for row in self.rows if row.target != "torch"))

    def chosen(self, target: str) -> Row | None:
        """The row that ships for a target; None where nothing could be compiled."""
        return next((row for row in self.rows if row.target == target and row.role == "chosen"), None)

    def reference(self, target: str) -> Row | None:
        """The original on a target in FP32; for "torch" the original as torch runs it."""
        return next((row for row in self.rows if row.target == target and row.role == "reference"), None)

    def write(self, path: Path) -> None:
        """Write the JSON whole or not at all."""
        write_text_whole(path, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a run's report.json, or the one in a run's folder.

        Raises:
            InputError: if it is missing, not a report, or of another schema version.
        """
        from pydantic import TypeAdapter, ValidationError

        file = path / "report.json" if path.is_dir() else path
        try:
            report = TypeAdapter(cls).validate_json(file.read_bytes())
        except OSError as error:
            raise InputError(
                f"{path}: no report.json there ({error.strerror}); give a run's folder, as `compress run` prints it"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "top level"
            raise InputError(
                f"{file}: not a report of this toolkit: {place}: {first['msg']}; run the recipe again"
            ) from error
        if report.schema_version != SCHEMA_VERSION:
            raise InputError(
                f"{file}: report schema {report.schema_version}, this toolkit reads {SCHEMA_VERSION}; run the recipe again"
            )
        return report


def write_text_whole(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_whole(path, text.encode())
