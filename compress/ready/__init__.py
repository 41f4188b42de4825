"""Workloads that need no Python of the user's: what a recipe names where FILE.py:FUNCTION may stand, with options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from compress.workload import Workload
from export.errors import InputError
from targets.registry import Registry

WORKLOADS: dict[str, str] = {
    "image_folder": "compress.ready.image_folder:ImageFolder",
    "text_csv": "compress.ready.text_csv:TextCsv",
    "huggingface": "compress.ready.huggingface:HuggingFace",
}
"""Recipe key -> the class of its options."""

PLACEHOLDER = "PATH-OF-YOUR-DATA"
"""What `compress init --model` writes where no data were named."""


@dataclass(frozen=True)
class ReadyContext:
    """What a ready-made workload is told of the recipe that it stands in.

    Args:
        folder: of the recipe; paths in the options are relative to it.
        seed: of the recipe; what is held out of the data depends on it.
        arguments: of the recipe; they go to the function that `model` names.
        where: the file, line and key of an option, or without one of the workload, to stand in front of a message.
    """

    folder: Path
    seed: int
    arguments: Mapping[str, Any]
    where: Callable[..., str]

    def refusal(self, option: str, sentence: str) -> InputError:
        """An error that says where the option stands."""
        return InputError(f"{self.where(option)}: {sentence}")

    def existing(self, option: str, value: str, wanted: str) -> Path:
        """The path that an option names.

        Args:
            wanted: what must be there, in words.

        Raises:
            InputError: if nothing is there, or the option still is the placeholder of `compress init`.
        """
        if value == PLACEHOLDER:
            raise self.refusal(option, f"is still the placeholder of compress init; name {wanted}")
        path = self.folder / value
        if not path.exists():
            raise self.refusal(option, f"there is no '{value}' (relative to the recipe); name {wanted}")
        return path


class ReadyWorkload(Protocol):
    """Options of a recipe that make a workload: a frozen dataclass whose fields are the YAML keys."""

    kind: ClassVar[str]

    def build(self, context: ReadyContext) -> Workload:
        """The workload.

        Raises:
            InputError: if model or data are missing or do not fit; says which option is to be mended.
        """


REGISTRY = Registry("workload", WORKLOADS, ReadyWorkload, "kind")
