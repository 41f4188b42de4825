"""When no INT8 scheme keeps the budget: its costliest layers run in float again, as few as it takes."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import statistics_of
from benchmarks.report import GivenBack, Score, write_text_whole
from benchmarks.sensitivity import signal_to_noise_db
from compress.accuracy_control.layer_price import prices
from compress.accuracy_control.shipped import (
    Switch,
    dragged,
    given_back,
    has_dynamic_batch,
    modules_of,
    read_by,
    read_given_back,
    seconds_of,
    switch_of,
)
from compress.deploy.candidates import Candidate, compile_candidate
from compress.deploy.choice import ROUNDING, drop_of, lost_before
from compress.deploy.verdict import constant_findings
from compress.engines import compile_into, surroundings
from compress.generation.assembly import Shipped, digest_of_files
from compress.measuring import Bench, scored
from export.errors import QualityError, UnsupportedError
from export.progress import Track, silent
from targets import FP32, Engine, Scheme, Target
from targets.base import Arrays

SUFFIX = "-mixed"
RANKING_SAMPLES = 128
"""Calibration samples at most that rank the layers."""
COSTED_SAMPLES = 512
"""Validation samples on which a layer's own cost in the metric is told, up to the end of the batch that reaches them."""
COSTED_ANSWERS = 64
"""The same where the metric judges written answers: each is as many calls as it has tokens."""
_FACTS = "given-back.json"


@dataclass(frozen=True)
class Mixed:
    """What came of it: a candidate, or the scheme and the sentence that says why there is none."""

    scheme: Scheme
    candidate: Candidate | None = None
    reason: str = ""


def mixed_candidate(
    target: Target, candidates: Sequence[Candidate], scores: Mapping[str, Score], bench: Bench
) -> Mixed | None:
    """The best INT8 scheme with its costliest layers in float, as few as bring it inside the budget on validation data.

    None where it is not asked for, or not needed: some scheme that multiplies in INT8 is inside the budget. Schemes that
    only store weights in few bits do not count: they are rarely faster.

    Args:
        scores: of each candidate on validation data, by scheme; FP32 among them.
    """
    quantize, limit = bench.job.recipe.quantize, bench.validation_budget.metric_drop
    higher_is_better = bench.job.workload.judge.higher_is_better
    quantized = [each for each in candidates if each.scheme.quantizer != "none" and each.scheme.mode != "weights"]
    if quantize is None or not quantize.accuracy_control or limit is None or not quantized:
        return None
    drops = {name: drop_of(score, higher_is_better) for name, score in scores.items()}
    allowed = limit + lost_before(drops[FP32.name], limit) + ROUNDING
    if any(drops[each.scheme.name] <= allowed and not _constant(scores, each) for each in quantized):
        return None
    base = min(quantized, key=lambda each: (_constant(scores, each), drops[each.scheme.name]))
    scheme = replace(
        base.scheme, name=base.scheme.name + SUFFIX, why=f"{base.scheme.name}, its costliest layers in float"
    )
    return _given_back(target, base, scheme, allowed, bench)


def _constant(scores: Mapping[str, Score], candidate: Candidate) -> bool:
    return bool(constant_findings(scores[candidate.scheme.name]))


def _given_back(target: Target, base: Candidate, scheme: Scheme, allowed: float, bench: Bench) -> Mixed:
    """The layers are found once and kept in the run's folder; their prices are measured each time."""
    job = bench.job
    key = {
        **surroundings(),
        "quantized": digest_of_files(base.model),
        "floats": digest_of_files(bench.final.ships),
        "target": target.name,
        "allowed": allowed,
        "validation": bench.validation.fingerprint,
        "calibration": bench.calibration_key,
    }

    def build(folder: Path) -> None:
        search = _Search(target, base, scheme, bench)
        found = search.layers(allowed)
        given_back(base.model, bench.final.ships, found, folder)
        told = {"of": len(search.switch.layers), "layers": [asdict(layer) for layer in search.costs(found)]}
        write_text_whole(folder / _FACTS, json.dumps(told, indent=1))

    try:
        folder, _ = job.directory.part(f"stages/quantize-{target.name}-{scheme.name}", key, build)
        candidate = compile_candidate(target, scheme, read_given_back(base.model, folder), bench)
    except (UnsupportedError, QualityError) as error:
        return Mixed(scheme, reason=f"accuracy control: {error}")
    facts = json.loads((folder / _FACTS).read_text())
    layers = [GivenBack(**layer) for layer in facts["layers"]]
    before, after = (seconds_of(each.engine, each.model, bench) for each in (base, candidate))
    price = prices([layer.layer for layer in layers], before, after)
    job.show.say(f"{target.name}: {scheme.name}: {len(layers)} of {facts['of']} quantized layers run in float again")
    return Mixed(
        scheme, replace(candidate, given_back=tuple(replace(each, price_s=price[each.layer]) for each in layers))
    )


class _Search:
    """Which layers of one scheme go back to float on one target."""

    def __init__(self, target: Target, base: Candidate, scheme: Scheme, bench: Bench) -> None:
        self._target, self._scheme, self._bench = target, scheme, bench
        self._quantized, self._original = base.model, bench.final.ships
        self.switch = switch_of(self._quantized, self._original, bench)
        if not self.switch.layers:
            raise UnsupportedError("the model has no quantized layer that could run in float again")
        batched = has_dynamic_batch(self._original)
        batches = calibration_arrays(read_by(self._original, bench), RANKING_SAMPLES, batched)
        self._ranking = costliest_first(self.switch, batches, bench.job.show.track)

    def layers(self, allowed: float) -> list[str]:
        """The costliest ones, as few as keep the drop, and those that the runtime then runs in float anyway.

        Raises:
            QualityError: if all of them are not enough.
        """
        ordered = list(self._ranking)
        count = fewest(len(ordered), lambda many: self._drop(ordered[:many]) <= allowed)
        if count is None:
            raise QualityError("with every layer in float again the budget is still missed on validation data")
        found = ordered[:count]
        with self._engine(found) as (engine, model):
            in_float = dragged(engine, model, ordered[count:], self._bench)
        return found + [layer for layer in ordered[count:] if layer in in_float]

    def costs(self, layers: Sequence[str]) -> list[GivenBack]:
        changes = metric_changes(self.switch, layers, self._bench)
        modules = modules_of(self._original)
        return [
            GivenBack(each, modules.get(each, ""), self.switch.operators[each], self._ranking[each], changes[each])
            for each in layers
        ]

    def _drop(self, layers: Sequence[str]) -> float:
        """Loss of the metric on validation data through the compiled engine."""
        metric, bench = self._bench.job.workload.judge, self._bench
        with self._engine(layers) as (engine, _):
            asked, threads = scored(engine, bench.job.workload), os.cpu_count() or 1
            rows = statistics_of(asked, bench.validation, metric, threads=threads, track=bench.job.show.track).rows
        change = metric.value(rows) - metric.value(bench.validation_rows)
        return -change if metric.higher_is_better else change

    @contextmanager
    def _engine(self, layers: Sequence[str]) -> Iterator[tuple[Engine, Shipped]]:
        with tempfile.TemporaryDirectory(prefix="compress-") as name:
            folder = Path(name)
            model = given_back(self._quantized, self._original, layers, folder)
            (folder / "engine").mkdir()
            yield compile_into(folder / "engine", model, self._target, self._scheme), model


def costliest_first(switch: Switch, batches: Sequence[Arrays], track: Track = silent) -> dict[str, float]:
    """Signal-to-noise ratio of the model's output in dB when one layer alone is in 8 bits, the noisiest first.

    "When one layer alone is given back" ranks worse: of MiniLM (ONNX Runtime's static INT8, 48 sentences) both find the same first
    two layers, 16.1 to 26.3 dB; with twelve back the noise lies at 34.6 dB in this order and at 28.9 in that one. ResNet-20
    (64 images): alike up to eight layers, then 1.5 to 5 dB apart.
    """
    in_float = switch.outputs(batches, ())
    shown = track(switch.layers, "ranking the quantized layers", len(switch.layers))
    found = {layer: signal_to_noise_db(in_float, switch.outputs(batches, {layer})) for layer in shown}
    return dict(sorted(found.items(), key=lambda entry: entry[1]))


def fewest(count: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest number from 1 to `count` for which `holds` was seen, by doubling and then bisection.

    Doubling first, since mostly a few layers do it. Where `holds` is not monotone it is true of the number all the same.
    """
    failed, number = 0, 1
    while not holds(number):
        if number == count:
            return None
        failed, number = number, min(2 * number, count)
    while number - failed > 1:
        middle = (failed + number) // 2
        if holds(middle):
            number = middle
        else:
            failed = middle
    return number


def metric_changes(switch: Switch, layers: Iterable[str], bench: Bench) -> dict[str, float]:
    """How the metric changes on validation samples when one layer alone is in 8 bits."""
    workload, batches, targets = bench.job.workload, list[Arrays](), list[np.ndarray]()
    metric, writes = workload.judge, workload.writing is not None and workload.writing.metric is not None
    for inputs, target in bench.validation:
        batches.append(dict(inputs))
        targets.append(target)
        if sum(map(len, targets)) >= (COSTED_ANSWERS if writes else COSTED_SAMPLES):
            break

    def value(quantized: set[str]) -> float:
        rows = [
            metric.statistics(switch.answers(batch, quantized), target)
            for batch, target in zip(batches, targets, strict=True)
        ]
        return metric.value(np.concatenate(rows))

    in_float = value(set())
    return {layer: value({layer}) - in_float for layer in layers}


def calibration_arrays(samples: Iterable[Arrays], most: int, batched: bool) -> list[Arrays]:
    """Up to `most` single samples; where the batch is a dynamic axis, those of equal shapes together."""
    groups: dict[object, list[Arrays]] = {}
    for number, inputs in enumerate(itertools.islice(samples, most)):
        shapes = tuple(sorted((name, array.shape) for name, array in inputs.items()))
        groups.setdefault(shapes if batched else number, []).append(inputs)
    return [{name: np.concatenate([each[name] for each in group]) for name in group[0]} for group in groups.values()]
