"""A made-up report with every kind of value: two targets that ran, one that only compiled. Nothing in it was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.measurements import Footprint, Interval, Latency
from benchmarks.report import Report, Row, Score, Stage, Verdict
from tests.benchmarks.render.made_up_details import answers, flips, layers, tails, throughput

TORCH_S = 0.00542
NO_GPU = "no NVIDIA GPU here; copy artifacts/tensorrt to a machine that has one and run `compress bench`"


ACCELERATORS = [
    {
        "provider": "NNAPI",
        "as_it_is": "no",
        "with_fixed_shapes": "yes",
        "partitions": 1,
        "why": "takes fixed shapes only",
    },
    {"provider": "XNNPACK", "as_it_is": "maybe", "with_fixed_shapes": "maybe", "partitions": 3, "why": "takes 4 of 7"},
]
MINIMAL_BUILD = {
    "operators": 7,
    "library_at_least_bytes": 1_562_280,
    "how_the_size_is_known": "estimate, nothing was built",
    "commands": {"Android, arm64": "./build.sh --android --minimal_build"},
}


def made_up_report() -> Report:
    """Seeded, so that two calls give equal reports."""
    return Report(
        name="digits",
        created="2031-05-04T12:00:00+00:00",
        toolkit_version="0.1.0",
        recipe={
            "name": "digits",
            "workload": "workload.py:digits",
            "steps": [{"prune": {"speedup": 2.0}}, {"distill": {"epochs": 3}}, "quantize"],
            "targets": ["openvino", "onnxruntime_mobile", "tensorrt"],
            "budget": {"metric_drop": 0.01, "speedup": 1.5},
        },
        seed=0,
        command="compress run examples/digits/recipe.yaml --out runs",
        metric="accuracy",
        higher_is_better=True,
        budget={"metric_drop": 0.01, "speedup": 1.5, "size_ratio": None},
        stages=_stages(),
        rows=_rows(),
        verdicts=(
            Verdict(
                "openvino",
                "accepted",
                "int8",
                ("accuracy drop 0.25 pp, at most 1.00 pp allowed", "2.31x, at least 1.5x asked"),
            ),
            Verdict(
                "onnxruntime_mobile",
                "inconclusive",
                "int8",
                ("1.52x [1.44, 1.60] straddles the 1.5x asked",),
                more_samples=1200,
                more_seconds=38.0,
            ),
            Verdict("tensorrt", "not run here", "fp16", (NO_GPU,)),
        ),
        machine={
            "cpu": "AMD Zen 5",
            "instruction_sets": ["avx2", "avx512_vnni"],
            "cores": 2,
            "memory_bytes": 16_000_000_000,
            "state": {"governor": "performance", "clock_mhz": [2400, 2400], "load_1min": 0.12},
        },
        versions={"torch": "2.13.0", "onnxruntime": "1.27.0", "openvino": "2026.1.0", "tensorrt-rtx": "1.2.0"},
        hashes={"weights": "ab" * 32, "evaluation": "cd" * 32},
        warnings=("calibration: 64 samples, fewer than 100; INT8 ranges may be off",),
        duration_s=143.0,
        gallery=(*flips("openvino"), *flips("onnxruntime_mobile")),
    )


def with_row(report: Report, index: int, **changes: object) -> Report:
    """The report with one row's fields replaced."""
    rows = list(report.rows)
    rows[index] = replace(rows[index], **changes)  # type: ignore[arg-type]
    return replace(report, rows=tuple(rows))


def _stages() -> tuple[Stage, ...]:
    parity = {"tolerance": 0.001, "largest_difference": 3.1e-6, "where": "logits, batch 7"}
    layers = [{"name": f"blocks.{index}.conv1", "before": 32, "after": 16 + index} for index in range(9)]
    prune = {
        "asked": 2.0,
        "reached": 1.93,
        "layers": layers,
        "left_alone": [{"where": "stem", "reason": "its channels reach the input of a padded shortcut"}],
        "exactness": 2.4e-7,
        "parameters_before": 272_474,
        "parameters_after": 121_040,
        "macs_before": 40_800_000,
        "macs_after": 19_600_000,
    }
    curve = [(1, 0.812, 0.951), (2, 0.401, 0.962), (3, 0.297, 0.968)]
    epochs = [{"epoch": epoch, "loss": loss, "validation": value} for epoch, loss, value in curve]
    return (
        Stage("original", "original", 272_474, 40_800_000, 1_098_000, {}, parity),
        Stage("prune", "prune", 121_040, 19_600_000, 492_000, prune, parity),
        Stage(
            "distill",
            "distill",
            121_040,
            19_600_000,
            492_000,
            {"epochs": epochs, "seconds": 61.2, "samples_per_s": 812.0},
            parity,
        ),
    )


def _rows() -> tuple[Row, ...]:
    return (
        Row(
            "torch",
            "original",
            "fp32",
            "reference",
            "measured",
            size_bytes=1_098_000,
            evaluation=replace(_score(0.9742, None), calibration_error=0.0213),
            latency=(_latency(TORCH_S),),
        ),
        _row("openvino", "original", "fp32", "reference", 1_120_000, 0.0, 0.00121, 0.00121),
        _row("openvino", "prune", "fp32", "stage", 512_000, -0.042, 0.00083, 0.00121),
        _row("openvino", "distill", "fp32", "stage", 512_000, -0.004, 0.00083, 0.00121),
        _row("openvino", "distill", "bf16", "tried", 512_000, -0.004, 0.00064, 0.00121),
        _row("openvino", "distill", "int8", "chosen", 168_400, -0.0025, 0.000523, 0.00121),
        _row("onnxruntime_mobile", "original", "fp32", "reference", 1_131_000, 0.0, 0.00136, 0.00136),
        _row("onnxruntime_mobile", "prune", "fp32", "stage", 519_000, -0.042, 0.00091, 0.00136),
        _row("onnxruntime_mobile", "distill", "fp32", "stage", 519_000, -0.004, 0.00090, 0.00136),
        Row(
            "onnxruntime_mobile",
            "distill",
            "int8_dynamic",
            "tried",
            "failed",
            "ConvInteger is not in this build; use a static scheme",
        ),
        replace(
            _row("onnxruntime_mobile", "distill", "int8", "chosen", 171_300, -0.005, 0.000894, 0.00136),
            settings={"platform": "arm64", "also_for": {}, "spinning": False},
            facts={"accelerators": ACCELERATORS, "minimal_build": MINIMAL_BUILD},
        ),
        Row("tensorrt", "original", "fp32", "reference", "compiled", NO_GPU, size_bytes=2_400_000, build_s=8.1),
        Row("tensorrt", "distill", "int8", "tried", "compiled", NO_GPU, size_bytes=9_300_000, build_s=12.4),
        Row("tensorrt", "distill", "fp16", "chosen", "compiled", NO_GPU, size_bytes=1_100_000, build_s=9.7),
        control("openvino", 0.00121, Interval(1.001, 0.996, 1.006)),
        control("onnxruntime_mobile", 0.00136, Interval(0.998, 0.989, 1.011)),
    )


def control(target: str, median_s: float, ratio: Interval) -> Row:
    """The A/A row of a target."""
    latency = replace(_latency(median_s), faster_than_torch=None, faster_than_fp32=ratio)
    return Row(target, "original", "fp32", "control", "measured", latency=(latency,))


def _row(
    target: str, stage: str, scheme: str, role: str, size: int, drop: float, latency_s: float, fp32_s: float
) -> Row:
    final = role in ("reference", "chosen")
    evaluation = _score(0.9742 + drop, drop) if final else None
    return Row(
        target,
        stage,
        scheme,
        role,  # type: ignore[arg-type]
        "measured",
        size_bytes=size,
        build_s=1.3,
        validation=None if role == "reference" else _score(0.9742 + drop, drop, "validation"),
        evaluation=answers(evaluation) if evaluation and role == "chosen" else evaluation,
        latency=(_latency(latency_s, fp32_s), _latency(20 * latency_s, 20 * fp32_s, batch_size=32)),
        footprint=Footprint(0.081, 2 * latency_s, 92_000_000, 61_000_000),
        throughput=throughput(1.7 / latency_s, None if role == "reference" else fp32_s / latency_s) if final else None,
        layers=layers(latency_s, "int8" if scheme == "int8" else "fp32") if final else (),
        operators={"int8": 21, "fp32": 4} if scheme == "int8" else {"fp32": 25},
        files={f"artifacts/{target}/{scheme}/model.bin": "ef" * 32},
    )


def _score(value: float, difference: float | None, split: str = "evaluation") -> Score:
    interval = None if difference is None else Interval(difference, difference - 0.0051, difference + 0.0048)
    samples = 797 if split == "evaluation" else 200
    changed = None if difference is None else abs(difference) + 0.003
    return Score("accuracy", split, samples, value, interval, changed)  # type: ignore[arg-type]


def _latency(median_s: float, fp32_s: float | None = None, batch_size: int = 1) -> Latency:
    generator = np.random.default_rng(int(median_s * 1e7))
    noise, calls = generator.lognormal(0.0, 0.03, 40), int(1.6 / median_s)
    all_calls = median_s * generator.lognormal(0.0, 0.08, calls) ** 2
    return Latency(
        batch_size=batch_size,
        sizes={},
        threads=1,
        median_s=median_s,
        block_medians_s=tuple(tuple(float(median_s * factor) for factor in process) for process in np.split(noise, 5)),
        faster_than_torch=None if fp32_s is None else _ratio(TORCH_S * (20 if batch_size > 1 else 1) / median_s),
        faster_than_fp32=None if fp32_s in (None, median_s) else _ratio(fp32_s / median_s),
        contended=int(40 * (median_s % 1e-4) / 1e-4),
        under_load=batch_size == 1 and 0.0008 < median_s < 0.00084,
        calls=calls,
        measured_s=1.6,
        tails=tails(all_calls),
        distribution_s=tuple(np.quantile(all_calls, np.linspace(0, 1, 101)).tolist()),
    )


def _ratio(value: float) -> Interval:
    return Interval(value, value * 0.985, value * 1.017)
