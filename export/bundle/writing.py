"""What the manifest of a model that writes holds besides: its engine's parts, how they write, answers token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.bundle.json_values import Wrong, is_kind, short
from export.bundle.manifest import Manifest, plain_engine

ANSWERS = ("tokens", "likeliest", "logits", "log_sum")
"""Golden arrays of an answer; see `benchmarks.device.written`."""
JUDGED = "logits"
"""What has a tolerance: `logits` and `log_sum` are held to it, and `tokens` by it."""

MOST_TOKENS, MOST_BEAMS = 1 << 16, 1 << 8
"""What a bundle may ask for: a device has little memory and no patience."""

_TOKEN = (int, -1, 1 << 31)
_GENERATION: Mapping[str, tuple[Any, float, float]] = {
    "end": _TOKEN,
    "padding": _TOKEN,
    "start": _TOKEN,
    "new_tokens": (int, 1, MOST_TOKENS),
    "beams": (int, 1, MOST_BEAMS),
    "length_penalty": ((int, float), -16, 16),
    "temperature": ((int, float), 0, 1e6),
    "top_k": (int, 0, 1 << 31),
    "seed": (int, 0, 1 << 63),
}
"""Fields of `targets.generation.Generation` that are numbers: kind, least and most."""


def engine(value: Any) -> Mapping[str, Any]:
    """The engine of a model that writes, its parts checked as engines of their own.

    Raises:
        Wrong: if it is none.
    """
    if not isinstance(value, dict):
        raise Wrong(f"engine: found {short(value)}, an object is meant")
    own = dict(value)
    parts, generation = own.pop("parts", None), own.pop("generation", None)
    plain_engine(own)
    if not isinstance(parts, dict) or set(parts) not in ({"decoder"}, {"decoder", "encoder"}):
        raise Wrong(f"engine.parts: found {short(parts)}, a decoder is meant, with an encoder or without")
    for part in parts.values():
        if plain_engine(part)["target"] != own["target"]:
            raise Wrong(
                f"engine.parts: found one for {short(part['target'])}, the engine is for {short(own['target'])}"
            )
    if own["path"] != parts["decoder"]["path"] or sorted(own["files"]) != sorted(
        file for part in parts.values() for file in part["files"]
    ):
        raise Wrong("engine: its path and files are not those of its parts")
    _check_generation(generation, "encoder" in parts)
    return value


def check_answers(manifest: Manifest) -> None:
    """As for other models: a test that leaves out samples, inputs or answers would be passed by anything.

    Raises:
        Wrong: if it does, or the manifest does not say how many tokens are timed.
    """
    asked = {spec["name"] for spec in manifest.engine["inputs"]}
    if not asked or not manifest.golden.groups:
        raise Wrong("golden: it holds no prompts")
    for group in manifest.golden.groups:
        inputs = set(group.inputs)
        if group.samples < 1 or not asked - {"padding"} <= inputs <= asked or set(group.outputs) != set(ANSWERS):
            raise Wrong(f"golden: found {short(group)}, prompts with {', '.join(ANSWERS)} of each answer are meant")
    if set(manifest.golden.tolerance) != {JUDGED}:
        raise Wrong(f"golden: found {short(manifest.golden.tolerance)}, a tolerance of '{JUDGED}' is meant")
    told = manifest.postprocessing or {}
    if not _in(told.get("timed_tokens"), (int, 1, MOST_TOKENS)):
        raise Wrong(f"postprocessing: found {short(told)}, timed_tokens from 1 to {MOST_TOKENS} is meant")


def _check_generation(value: Any, encodes: bool) -> None:
    if not isinstance(value, dict) or value.keys() != {*_GENERATION, "stops", "mode"}:
        raise Wrong(
            f"engine.generation: found {short(value)}, an object with {', '.join(_GENERATION)}, stops, mode is meant"
        )
    for name, allowed in _GENERATION.items():
        absent = name == "start" and value[name] is None and not encodes
        if not absent and not _in(value[name], allowed):
            raise Wrong(
                f"engine.generation.{name}: found {short(value[name])}, a number from {allowed[1]} to {allowed[2]} is meant"
            )
    if (
        not isinstance(value["stops"], bool)
        or value["mode"] != "write"
        or (value["beams"] > 1 and value["temperature"])
    ):
        raise Wrong(f"engine.generation: found {short(value)}, no such way of writing is known")


def _in(value: Any, allowed: tuple[Any, float, float]) -> bool:
    kind, least, most = allowed
    return bool(is_kind(value, kind) and least <= value <= most)
