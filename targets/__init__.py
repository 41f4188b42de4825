"""One file per runtime. To add a target: write its file, add its line to TARGETS."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from targets.base import FP32, Arrays, Engine, Scheme, Session, Target

TARGETS: dict[str, str] = {
    "openvino": "targets.openvino:OpenVino",
    "onnxruntime_mobile": "targets.onnxruntime_mobile:OnnxRuntimeMobile",
    "tensorrt": "targets.tensorrt:TensorRt",
}
"""Recipe key -> the target's class. Classes import their runtime only where they use it."""

REFERENCE = "targets.torch_reference:TorchReference"
"""The original as torch runs it; a session like the others, but not something a recipe asks for."""


def target_class(name: str) -> type[Target]:
    """The class behind a recipe key of TARGETS, or behind "torch"."""
    module, _, attribute = (REFERENCE if name == "torch" else TARGETS[name]).partition(":")
    return cast(type[Target], getattr(import_module(module), attribute))


__all__ = ["FP32", "TARGETS", "Arrays", "Engine", "Scheme", "Session", "Target", "target_class"]
