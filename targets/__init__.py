"""One file per runtime. To add a target: write its file, add its line to TARGETS, or register it from a distribution."""

from __future__ import annotations

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
    "target_class",
]
