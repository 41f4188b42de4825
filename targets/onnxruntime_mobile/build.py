"""The smallest ONNX Runtime that runs an .ort file: its operators and types, the command that builds it, about its size."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONFIG, COMMANDS = "required_operators_and_types.config", "build_onnxruntime.txt"

_REDUCED = (
    "--config MinSizeRel --minimal_build --disable_ml_ops --disable_exceptions --disable_rtti "
    f"--include_ops_by_config {CONFIG} --enable_reduced_operator_type_support --build_shared_lib --skip_tests --parallel"
)
_ANDROID_ABI = {"arm64": "arm64-v8a", "amd64": "x86_64"}

NO_OPERATORS_BYTES = 1_562_280
"""libonnxruntime.so for Android arm64, built as above without any operator (microsoft/onnxruntime pull 31691, September 2026)."""
PACKAGE_OPERATORS_BYTES = 3_200_000 - 1_306_224
"""What the operators of the package onnxruntime-mobile 1.13.1 took: its arm64 library (microsoft/onnxruntime pull 21605) without
what the build without operators might take then (BinarySizeThresholdInBytes in pull 13208)."""
PACKAGE_OPERATORS = 111
SOURCE = (
    "estimate, nothing was built: sizes that the ONNX Runtime project gives for Android arm64, without any operator (pull 31691) "
    f"and with the {PACKAGE_OPERATORS} of its former mobile package (pulls 21605, 13208); operators that were not in it come on top"
)


def minimal_build(models: Sequence[Path], families: Sequence[str], folder: Path) -> dict[str, Any]:
    """Write CONFIG and COMMANDS into `folder`; what the report tells of them.

    Args:
        models: .ort files; one build runs all of them.
        families: the processor families that they are for.
    """
    _write_config(models, folder / CONFIG)
    commands = _commands(families)
    (folder / COMMANDS).write_text(_in_words(models, commands), encoding="utf-8")
    return {
        "operators": _count_operators(folder / CONFIG),
        "library_at_least_bytes": NO_OPERATORS_BYTES,
        "library_at_most_bytes": NO_OPERATORS_BYTES + PACKAGE_OPERATORS_BYTES,
        "how_the_size_is_known": SOURCE,
        "commands": dict(commands),
        "files": [CONFIG, COMMANDS],
    }


def _commands(families: Sequence[str]) -> list[tuple[str, str]]:
    """Where each runs, and the line; Android first."""
    android = [
        (f"Android, {family}", f"./build.sh --android --android_abi {_ANDROID_ABI[family]} --android_api 29 {_REDUCED}")
        for family in families
        if family in _ANDROID_ABI
    ]
    return [*android, (f"Linux, on a machine of the same kind ({', '.join(families)})", f"./build.sh {_REDUCED}")]


def _in_words(models: Sequence[Path], commands: Sequence[tuple[str, str]]) -> str:
    import onnxruntime

    lines = [
        f"# An ONNX Runtime for {' and '.join(path.name for path in models)}, without anything else.",
        f"# In a clone: git clone --recursive --branch v{onnxruntime.__version__} https://github.com/microsoft/onnxruntime",
        f"# with {CONFIG} copied into it. For Android set ANDROID_HOME and ANDROID_NDK_HOME. --config Release",
        "# is quicker and larger. For NNAPI, CoreML or XNNPACK instead: --minimal_build extended with --use_nnapi, --use_coreml or",
        "# --use_xnnpack, and a model optimised no further than basic. Source: https://onnxruntime.ai/docs/build/custom.html",
    ]
    for where, command in commands:
        lines += ["", f"# {where}", command]
    return "\n".join([*lines, ""])


def _write_config(models: Sequence[Path], config: Path) -> None:
    """What `build.py --include_ops_by_config` of ONNX Runtime takes; without the paths of this machine."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
    create_config_from_models(list(models), config, enable_type_reduction=True)
    lines = [line for line in config.read_text().splitlines() if not line.startswith("#")]
    names = " and ".join(path.name for path in models)
    config.write_text("\n".join([f"# Operators and types of {names}", *lines, ""]))


def _count_operators(config: Path) -> int:
    """Distinct operators, whatever their opset."""
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    required, _ = parse_config(str(config), enable_type_reduction=True)
    return len({(domain, name) for domain, opsets in required.items() for names in opsets.values() for name in names})
