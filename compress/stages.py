"""The torch half of a run: the original and the model after each step, every one exported and proven against torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.machine import library_versions
from benchmarks.report import Stage, write_text_whole
from compress import __version__
from compress.checkpoint import load_weights, save_weights, weights_hash
from compress.engines import compiled, of_other
from compress.generation.assembly import Assembly, Shipped, joined
from compress.generation.parts import Part
from compress.job import Job
from compress.model_size import ModelSize, measure_size
from compress.recipe import Recipe
from compress.run_directory import digest_of, fields_of
from compress.samples import training_fingerprint
from compress.step import REGISTRY, Speedup, Step, StepContext, StepResult
from compress.workload import Workload
from export.errors import QualityError, UnsupportedError
from export.model import OnnxModel
from export.parity import Parity, check_parity
from export.to_onnx import to_onnx
from targets import FP32, Engine, Target

FACTS = "facts.json"


@dataclass(frozen=True)
class ModelStage:
    """A model of the run: in torch, as ONNX, and what is known of it. `digest` stands for all that led to it.

    Args:
        ships: what targets are given: the whole forward, or the parts of a model that writes.
    """

    name: str
    model: nn.Module
    ships: Shipped
    size: ModelSize
    facts: Mapping[str, Any]
    digest: str

    def for_report(self) -> Stage:
        """What the report tells of it."""
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


def original_stage(job: Job) -> tuple[ModelStage, Engine]:
    """The model as the user brought it, and the engine that runs it in torch for reference."""
    workload = job.workload
    key = {**_base_key(job.recipe, workload), "reference": _reference_file("")}

    def build(folder: Path) -> None:
        _export_proven(workload.model, folder, StepResult(workload.model), job, reference=True)

    folder, _ = job.directory.part("stages/0-original", key, build)
    stage = _read(folder, "original", workload, workload.model, key)
    if isinstance(stage.ships, OnnxModel):
        return stage, _reference(folder / _reference_file(""), stage.ships)
    parts = {name: _reference(folder / _reference_file(name), part) for name, part in stage.ships.parts.items()}
    return stage, joined("torch", FP32.name, parts, stage.ships)


def step_stages(original: ModelStage, job: Job, speedup: Speedup) -> list[ModelStage]:
    """The model after each torch step of the recipe, in order; finished stages of an earlier run are read back."""
    stages: list[ModelStage] = []
    for number, step in enumerate(job.recipe.steps, start=1):
        before = stages[-1] if stages else _student(original, job.workload)
        earlier = sum(other.kind == step.kind for other in job.recipe.steps[: number - 1])
        name = f"{step.kind} {earlier + 1}" if earlier else step.kind
        with job.show.unit(name):
            stages.append(_step_stage(f"stages/{number}-{step.kind}", name, step, before, job, speedup))
    return stages


def fp32_engine(number: int, stage: ModelStage, target: Target, job: Job) -> Engine:
    """A stage's model on a target in FP32; that of the final stage lies among the artifacts, since it may ship.

    Raises:
        UnsupportedError: if the target refuses the model.
    """
    final = number == len(job.recipe.steps)
    place = f"artifacts/{target.name}/{FP32.name}" if final else f"stages/{number}-{stage.step}-on-{target.name}"
    return compiled(job.directory, place, stage.ships, target, FP32)


def export_model(model: nn.Module, path: Path, job: Job) -> OnnxModel:
    """The model as ONNX, with the workload's inputs, outputs and dynamic axes."""
    return export_part(_whole(model, job.workload), path, job)


def export_part(part: Part, path: Path, job: Job, reference: Path | None = None) -> OnnxModel:
    """A part of a model that writes as ONNX, or the whole of another; as a torch program too where `reference` says."""
    opset = job.recipe.export.opset
    return to_onnx(part.module, part.example_inputs, part.dynamic_axes, part.output_names, path, opset, reference)


def _teacher(job: Job, warnings: list[str]) -> Path | None:
    """The original's whole forward, through which a teacher answers; of a model that writes the parts alone are a stage.

    None, and a warning of why, where the whole cannot be exported though its parts can: nothing of it ships.
    """
    if job.workload.writing is None:
        return job.directory.path / "stages/0-original" / _file("")

    def build(folder: Path) -> None:
        _proven(_whole(job.workload.model, job.workload), folder / _file(""), job)

    try:
        folder, _ = job.directory.part("stages/0-original-whole", _base_key(job.recipe, job.workload), build)
    except (UnsupportedError, QualityError) as error:
        warnings.append(
            f"the teacher answers in torch, which takes longer: the original as a whole cannot be taken as ONNX ({error})"
        )
        return None
    return folder / _file("")


def _student(original: ModelStage, workload: Workload) -> ModelStage:
    """What the first step starts from: the original, or the workload's own student where it brings one."""
    if workload.student is None:
        return original
    digest = digest_of({"original": original.digest, "student": weights_hash(workload.student)})
    return replace(original, model=workload.student.eval(), digest=digest)


def _step_stage(place: str, name: str, step: Step, before: ModelStage, job: Job, speedup: Speedup) -> ModelStage:
    key = {"before": before.digest, "step": step.kind, "fields": fields_of(step), **of_other(REGISTRY, step.kind)}
    scratch = job.directory.scratch(place, key)

    def build(folder: Path) -> None:
        warnings = list[str]()
        context = StepContext(
            workload=job.workload,
            teacher=job.workload.model,
            folder=folder,
            scratch=scratch,
            seed=job.recipe.seed,
            speedup=speedup,
            track=job.show.track,
            kept=job.directory.path / ".kept",
            teacher_onnx=lambda: _teacher(job, warnings),
        )
        result = step.apply(copy.deepcopy(before.model), context)
        result = replace(result, warnings=(*result.warnings, *dict.fromkeys(warnings)))
        save_weights(result.model, folder / "model.safetensors")
        _export_proven(result.model, folder, result, job)

    folder, reused = job.directory.part(place, key, build)
    model = step.restore(copy.deepcopy(before.model), folder)
    load_weights(model, folder / "model.safetensors")
    stage = _read(folder, name, job.workload, model.eval(), key)
    done, now, then = "found finished" if reused else "done", stage.size, before.size
    job.show.say(
        f"{name}: {done}; {now.parameters:,} parameters ({now.parameters / then.parameters:.2f}x), "
        f"{now.macs / 1e6:,.1f} M MACs ({now.macs / max(then.macs, 1):.2f}x)"
    )
    return stage


def _export_proven(model: nn.Module, folder: Path, result: StepResult, job: Job, reference: bool = False) -> None:
    """Write what ships as ONNX and, once its answers are proven to be torch's, what is to be told of the stage.

    Args:
        reference: write it as torch programs too.
    """
    found = [
        _proven(part, folder / _file(name), job, folder / _reference_file(name) if reference else None)
        for name, part in _parts(model, job.workload).items()
    ]
    parity = replace(found[0], cases=tuple(case for each in found for case in each.cases))
    told = {
        "step": dict(result.facts),
        "warnings": [*result.warnings, *dict.fromkeys(warning for each in found for warning in each.warnings)],
        "parity": parity.to_json(),
        "size": asdict(measure_size(model, job.workload.example_inputs)),
    }
    write_text_whole(folder / FACTS, json.dumps(told, indent=1))


def _proven(part: Part, path: Path, job: Job, reference: Path | None = None) -> Parity:
    """Write a part as ONNX; its differences from torch."""
    onnx, tolerance = export_part(part, path, job, reference), job.recipe.export.tolerance
    return check_parity(part.module, onnx, part.example_inputs, part.dynamic_axes, tolerance)


def _whole(model: nn.Module, workload: Workload) -> Part:
    return Part(model, workload.example_inputs, workload.dynamic_axes, workload.output_names)


def _parts(model: nn.Module, workload: Workload) -> Mapping[str, Part]:
    """What ships: the parts of a model that writes, or the model itself under no name."""
    return {"": _whole(model, workload)} if workload.writing is None else workload.writing.parts(model)


def _file(part: str) -> str:
    return f"{part or 'model'}.onnx"


def _reference_file(part: str) -> str:
    return f"reference-{part}.program" if part else "reference.program"


def _reference(path: Path, onnx: OnnxModel) -> Engine:
    return Engine("torch", FP32.name, path, (path,), onnx.inputs, onnx.outputs, build_s=0.0)


def _read(folder: Path, name: str, workload: Workload, model: nn.Module, key: Mapping[str, Any]) -> ModelStage:
    facts = json.loads((folder / FACTS).read_text())
    parts = {part: OnnxModel.read(folder / _file(part)) for part in _parts(model, workload)}
    ships: Shipped = parts[""] if workload.writing is None else Assembly(parts, workload.writing.generation)
    return ModelStage(name, model, ships, ModelSize(**facts["size"]), facts, digest_of(key))


def _base_key(recipe: Recipe, workload: Workload) -> dict[str, Any]:
    versions = library_versions()
    return {
        "toolkit": __version__,
        "versions": {
            name: versions[name] for name in ("torch", "onnx", "onnxscript", "transformers") if name in versions
        },
        "seed": recipe.seed,
        "workload": recipe.plain["workload"],
        "arguments": json.loads(json.dumps(recipe.arguments, default=str)),
        "weights": weights_hash(workload.model),
        "training": training_fingerprint(workload.train),
        "export": asdict(recipe.export),
    }
