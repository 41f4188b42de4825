"""edge-compress: a trained PyTorch model and a recipe in, measured artifacts for edge devices out.

The names below are imported when they are first used, so that `import compress` and `compress --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from benchmarks.metrics import F1, Accuracy, Metric, TopK
    from benchmarks.preprocessing import ImagePreprocessing, TextPreprocessing
    from benchmarks.report import Report
    from compress.checkpoint import load_weights
    from compress.pipeline import run
    from compress.workload import Batches, TensorBatches, Workload
    from export.errors import CompressError

_PLACES = {
    "Accuracy": "benchmarks.metrics",
    "Batches": "compress.workload",
    "CompressError": "export.errors",
    "F1": "benchmarks.metrics",
    "ImagePreprocessing": "benchmarks.preprocessing",
    "Metric": "benchmarks.metrics",
    "Report": "benchmarks.report",
    "TensorBatches": "compress.workload",
    "TextPreprocessing": "benchmarks.preprocessing",
    "TopK": "benchmarks.metrics",
    "Workload": "compress.workload",
    "load_weights": "compress.checkpoint",
    "run": "compress.pipeline",
}

__all__ = [
    "F1",
    "Accuracy",
    "Batches",
    "CompressError",
    "ImagePreprocessing",
    "Metric",
    "Report",
    "TensorBatches",
    "TextPreprocessing",
    "TopK",
    "Workload",
    "__version__",
    "load_weights",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'compress' has no attribute '{name}'")
