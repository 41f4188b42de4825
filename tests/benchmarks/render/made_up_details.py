"""Parts of a made-up report: layers, classes, tails, throughput, images. Nothing in them was measured."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np

from benchmarks.measurements import Interval, Tail, Throughput
from benchmarks.report import ClassScore, Flip, McNemar, Score
from targets.base import LayerTime

KINDS = ("Convolution", "Add", "Relu", "FullyConnected", "Reorder", "FakeQuantize", "Softmax")
MLPERF_MINIMUM = {0.9: 64, 0.99: 662, 0.999: 6636}


def tails(calls_s: np.ndarray) -> tuple[Tail, ...]:
    """What the calls support, and what they do not."""
    return tuple(
        Tail(percentile, needed, 1.02 * float(np.quantile(calls_s, percentile)) if len(calls_s) >= needed else None)
        for percentile, needed in MLPERF_MINIMUM.items()
    )


def throughput(samples_per_s: float, ratio: float | None) -> Throughput:
    blocks = tuple(
        tuple(samples_per_s * (1 + 0.01 * process - 0.004 * block) for block in range(8)) for process in range(-2, 3)
    )
    more = None if ratio is None else Interval(ratio, 0.97 * ratio, 1.03 * ratio)
    return Throughput(1, 4, 2, samples_per_s, blocks, more)


def layers(latency_s: float, precision: str) -> tuple[LayerTime, ...]:
    """Twenty layers whose times add up to the latency."""
    weights = np.random.default_rng(3).dirichlet(np.full(20, 0.6))
    return tuple(
        LayerTime(
            f"/blocks.{index}/blocks.{index}.0/conv{index}/{KINDS[index % len(KINDS)]}",
            KINDS[index % len(KINDS)],
            precision if index % 5 else "fp32",
            float(latency_s * weight),
        )
        for index, weight in enumerate(weights)
    )


def answers(score: Score) -> Score:
    """With ten classes, one of them clearly worse."""
    drops = (0.0, 0.01, -0.012, 0.0, 0.002, 0.0, 0.061, 0.0, 0.013, -0.004)
    classes = tuple(
        ClassScore(
            str(label),
            79 + label % 3,
            0.97,
            0.97 - drop,
            0.06 if drop > 0.05 else 0.9,
            Interval(-drop, -drop - 0.06, 0.03),
        )
        for label, drop in enumerate(drops)
    )
    return replace(score, mcnemar=McNemar(6, 4, 0.754), classes=classes, calibration_error=0.0279)


def flips(target: str) -> tuple[Flip, ...]:
    """Three grey images of 8x8 and two in colour of 16x16."""
    generator = np.random.default_rng(5)
    found = []
    for sample, (side, channels) in enumerate([(8, 1), (8, 1), (8, 1), (16, 3), (16, 3)]):
        rows, columns = np.mgrid[:side, :side]
        ring = 255 * np.exp(-((np.hypot(rows - side / 2, columns - side / 2) - side / 4) ** 2) / side)
        image = np.clip(ring[..., None] * generator.uniform(0.3, 1.0, channels), 0, 255).astype(np.uint8)
        pixels = base64.b64encode(image.tobytes()).decode()
        before, after = (("3", "8"), ("8", "3"), ("1", "7"))[sample % 3]
        found.append(Flip(target, 17 * sample + 4, "3", before, after, side, side, channels, pixels))
    return tuple(found)
