"""What this machine is: enough to tell whether two measurements may be compared."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from targets.isa import instruction_sets

LIBRARIES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "tensorrt",
    "tensorrt-rtx",
    "transformers",
    "numpy",
)
"""Distributions that touch the model or the measurement."""


def fingerprint() -> dict[str, Any]:
    """CPU, instruction sets, cores this process may use, memory and system. Holds no host or user name."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "instruction_sets": sorted(instruction_sets()),
        "cores": usable,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def library_versions() -> dict[str, str]:
    """Versions of the installed ones of LIBRARIES."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cpu_model() -> str:
    """The processor's name; on Linux with family and model, since clouds hide the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[:60])}
    if "model name" not in found:
        return platform.processor() or platform.machine()
    return f"{found['model name']} (family {found.get('cpu family', '?')}, model {found.get('model', '?')})"
