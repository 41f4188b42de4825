"""What a user's models are called, hold and do stays on the machine: the runtimes' reports to their vendors are switched off.

ONNX Runtime 1.29 and later sends names and hashes of models and times of calls to its vendor unless a variable says
otherwise (github.com/microsoft/onnxruntime/pull/27379); OpenVINO and NNCF each tell theirs of being imported and used. All of
that is settled at their import. So `export` switches it off at its own, and all packages of this toolkit import it first.
"""

from __future__ import annotations

import os
import sys

VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}
REPORTER = "openvino_telemetry"
"""What OpenVINO reports with where it is installed; it goes without where that cannot be imported."""


def report_to_nobody() -> None:
    """Switch off what runtimes that are imported from now on, here and in child processes, tell their vendors."""
    os.environ.update(VARIABLES)
    if REPORTER not in sys.modules:
        sys.modules[REPORTER] = None  # type: ignore[assignment]  # importlib's way to say that a module is not there
