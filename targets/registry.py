"""What a recipe may name: the classes of this toolkit, and those that other distributions register by entry points.

Nothing of another distribution is imported before it is used. Runs on Python 3.9, and inside a runner.pyz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from export.errors import EnvironmentFailure

if TYPE_CHECKING:
    from importlib.metadata import Distribution

GUIDE = "docs/extending.md tells how"
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Registration:
    """One line of a distribution's entry points: a key of a recipe, "module:Class", and whose it is ("acme", "1.0")."""

    name: str
    path: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Registry:
    """The targets, or the steps, by the keys of a recipe.

    Args:
        kind: "target" or "step"; other distributions register theirs in the group `edge_compress.<kind>s`.
        builtin: key -> "module:Class", of this toolkit. No other distribution can take such a key.
        protocol: what each class must have.
        identity: the class variable that holds its key.
        reserved: other keys that nobody can take.
        bare: whether each class must be made without any field.
    """

    kind: str
    builtin: Mapping[str, str]
    protocol: type
    identity: str
    reserved: tuple[str, ...] = ()
    bare: bool = False

    @property
    def group(self) -> str:
        return f"edge_compress.{self.kind}s"

    def names(self) -> list[str]:
        """The keys of a recipe: this toolkit's, then those of other distributions."""
        others = {each.name for each in registrations(self.group) if _KEY.fullmatch(each.name)}
        return [*self.builtin, *sorted(others.difference(self.builtin, self.reserved))]

    def registered(self, name: str) -> Registration | None:
        """Who registers a key; None where it is this toolkit's own.

        Raises:
            EnvironmentFailure: if more than one distribution has it, or nobody may.
        """
        claims = [each for each in registrations(self.group) if each.name == name]
        if claims and (name in self.builtin or name in self.reserved):
            raise EnvironmentFailure(
                f"{self.kind} '{name}' is registered by {claims[0].origin}, but it is edge-compress's own; uninstall "
                f"{claims[0].distribution}, or have it register another name"
            )
        if len(claims) > 1:
            origins = " and by ".join(each.origin for each in claims)
            raise EnvironmentFailure(f"{self.kind} '{name}' is registered by {origins}; uninstall all but one of them")
        return claims[0] if claims else None

    def load(self, name: str) -> type[Any]:
        """The class behind one of `names`.

        Raises:
            EnvironmentFailure: if another distribution's class cannot be imported or used, or its key is taken.
        """
        found = self.registered(name)
        if found is None:
            return class_at(self.builtin[name])
        where = f"{self.kind} '{name}' of {found.origin} ({found.path})"
        try:
            kind = class_at(found.path)
        except Exception as error:  # the boundary to another's code
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise EnvironmentFailure(
                f"{where} cannot be imported: {reason}; mend or uninstall {found.distribution}"
            ) from error
        if wrong := self._wrong(kind, name):
            raise EnvironmentFailure(f"{where} {wrong}; {GUIDE}")
        return kind

    def _wrong(self, kind: Any, name: str) -> str | None:
        """Why a class cannot be used; None if it can."""
        if not _KEY.fullmatch(name):
            return "has a name that no recipe can hold; letters, digits and '_' are allowed"
        if not isinstance(kind, type) or not is_dataclass(kind) or not _frozen(kind):
            return "is not a frozen dataclass"
        missing = [member for member in _members(self.protocol) if not hasattr(kind, member)]
        if missing:
            return f"lacks {', '.join(missing)}"
        if getattr(kind, self.identity) != name:
            return f"calls itself '{getattr(kind, self.identity)}', its entry point '{name}'"
        needed = [
            field.name
            for field in fields(kind)
            if field.init and field.default is MISSING and field.default_factory is MISSING
        ]
        if self.bare and needed:
            return f"has no default for {', '.join(needed)}, and engines are loaded without a recipe"
        return None


def class_at(path: str) -> type[Any]:
    """The class at "module:Class"."""
    module, _, attribute = path.partition(":")
    kind: type[Any] = getattr(import_module(module), attribute)
    return kind


def registrations(group: str) -> tuple[Registration, ...]:
    """All that the distributions on sys.path register in a group, in the order of names; reads text, imports nothing.

    Where two versions of one distribution are on the path, the first counts, as it does for an import.
    """
    from importlib import metadata

    found: dict[str, list[Registration]] = {}
    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt") or ""
        if f"[{group}]" in text:
            name, version = _identity(distribution)
            key = re.sub(r"[-_.]+", "-", name).lower()
            found.setdefault(key, [Registration(*line, name, version) for line in _lines(text, group)])
    return tuple(sorted((each for some in found.values() for each in some), key=lambda each: (each.name, each.origin)))


def _identity(distribution: Distribution) -> tuple[str, str]:
    headers = distribution.metadata
    return str(headers["Name"] or "a distribution without a name"), str(headers["Version"] or "without a version")


def _lines(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Name and value of each entry point of a group; a line that is none has an empty value.

    Not by `importlib.metadata`, whose readers differ between Python 3.9 and 3.13 and raise on a line that they cannot read.
    """
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#") and section == f"[{group}]":
            name, _, value = line.partition("=")
            yield name.strip(), value.partition("[")[0].strip()


def _frozen(kind: type) -> bool:
    return bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]


def _members(protocol: type) -> list[str]:
    return [name for name in (*protocol.__annotations__, *vars(protocol)) if not name.startswith("_")]
