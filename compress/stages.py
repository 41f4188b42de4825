"""The torch half of a run: the original and the model after each step, every one exported and proven against torch."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.latency import Protocol, measure
from benchmarks.machine import library_versions
from benchmarks.report import Stage, write_text_whole
from compress import __version__
from compress.bench_inputs import timing_inputs
from compress.checkpoint import load_weights, save_weights, weights_hash
from compress.engines import compiled
from compress.model_size import ModelSize, measure_size
from compress.recipe import Recipe
from compress.run_directory import RunDirectory, digest_of
from compress.samples import training_fingerprint
from compress.show import Show
from compress.step import Step, StepContext
from compress.workload import Workload
from export.errors import UnsupportedError
from export.model import OnnxModel
from export.parity import check_parity
from export.to_onnx import save_reference, to_onnx
from targets import FP32, Engine, Target

FACTS = "facts.json"


@dataclass(frozen=True)
class ModelStage:
    """A model of the run: in torch, as ONNX, and what is known of it. `digest` stands for all that led to it."""

    name: str
    model: nn.Module
    onnx: OnnxModel
    size: ModelSize
    facts: Mapping[str, Any]
    digest: str

    def for_report(self) -> Stage:
        return Stage(
            name=self.name,
            step=self.step,
            parameters=self.size.parameters,
            macs=self.size.macs,
            size_bytes=self.size.size_bytes,
            facts=self.facts["step"],
            parity=self.facts["parity"],
        )

    @property
    def step(self) -> str:
        """The kind of step that made it: its name without the count of a repeated step."""
        return self.name.partition(" ")[0]

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.facts["warnings"])


def original_stage(recipe: Recipe, workload: Workload, directory: RunDirectory) -> tuple[ModelStage, Engine]:
    """The model as the user brought it, and the engine that runs it in torch for reference."""
    key = _base_key(recipe, workload)

    def build(folder: Path) -> None:
        _export(workload, workload.model, recipe, folder, {}, ())
        save_reference(workload.model, workload.example_inputs, workload.dynamic_axes, folder / "reference.pt2")

    folder, _ = directory.part("stages/0-original", key, build)
    stage = _read(folder, "original", workload.model, key)
    path = folder / "reference.pt2"
    return stage, Engine("torch", FP32.name, path, (path,), stage.onnx.inputs, stage.onnx.outputs, build_s=0.0)


def step_stages(
    recipe: Recipe, workload: Workload, original: ModelStage, directory: RunDirectory, show: Show
) -> list[ModelStage]:
    """The model after each torch step of the recipe, in order; finished stages of an earlier run are read back."""
    stages: list[ModelStage] = []
    for number, step in enumerate(recipe.steps, start=1):
        before = stages[-1] if stages else original
        earlier = sum(other.kind == step.kind for other in recipe.steps[: number - 1])
        name = f"{step.kind} {earlier + 1}" if earlier else step.kind
        stages.append(_step_stage(number, name, step, before, original, recipe, workload, directory, show))
    return stages


def _step_stage(
    number: int,
    name: str,
    step: Step,
    before: ModelStage,
    original: ModelStage,
    recipe: Recipe,
    workload: Workload,
    directory: RunDirectory,
    show: Show,
) -> ModelStage:
    place = f"stages/{number}-{step.kind}"
    key = {"before": before.digest, "step": step.kind, "fields": _plain(step)}
    scratch = directory.scratch(place, key)

    def build(folder: Path) -> None:
        context = StepContext(
            workload=workload,
            teacher=workload.model,
            folder=folder,
            scratch=scratch,
            seed=recipe.seed,
            speedup=lambda model, on: measured_speedup(model, on, recipe, workload, original, directory),
            track=show.track,
        )
        result = step.apply(copy.deepcopy(before.model), context)
        save_weights(result.model, folder / "model.safetensors")
        _export(workload, result.model, recipe, folder, result.facts, result.warnings)

    with show.unit(name):
        folder, reused = directory.part(place, key, build)
    model = step.restore(copy.deepcopy(before.model), folder)
    load_weights(model, folder / "model.safetensors")
    stage = _read(folder, name, model.eval(), key)
    done = "found finished" if reused else "done"
    show.say(
        f"{name}: {done}; {stage.size.parameters:,} parameters ({stage.size.parameters / before.size.parameters:.2f}x), "
        f"{stage.size.macs / 1e6:,.1f} M MACs ({stage.size.macs / before.size.macs:.2f}x)"
    )
    return stage


def measured_speedup(
    model: nn.Module, on: str | None, recipe: Recipe, workload: Workload, original: ModelStage, directory: RunDirectory
) -> float:
    """How many times faster `model` runs than the original, both in FP32 on a target of the recipe.

    Raises:
        UnsupportedError: if the target is not in the recipe or cannot run here.
    """
    target = _timing_target(on, recipe)
    size = recipe.benchmark.batch_sizes[0]
    with tempfile.TemporaryDirectory(prefix="compress-") as name:
        folder = Path(name)
        (folder / "engine").mkdir()
        exported = _to_onnx(workload, model, recipe, folder / "model.onnx")
        engines = {
            "original": fp32_engine(0, original, recipe, directory, target),
            "candidate": target.compile(exported, FP32, folder / "engine"),
        }
        protocol = Protocol(recipe.benchmark.threads, min(1.5, recipe.benchmark.seconds), 1, recipe.seed)
        measured = measure(engines, {size: timing_inputs(workload, recipe.benchmark, size)}, protocol)
    return measured["candidate"].timings[size].faster_than(measured["original"].timings[size]).value


def fp32_engine(number: int, stage: ModelStage, recipe: Recipe, directory: RunDirectory, target: Target) -> Engine:
    """A stage's model on a target in FP32; that of the final stage lies among the artifacts, since it may ship.

    Raises:
        UnsupportedError: if the target refuses the model.
    """
    final = number == len(recipe.steps)
    place = f"artifacts/{target.name}/{FP32.name}" if final else f"stages/{number}-{stage.step}-on-{target.name}"
    return compiled(directory, place, stage.onnx, target, FP32, ())


def _timing_target(on: str | None, recipe: Recipe) -> Target:
    runnable = [target for target in recipe.targets if target.unavailable() is None and target.cannot_run() is None]
    chosen = [target for target in runnable if on in (None, target.name)]
    if chosen:
        return chosen[0]
    names = ", ".join(target.name for target in runnable) or "none of the recipe's targets"
    raise UnsupportedError(
        f"prune: cannot measure a speed-up on {on or 'any target'} here; runs here: {names}. Use macs_ratio instead"
    )


def _export(
    workload: Workload,
    model: nn.Module,
    recipe: Recipe,
    folder: Path,
    facts: Mapping[str, Any],
    warnings: tuple[str, ...],
) -> None:
    """Write the ONNX model and, once its answers are proven to be torch's, what is to be told of the stage."""
    onnx = _to_onnx(workload, model, recipe, folder / "model.onnx")
    parity = check_parity(model, onnx, workload.example_inputs, workload.dynamic_axes, recipe.export.tolerance)
    size = measure_size(model, workload.example_inputs)
    told = {
        "step": dict(facts),
        "warnings": [*warnings, *parity.warnings],
        "parity": parity.to_json(),
        "size": asdict(size),
    }
    write_text_whole(folder / FACTS, json.dumps(told, indent=1))


def _to_onnx(workload: Workload, model: nn.Module, recipe: Recipe, path: Path) -> OnnxModel:
    return to_onnx(
        model, workload.example_inputs, workload.dynamic_axes, workload.output_names, path, recipe.export.opset
    )


def _read(folder: Path, name: str, model: nn.Module, key: Mapping[str, Any]) -> ModelStage:
    facts = json.loads((folder / FACTS).read_text())
    size = ModelSize(**facts["size"])
    return ModelStage(name, model, OnnxModel.read(folder / "model.onnx"), size, facts, digest_of(key))


def _base_key(recipe: Recipe, workload: Workload) -> dict[str, Any]:
    versions = library_versions()
    return {
        "toolkit": __version__,
        "versions": {
            name: versions[name] for name in ("torch", "onnx", "onnxscript", "transformers") if name in versions
        },
        "seed": recipe.seed,
        "workload": recipe.workload,
        "arguments": json.loads(json.dumps(recipe.arguments, default=str)),
        "weights": weights_hash(workload.model),
        "training": training_fingerprint(workload.train),
        "export": asdict(recipe.export),
    }


def _plain(step: Step) -> Any:
    return json.loads(json.dumps(asdict(step), default=str))  # type: ignore[call-overload]
