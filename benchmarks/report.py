"""Report: everything one run found, as plain values. Drawn by benchmarks.render_*, compared by benchmarks.comparison.compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.measurements import Footprint, Interval, Latency, Throughput
from export.errors import InputError
from export.files import write_whole
from targets.base import LayerTime

SCHEMA_VERSION = 2

Status = Literal["measured", "compiled", "failed", "unavailable"]
Role = Literal["reference", "control", "stage", "tried", "chosen"]
"""A "control" is the reference measured a second time against itself, in processes of its own: the A/A row."""
Decision = Literal["accepted", "rejected", "inconclusive", "not run here", "failed"]


@dataclass(frozen=True)
class ClassScore:
    """One class before and after: the share of its samples that are predicted right.

    `p_value` is that of an exact McNemar test on the class's samples alone, uncorrected.
    """

    label: str
    samples: int
    before: float
    after: float
    p_value: float
    difference: Interval | None = None
    """After minus before; the interval is paired, 95 % over all classes together (benchmarks.classification)."""


@dataclass(frozen=True)
class McNemar:
    """Samples right in the original and wrong now, the other way round, and the exact two-sided p-value.

    Source: McNemar 1947, doi:10.1007/BF02295996; exact form: binomial of the discordant pairs at 1/2.
    """

    lost: int
    gained: int
    p_value: float


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
    mcnemar: McNemar | None = None
    classes: tuple[ClassScore, ...] = ()
    """Of a metric that classifies, on the evaluation set; in the order of the labels."""
    calibration_error: float | None = None
    """Expected calibration error in [0, 1], 15 bins of equal width; None where the metric keeps no probabilities."""
    constant: str | None = None
    """The class that every sample is given, where the engine no longer tells samples apart."""


@dataclass(frozen=True)
class GivenBack:
    """A layer that a mixed scheme runs in float again, and what that is about.

    Args:
        layer: the node's name in the ONNX model.
        module: the path of the module that it comes from, where that is known.
        signal_to_noise_db: of the model's output when this layer alone runs in 8 bits.
        metric_change: of the metric on validation samples when this layer alone runs in 8 bits, through ONNX Runtime.
        price_s: seconds a call that the layer takes more than in 8 bits, by the target's profiler; None where it does not tell.
    """

    layer: str
    module: str
    operator: str
    signal_to_noise_db: float
    metric_change: float
    price_s: float | None = None


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
    throughput: Throughput | None = None
    footprint: Footprint | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[LayerTime, ...] = ()
    """Where the time of one inference goes, from the runtime's own profiler, in the order of execution."""
    findings: tuple[str, ...] = ()
    """What is wrong with the engine's answers, a sentence each: remembered, skipped, not those of the accuracy run."""
    given_back: tuple[GivenBack, ...] = ()
    """The layers that accuracy control returned to float, the costliest first."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path relative to the run's folder -> sha256."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of what ships: the runtime's options that belong to the artifact (device, precision hint, session options)."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of what ships: what else its target tells (which accelerators could take it, how to build its runtime small)."""


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
    """What a target's chosen artifact is worth against the budget; `findings` are sentences, one a budget line.

    `more_samples` and `more_seconds` say about how much more evidence an inconclusive one needs.
    """

    target: str
    decision: Decision
    scheme: str
    findings: tuple[str, ...]
    more_samples: int | None = None
    more_seconds: float | None = None


@dataclass(frozen=True)
class Flip:
    """One evaluation sample, an image, whose prediction on a target is not the original's.

    `pixels` is base64 of uint8 values in the order (height, width, channels).
    """

    target: str
    sample: int
    truth: str
    before: str
    after: str
    height: int
    width: int
    channels: int
    pixels: str


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
    half_width_limit: float = 0.05
    """Above this half-width of an A/A interval the machine is called unstable."""
    gallery: tuple[Flip, ...] = ()
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

    def control(self, target: str) -> Row | None:
        """The A/A row of a target: its reference measured against itself."""
        return next((row for row in self.rows if row.target == target and row.role == "control"), None)

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


def allowed_drop(budget: Mapping[str, Any], original: float) -> float | None:
    """What a budget lets the metric lose, in its own unit, where the original scores `original`; None where that is not limited.

    Of `metric_drop`, in that unit, and `metric_drop_percent`, in percent of the original's value, the stricter counts.
    """
    percent = budget.get("metric_drop_percent")
    limits = (budget.get("metric_drop"), None if percent is None else percent / 100 * abs(original))
    return min((float(limit) for limit in limits if limit is not None), default=None)


def write_text_whole(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_whole(path, text.encode())
