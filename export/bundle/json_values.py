"""Values out of a manifest's JSON: taken where they are of the kind that is meant, else refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Wrong(Exception):
    """What is wrong with a manifest, in words."""


_PLAIN: Mapping[str, type] = {
    "Mapping[str, Any]": dict,
    "Mapping[str, Any] | None": dict,
    "tuple[Mapping[str, Any], ...]": list,
    "Mapping[str, str]": dict,
    "str": str,
    "str | None": str,
    "int": int,
}


def typed(value: Any, kind: Any, others: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields of a dataclass from an object that has these keys and no others."""
    annotations = kind.__annotations__
    if not isinstance(value, dict) or value.keys() != annotations.keys():
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise Wrong(f"{kind.__name__} must have {', '.join(annotations)}, found {short(found)}")
    made = {}
    for name, annotation in annotations.items():
        found, optional = value[name], annotation.endswith(" | None")
        if others and name in others:
            made[name] = others[name](found)
        elif (optional and found is None) or is_kind(found, _PLAIN[annotation]):
            made[name] = tuple(found) if isinstance(found, list) else found
        else:
            raise Wrong(f"{name}: found {short(found)}, {annotation} is meant")
    return made


def is_kind(value: Any, kind: Any) -> bool:
    """JSON's true and false are no numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


def strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Wrong(f"found {short(value)}, a list of texts is meant")
    return tuple(value)


def short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 100 else text[:97] + "..."
