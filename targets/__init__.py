"""One folder per runtime. To add a target: write it, add its line to TARGETS, or register it from a distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from targets.base import FP32, Arrays, Engine, LayerTime, Needs, Profile, Scheme, Session, Target
from targets.registry import Registry, class_at

TARGETS: dict[str, str] = {
    "openvino": "targets.openvino:OpenVino",
    "onnxruntime_mobile": "targets.onnxruntime_mobile:OnnxRuntimeMobile",
    "tensorrt": "targets.tensorrt:TensorRt",
}
"""Recipe key -> the target's class. Classes import their runtime only where they use it."""

REFERENCE = "targets.torch_reference:TorchReference"
"""The original as torch runs it; a session like the others, but not something a recipe asks for."""


REGISTRY = Registry("target", TARGETS, Target, "name", reserved=("torch",), bare=True)
"""The targets of this toolkit and of other distributions."""


def target_class(name: str) -> type[Target]:
    """The class behind a recipe key, behind "torch", or behind a class path ("module:Class").

    A class path is for engines that the caller made, as studies and tests do; a name that was read from a file of
    unknown origin must be one of `REGISTRY.names()`. This toolkit's own are found without a look at other distributions.

    Raises:
        EnvironmentFailure: if another distribution's target cannot be used.
    """
    path = name if ":" in name else REFERENCE if name == "torch" else TARGETS.get(name)
    return cast("type[Target]", class_at(path) if path else REGISTRY.load(name))


def load(target: Target, engine: Engine, threads: int) -> Session:
    """A session on an engine, also on one of several parts."""
    return _joined(engine, {name: target.load(part, threads) for name, part in _parts(engine).items()})


def load_concurrent(target: Target, engine: Engine, threads: int) -> Sequence[Session]:
    """Sessions that may run at once, as `Target.load_concurrent` opens them, also on an engine of several parts."""
    lanes = {name: target.load_concurrent(part, threads) for name, part in _parts(engine).items()}
    return [_joined(engine, dict(zip(lanes, lane))) for lane in zip(*lanes.values())]


def _parts(engine: Engine) -> Mapping[str, Engine]:
    return engine.parts if engine.generation else {"": engine}


def _joined(engine: Engine, sessions: Mapping[str, Session]) -> Session:
    if engine.generation is None:
        return sessions[""]
    from targets.generation.session import GenerationSession

    return GenerationSession(sessions, engine.parts["decoder"].inputs, engine.generation)


__all__ = [
    "FP32",
    "REGISTRY",
    "TARGETS",
    "Arrays",
    "Engine",
    "LayerTime",
    "Needs",
    "Profile",
    "Scheme",
    "Session",
    "Target",
    "load",
    "load_concurrent",
    "target_class",
]
