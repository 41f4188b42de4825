"""One file per runtime. To add a target: write its file, add its line to TARGETS."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from targets.base import FP32, Arrays, Engine, LayerTime, Profile, Scheme, Session, Target

TARGETS: dict[str, str] = {
    "openvino": "targets.openvino:OpenVino",
    "onnxruntime_mobile": "targets.onnxruntime_mobile:OnnxRuntimeMobile",
    "tensorrt": "targets.tensorrt:TensorRt",
}
"""Recipe key -> the target's class. Classes import their runtime only where they use it."""

REFERENCE = "targets.torch_reference:TorchReference"
"""The original as torch runs it; a session like the others, but not something a recipe asks for."""


def target_class(name: str) -> type[Target]:
    """The class behind a recipe key of TARGETS, behind "torch", or behind a class path ("module:Class").

    A class path is for engines that the caller made, as studies and tests do; a name that was read from a file of
    unknown origin must be checked against TARGETS first.
    """
    path = name if ":" in name else REFERENCE if name == "torch" else TARGETS[name]
    module, _, attribute = path.partition(":")
    return cast(type[Target], getattr(import_module(module), attribute))


__all__ = [
    "FP32",
    "TARGETS",
    "Arrays",
    "Engine",
    "LayerTime",
    "Profile",
    "Scheme",
    "Session",
    "Target",
    "target_class",
]
