"""The recipe's JSON Schema, for editors."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from compress import ready, step
from compress.recipe import Top, strict, usable
from compress.recipe_settings import Benchmark, Budget, Export
from export.errors import EnvironmentFailure
from targets import REGISTRY
from targets.registry import Registry


def recipe_schema() -> dict[str, Any]:
    """Draft 2020-12; holds the steps and targets of other distributions as well."""
    schema = TypeAdapter(strict(Top)).json_schema()
    schema["title"] = "edge-compress recipe"
    nested: dict[str, Any] = {}
    for key, kind in (("export", Export), ("benchmark", Benchmark), ("budget", Budget)):
        schema["properties"][key] = _inline_schema(kind, nested)
    for key, registry in (("steps", step.REGISTRY), ("targets", REGISTRY)):
        choices = _choices(registry, nested)
        schema["properties"][key] = {"type": "array", "items": {"anyOf": [*choices, {"enum": registry.names()}]}}
    function = {"type": "string", "pattern": ":", "description": "FILE.py:FUNCTION or MODULE:FUNCTION"}
    schema["properties"]["workload"] = {"anyOf": [function, *_choices(ready.REGISTRY, nested)]}
    schema["properties"]["targets"]["minItems"] = 1
    if nested:
        schema["$defs"] = nested
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _choices(registry: Registry, nested: dict[str, Any]) -> list[dict[str, Any]]:
    """`name: {fields}` for each name that the registry knows."""
    return [
        {
            "type": "object",
            "properties": {name: _class_schema(registry, name, nested)},
            "required": [name],
            "additionalProperties": False,
        }
        for name in registry.names()
    ]


def _class_schema(registry: Registry, name: str, nested: dict[str, Any]) -> dict[str, Any]:
    """The schema of a step or target; of one that cannot be used, which nothing satisfies, it says why."""
    try:
        return _inline_schema(usable(registry, name), nested)
    except EnvironmentFailure as error:
        return {"not": {}, "description": str(error)}


def _inline_schema(kind: type[Any], nested: dict[str, Any]) -> dict[str, Any]:
    """The schema of a class of settings; those within it go to `nested`, where its references look."""
    schema = TypeAdapter(strict(kind)).json_schema()
    nested.update(schema.pop("$defs", {}))
    for name, told in _told_of_fields(kind).items():
        schema.get("properties", {}).get(name, {})["description"] = told
    return schema | {"description": (kind.__doc__ or "").strip().partition("\n\n")[0]}


def _told_of_fields(kind: type[Any]) -> dict[str, str]:
    """The string under each field of a class, in one line; empty where its source is not at hand."""
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(told.value.value.split())
        for field, told in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant) and isinstance(told.value.value, str)
    }
