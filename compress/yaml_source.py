"""YAML text -> plain values, each with the line it stands on; nothing but plain values gets through.

PyYAML composes the nodes; we build the values ourselves so that every value keeps its line, a repeated key is an
error instead of a silent overwrite, and neither a tag nor a bomb of aliases can reach the recipe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from export.errors import InputError, SecurityError

Place = tuple[str | int, ...]
"""Where a value stands: ("steps", 0, "prune", "ratio")."""

MAX_ALIASES = 32
MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number (YAML 1.2) and dates as text."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.\d*([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.\d+([eE][-+]?\d+)?|\.(inf|Inf|INF|nan|NaN|NAN))$"),
    list("-+.0123456789"),
)
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge", "value")
}


@dataclass(frozen=True)
class YamlSource:
    """Plain values and, for each place, the line it stands on (or the `--set` that put it there)."""

    name: str
    value: Any
    lines: dict[Place, str] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """`recipe.yaml:7`, for the nearest known place at or above `place`."""
        for length in range(len(place), -1, -1):
            if place[:length] in self.lines:
                return self.lines[place[:length]]
        return self.name


def read_yaml(path: Path) -> YamlSource:
    """Read a YAML file of plain values.

    Raises:
        InputError: if it is missing, too large, not text, not YAML, or repeats a key.
        SecurityError: if it holds a tag or more aliases than a person would write.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the recipe: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: {len(raw)} bytes; a recipe has at most {MAX_BYTES}")
    try:
        return parse_yaml(raw.decode("utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: not UTF-8 text (byte {error.start}); save the recipe as UTF-8") from error


def parse_yaml(text: str, name: str) -> YamlSource:
    """Like `read_yaml`, for text; `name` stands in the messages."""
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader))
        if aliases > MAX_ALIASES:
            raise SecurityError(
                f"{name}: {aliases} YAML aliases; a recipe may hold {MAX_ALIASES}. Write the values out"
            )
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{name}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML: {error}") from error
    source = YamlSource(name, None)
    value = None if root is None else _build(root, (), source)
    return YamlSource(name, value, source.lines)


def override(source: YamlSource, assignments: Sequence[str]) -> YamlSource:
    """The source with `--set steps.0.prune.speedup=2.5` applied; the value is read as YAML, `null` removes the key.

    Raises:
        InputError: if an assignment has no '=', or its path leads through something that is not there.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise InputError(f"--set {assignment}: expected PATH=VALUE, for example steps.0.prune.speedup=2.5")
        parsed = parse_yaml(text, f"--set {assignment}").value
        place = tuple(int(part) if part.isdigit() else part for part in path.split("."))
        _assign(source, place, parsed, assignment)
    return source


def _assign(source: YamlSource, place: Place, value: Any, assignment: str) -> None:
    holder = source.value
    for depth, part in enumerate(place[:-1]):
        if isinstance(holder, dict) and isinstance(part, str):
            holder = holder.setdefault(part, {})
            if holder is None:
                raise InputError(f"--set {assignment}: {spell(place[: depth + 1])} is empty in {source.name}")
        else:
            holder = _element(source, holder, place[: depth + 1], assignment)
    last = place[-1]
    if isinstance(holder, dict) and isinstance(last, str):
        if value is None:
            holder.pop(last, None)
        else:
            holder[last] = value
    else:
        _element(source, holder, place, assignment)
        holder[last] = value
    source.lines[place] = f"--set {assignment}"


def _element(source: YamlSource, holder: Any, place: Place, assignment: str) -> Any:
    part = place[-1]
    if isinstance(holder, list) and isinstance(part, int) and part < len(holder):
        return holder[part]
    found = f"a list of {len(holder)}" if isinstance(holder, list) else f"{holder!r}"
    raise InputError(f"--set {assignment}: {source.name} has no {spell(place)}; found {found} there")


def spell(place: Place) -> str:
    """("steps", 0, "prune") -> `steps[0].prune`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "top level"


def _build(node: yaml.Node, place: Place, source: YamlSource) -> Any:
    line = f"{source.name}:{node.start_mark.line + 1}"
    source.lines.setdefault(place, line)
    if node.tag not in _PLAIN_TAGS:
        raise SecurityError(
            f"{line}: {spell(place)}: YAML tag '{node.tag}' refused; a recipe holds plain values only. Remove the tag"
        )
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, place, source)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*place, index), source) for index, item in enumerate(node.value)]
    return _scalar(node, line, place)


def _build_mapping(node: yaml.MappingNode, place: Place, source: YamlSource) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = f"{source.name}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise InputError(f"{line}: {spell(place)}: a key must be a word")
        key = str(key_node.value)
        if key == "<<":
            raise InputError(f"{line}: {spell(place)}: YAML merge keys are not supported; write the values out")
        if key in built:
            raise InputError(f"{line}: {spell(place)}: key '{key}' stands twice; keep one")
        source.lines[(*place, key)] = line
        built[key] = _build(value_node, (*place, key), source)
    return built


def _scalar(node: yaml.Node, line: str, place: Place) -> Any:
    try:
        value = _Loader("").construct_object(node)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"{line}: {spell(place)}: {node.value!r} is not a valid {node.tag.rpartition(':')[2]}"
        ) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{line}: {spell(place)}: found {node.value}; a finite number is needed")
    return value
