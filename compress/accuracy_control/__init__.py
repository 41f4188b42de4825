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
from compress.accuracy_control.give_back import give_back
from compress.accuracy_control.layer_names import module_names
from compress.accuracy_control.layer_price import in_float_anyway, layer_seconds, prices
from compress.accuracy_control.layer_switch import LayerSwitch
from compress.deploy.candidates import Candidate, compile_candidate
from compress.deploy.choice import ROUNDING, drop_of, lost_before
from compress.deploy.verdict import constant_findings
from compress.engines import surroundings
from compress.generation.assembly import digest_of_files, main_part
from compress.measuring import Bench
from compress.run_directory import sha256_of
from compress.workload import Workload
from export.errors import QualityError, UnsupportedError
from export.model import OnnxModel
from export.progress import Track, silent
from targets import FP32, Engine, Scheme, Target
from targets.base import Arrays

SUFFIX = "-mixed"
RANKING_SAMPLES = 128
"""Calibration samples at most that rank the layers."""
COSTED_SAMPLES = 512
"""Validation samples on which a layer's own cost in the metric is told, up to the end of the batch that reaches them."""
_MODEL, _FACTS = "model.onnx", "given-back.json"


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
    if not isinstance(bench.final.ships, OnnxModel):
        base = quantized[0]
        scheme = replace(base.scheme, name=base.scheme.name + SUFFIX)
        return Mixed(
            scheme, reason="accuracy control: a model that writes ships in parts, whose layers are not given back yet"
        )
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
        "floats": sha256_of(bench.final.onnx.path),
        "target": target.name,
        "allowed": allowed,
        "validation": bench.validation.fingerprint,
        "calibration": bench.calibration_key,
    }

    def build(folder: Path) -> None:
        search = _Search(target, base, scheme, bench)
        found = search.layers(allowed)
        search.save(found, folder / _MODEL)
        told = {"of": len(search.switch.layers), "layers": [asdict(layer) for layer in search.costs(found)]}
        write_text_whole(folder / _FACTS, json.dumps(told, indent=1))

    try:
        folder, _ = job.directory.part(f"stages/quantize-{target.name}-{scheme.name}", key, build)
        candidate = compile_candidate(target, scheme, OnnxModel.read(folder / _MODEL), bench)
    except (UnsupportedError, QualityError) as error:
        return Mixed(scheme, reason=f"accuracy control: {error}")
    facts = json.loads((folder / _FACTS).read_text())
    layers = [GivenBack(**layer) for layer in facts["layers"]]
    before, after = (layer_seconds(bench.layers(each.engine), main_part(each.model)) for each in (base, candidate))
    price = prices([layer.layer for layer in layers], before, after)
    job.show.say(f"{target.name}: {scheme.name}: {len(layers)} of {facts['of']} quantized layers run in float again")
    return Mixed(
        scheme, replace(candidate, given_back=tuple(replace(each, price_s=price[each.layer]) for each in layers))
    )


class _Search:
    """Which layers of one scheme go back to float on one target."""

    def __init__(self, target: Target, base: Candidate, scheme: Scheme, bench: Bench) -> None:
        self._target, self._scheme, self._bench = target, scheme, bench
        self._quantized, self._original = main_part(base.model).proto(), bench.final.onnx.proto()
        self.switch = LayerSwitch(self._quantized, self._original, bench.job.recipe.benchmark.threads)
        if not self.switch.layers:
            raise UnsupportedError("the model has no quantized layer that could run in float again")
        batched = has_dynamic_batch(bench.job.workload)
        batches = calibration_arrays(bench.calibration, RANKING_SAMPLES, batched)
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
            dragged = in_float_anyway(self._bench.layers(engine), ordered[count:], model)
        return found + [layer for layer in ordered[count:] if layer in dragged]

    def costs(self, layers: Sequence[str]) -> list[GivenBack]:
        changes = metric_changes(self.switch, layers, self._bench)
        modules = module_names(self._original)
        return [
            GivenBack(each, modules.get(each, ""), self.switch.operators[each], self._ranking[each], changes[each])
            for each in layers
        ]

    def save(self, layers: Sequence[str], path: Path) -> OnnxModel:
        import onnx

        onnx.save(give_back(self._quantized, layers, self._original), path)
        return OnnxModel.read(path)

    def _drop(self, layers: Sequence[str]) -> float:
        """Loss of the metric on validation data through the compiled engine."""
        metric, bench = self._bench.job.workload.metric, self._bench
        with self._engine(layers) as (engine, _):
            threads = os.cpu_count() or 1
            rows = statistics_of(engine, bench.validation, metric, threads=threads, track=bench.job.show.track).rows
        change = metric.value(rows) - metric.value(bench.validation_rows)
        return -change if metric.higher_is_better else change

    @contextmanager
    def _engine(self, layers: Sequence[str]) -> Iterator[tuple[Engine, OnnxModel]]:
        with tempfile.TemporaryDirectory(prefix="compress-") as name:
            folder = Path(name)
            model = self.save(layers, folder / _MODEL)
            (folder / "engine").mkdir()
            yield self._target.compile(model, self._scheme, folder / "engine"), model


def costliest_first(switch: LayerSwitch, batches: Sequence[Arrays], track: Track = silent) -> dict[str, float]:
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


def metric_changes(switch: LayerSwitch, layers: Iterable[str], bench: Bench) -> dict[str, float]:
    """How the metric changes on validation samples when one layer alone is in 8 bits."""
    metric, batches, targets = bench.job.workload.metric, list[Arrays](), list[np.ndarray]()
    for inputs, target in bench.validation:
        batches.append(dict(inputs))
        targets.append(target)
        if sum(map(len, targets)) >= COSTED_SAMPLES:
            break

    def value(quantized: set[str]) -> float:
        outputs = switch.outputs(batches, quantized)
        rows = [metric.statistics(output, target) for output, target in zip(outputs, targets, strict=True)]
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


def has_dynamic_batch(workload: Workload) -> bool:
    """Whether several samples may go through the exported model at once."""
    return all(0 in workload.dynamic_axes.get(name, {}) for name in workload.example_inputs)
