"""One more candidate for a target: its best static scheme, fine-tuned under that scheme's own quantization."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.render.wording import DIGITS, significant
from benchmarks.report import write_text_whole
from compress.checkpoint import weights_hash
from compress.deploy.candidates import Candidate, compile_candidate
from compress.deploy.choice import drop_of
from compress.engines import surroundings
from compress.generation.assembly import Assembly, main_part
from compress.measuring import Bench
from compress.qat.fine_tune import FineTuned, fine_tune
from compress.qat.settings import Qat
from compress.run_directory import sha256_of
from compress.samples import training_fingerprint
from export.errors import CompressError, QualityError, UnsupportedError
from export.model import OnnxModel
from targets import Scheme, Target

SUFFIX = "-qat"
_MODEL, _FACTS = "model.onnx", "qat.json"


def fine_tuned_candidates(
    target: Target, candidates: Sequence[Candidate], bench: Bench
) -> tuple[list[Candidate], list[tuple[Scheme, Exception]]]:
    """The best static scheme among `candidates`, trained and compiled, or why it could not be; nothing without `qat`.

    The best is that which scores highest on validation data; where the target does not run here, its first guess.
    """
    settings = bench.job.recipe.quantize.qat if bench.job.recipe.quantize else None
    quantized = [each for each in candidates if each.scheme.quantizer != "none"]
    if settings is None or not quantized:
        return [], []
    if isinstance(quantized[0].model, Assembly):
        scheme = replace(quantized[0].scheme, name=quantized[0].scheme.name + SUFFIX)
        return [], [(scheme, UnsupportedError("qat: a model that writes ships in parts, which are not fine-tuned yet"))]
    best = _best([each for each in quantized if each.scheme.mode == "static"], target, bench)
    if best is None:
        scheme = replace(quantized[0].scheme, name=quantized[0].scheme.name + SUFFIX)
        why = (
            f"qat: {target.name} has no scheme with static ranges that gives answers, and no other can be trained: let schemes "
            "name a static one, or leave qat out"
        )
        return [], [(scheme, UnsupportedError(why))]
    why = f"{best.scheme.name}, its weights trained under its own quantization"
    scheme = replace(best.scheme, name=best.scheme.name + SUFFIX, why=why)
    try:
        model = _fine_tuned(target, best, settings, bench)
        return [compile_candidate(target, scheme, model, bench)], []
    except (UnsupportedError, QualityError) as error:
        return [], [(scheme, error)]


def _best(candidates: Sequence[Candidate], target: Target, bench: Bench) -> Candidate | None:
    """The smallest loss of the metric; scores are kept, so that trying the candidates finds them made."""
    if target.cannot_run():
        return next(iter(candidates), None)
    drops = dict[str, float]()
    for candidate in candidates:
        try:
            score = bench.score(candidate.engine, candidate.scheme, bench.validation)
        except CompressError:
            continue  # trying the candidates makes it a row of its own
        drops[candidate.scheme.name] = drop_of(score, bench.job.workload.judge.higher_is_better)
    return min(
        (each for each in candidates if each.scheme.name in drops),
        key=lambda each: drops[each.scheme.name],
        default=None,
    )


def _fine_tuned(target: Target, candidate: Candidate, settings: Qat, bench: Bench) -> OnnxModel:
    """The candidate's model, trained; kept in the run's folder and reused while all that went into it is the same."""
    job, floats, quantized = bench.job, main_part(bench.final.ships), main_part(candidate.model)
    key = {
        **surroundings(),
        "quantized": sha256_of(quantized.path),
        "floats": sha256_of(floats.path),
        "teacher": weights_hash(job.workload.model),
        "training": training_fingerprint(job.workload.train),
        "settings": asdict(settings),
        "seed": job.recipe.seed,
    }
    name = f"{target.name}-{candidate.scheme.name}{SUFFIX}"
    place = f"stages/quantize-{name}"

    def build(folder: Path) -> None:
        done = fine_tune(
            quantized,
            floats,
            job.workload.model,
            job.workload,
            settings,
            seed=job.recipe.seed,
            scratch=job.directory.scratch(place, key),
            out=folder / _MODEL,
            description=f"{target.name}: fine-tuning {candidate.scheme.name}",
            track=job.show.track,
        )
        write_text_whole(folder / _FACTS, json.dumps(_facts(done, bench), indent=1))

    folder, reused = job.directory.part(place, key, build)
    facts = json.loads((folder / _FACTS).read_text())
    before, after = facts["validation_before"], facts["epochs"][-1]["validation"]
    job.show.say(
        f"{target.name}: {candidate.scheme.name}{SUFFIX}: {'found finished' if reused else 'fine-tuned'}; validation "
        f"{facts['validation_metric']} {significant(before, DIGITS)} -> {significant(after, DIGITS)} in torch"
    )
    return OnnxModel.read(folder / _MODEL)


def _facts(done: FineTuned, bench: Bench) -> dict[str, Any]:
    return {
        "validation_metric": bench.job.workload.metric.name,
        "validation_before": done.validation_before,
        "epochs": [asdict(epoch) for epoch in done.epochs],
    }
