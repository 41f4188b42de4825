"""Recipe: the user's YAML as typed values. Every mistake in it is found at once, each with its line."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from compress import ready, step
from compress.ready import ReadyWorkload
from compress.recipe_settings import Benchmark, Budget, Export, require
from compress.step import Step
from compress.yaml_source import Place, YamlSource, override, read_yaml, spell
from export.errors import EnvironmentFailure, InputError
from targets import REGISTRY, Target
from targets.registry import Registry

if TYPE_CHECKING:
    from compress.quantize import Quantize


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. `steps` are the torch steps in order; `quantize` is None where the recipe has no such step.

    `workload` is FILE.py:FUNCTION, or the options of a ready-made one.
    """

    path: Path
    name: str
    workload: str | ReadyWorkload
    arguments: Mapping[str, Any]
    seed: int
    steps: tuple[Step, ...]
    quantize: Quantize | None
    export: Export
    targets: tuple[Target, ...]
    benchmark: Benchmark
    budget: Budget
    source: YamlSource

    @property
    def plain(self) -> Mapping[str, Any]:
        """The recipe as plain values, `--set` applied: what the report keeps."""
        return cast("Mapping[str, Any]", self.source.value)

    def where(self, place: Place) -> str:
        """`recipe.yaml:4: workload.image_folder.root`, to stand in front of a message."""
        return f"{self.source.where(place)}: {spell(place)}"


@dataclass(frozen=True)
class Top:
    """The recipe's top level; steps, targets and a ready-made workload are looked into one by one."""

    name: str
    workload: Any
    steps: list[Any]
    targets: list[Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    export: Any = None
    benchmark: Any = None
    budget: Any = None

    def __post_init__(self) -> None:
        require(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name) is not None,
            f"name must be letters, digits, '.', '_' or '-' (it names the run's folder), found {self.name!r}",
        )
        require(
            isinstance(self.workload, dict) or (isinstance(self.workload, str) and ":" in self.workload),
            f"workload must be FILE.py:FUNCTION or MODULE:FUNCTION, found {self.workload!r}; or one of "
            f"{', '.join(ready.REGISTRY.names())} with its options",
        )
        require(0 <= self.seed < 2**31, f"seed must be from 0 to 2147483647, found {self.seed}")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: one message that lists every mistake found, a line each.
        SecurityError: if the YAML holds a tag or a bomb of aliases.
        EnvironmentFailure: if it names a step or target of another distribution that cannot be used.
    """
    source = override(read_yaml(path), overrides)
    if not isinstance(source.value, dict):
        found = "nothing" if source.value is None else f"a {type(source.value).__name__}"
        raise InputError(
            f"{source.name}: a recipe is a mapping with at least name, workload, steps, targets; found {found}"
        )
    problems: list[str] = []
    top = _check(Top, source.value, (), source, problems)
    workload = _workload(source, problems)
    steps = _choices(source.value.get("steps"), "steps", step.REGISTRY, source, problems)
    targets = _choices(source.value.get("targets"), "targets", REGISTRY, source, problems)
    settings = {
        key: _check(kind, source.value.get(key) or {}, (key,), source, problems)
        for key, kind in (("export", Export), ("benchmark", Benchmark), ("budget", Budget))
    }
    problems += _misplaced(source)
    if problems:
        raise InputError("\n".join(problems))
    assert isinstance(top, Top)
    quantizers = [each for each in steps if each.kind == "quantize"]
    return Recipe(
        path=path,
        name=top.name,
        workload=workload,
        arguments=top.arguments,
        seed=top.seed,
        steps=tuple(each for each in steps if each.kind != "quantize"),
        quantize=cast("Quantize", quantizers[0]) if quantizers else None,
        targets=tuple(targets),
        source=source,
        **settings,
    )


def strict(kind: Any) -> Any:
    """The dataclass with unknown keys and silent conversions refused."""
    return validated(config=ConfigDict(extra="forbid", strict=True), frozen=True)(kind)


def usable(registry: Registry, name: str) -> type[Any]:
    """The class behind a key, whose fields can be YAML keys.

    Raises:
        EnvironmentFailure: if it is another distribution's, and cannot be used.
    """
    kind = registry.load(name)
    if name in registry.builtin:
        return kind
    try:
        TypeAdapter(strict(kind)).json_schema()
    except Exception as error:  # the annotations of another's class are evaluated
        reason = str(error).partition("\n")[0]
        raise EnvironmentFailure(f"{registry.kind} '{name}': a field of it cannot be a YAML key: {reason}") from error
    return kind


def _check(kind: type[Any], value: Any, place: Place, source: YamlSource, problems: list[str]) -> Any:
    """`value` as an instance of `kind`, or None with what is wrong added to `problems`."""
    try:
        return TypeAdapter(strict(kind)).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        problems += [_sentence(kind, dict(found), place, source) for found in error.errors()]
        return None


def _sentence(kind: type[Any], error: dict[str, Any], place: Place, source: YamlSource) -> str:
    inner = tuple(part for part in error["loc"] if not isinstance(part, str) or "[" not in part)
    unknown_key = error["type"] == "unexpected_keyword_argument"
    known = _known_keys(kind, inner[:-1] if unknown_key else inner)
    if unknown_key:
        where, key = source.where((*place, *inner)), str(inner[-1])
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"{where}: {spell((*place, *inner[:-1]))}: unknown key '{key}'; known: {', '.join(known)}.{hint}"
    where, at = source.where((*place, *inner)), spell((*place, *inner))
    if error["type"] in ("missing", "missing_argument"):
        return f"{source.where(place)}: {spell(place)}: '{inner[-1]}' is missing; add it"
    if error["type"] == "value_error":
        return f"{where}: {at}: {error['ctx']['error']}"
    if error["type"] in ("dataclass_type", "dataclass_exact_type"):
        return f"{where}: {at}: expected keys ({', '.join(known)}), found {error['input']!r}"
    allowed = str(error["msg"]).replace("Input should be", "must be")
    return f"{where}: {at}: {allowed}, found {error['input']!r}"


def _known_keys(kind: type[Any], path: Place) -> list[str]:
    """The keys at a place within a class of settings; those of the innermost class on the way there."""
    for part in path:
        declared = get_type_hints(kind).get(str(part))
        within = [each for each in (declared, *get_args(declared)) if dataclasses.is_dataclass(each)]
        kind = cast("type[Any]", within[0]) if within else kind
    return sorted(entry.name for entry in dataclasses.fields(kind))


def _workload(source: YamlSource, problems: list[str]) -> Any:
    """FILE.py:FUNCTION as it stands, or the options of a ready-made workload."""
    value = source.value.get("workload")
    if isinstance(value, dict):
        return _choice(value, ("workload",), ready.REGISTRY, source, problems)
    return value


def _choices(items: Any, key: str, registry: Registry, source: YamlSource, problems: list[str]) -> list[Any]:
    """Each item of a list of `name: {fields}` (or just `name`) as an instance of its class."""
    found = [
        _choice(item, (key, index), registry, source, problems)
        for index, item in enumerate(items if isinstance(items, list) else [])
    ]
    return [item for item in found if item is not None]


def _choice(item: Any, place: Place, registry: Registry, source: YamlSource, problems: list[str]) -> Any:
    """`name: {fields}`, or just `name`, as an instance of its class; None with what is wrong added to `problems`."""
    known = registry.names()
    entry = {item: {}} if isinstance(item, str) else item
    if not isinstance(entry, dict) or len(entry) != 1:
        problems.append(f"{source.where(place)}: {spell(place)}: expected one of {', '.join(known)}, found {item!r}")
        return None
    [(name, fields)] = entry.items()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        problems.append(
            f"{source.where((*place, name))}: {spell(place)}: unknown '{name}'; known: {', '.join(known)}.{hint}"
        )
        return None
    return _check(usable(registry, name), {} if fields is None else fields, (*place, name), source, problems)


def _misplaced(source: YamlSource) -> list[str]:
    """What is wrong with the order and number of steps and targets."""
    problems = []
    steps, targets = _names(source.value.get("steps")), _names(source.value.get("targets"))
    if source.value.get("targets") == []:
        problems.append(
            f"{source.where(('targets',))}: targets: is empty; name at least one of {', '.join(REGISTRY.names())}"
        )
    for index, name in enumerate(steps[:-1]):
        if name == "quantize":
            problems.append(
                f"{source.where(('steps', index))}: steps[{index}]: quantize must be the last step and stand once "
                "(it works on the exported model); move it to the end"
            )
    for index, name in enumerate(targets):
        if name in targets[:index]:
            problems.append(f"{source.where(('targets', index))}: targets[{index}]: {name} stands twice; keep one")
    return problems


def _names(items: Any) -> list[str]:
    """The name of each item of a list of steps or targets, as far as it has one."""
    entries = items if isinstance(items, list) else []
    return [str(next(iter(item))) if isinstance(item, dict) and item else str(item) for item in entries]
